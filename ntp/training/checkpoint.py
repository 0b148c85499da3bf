"""When a run writes checkpoints."""

import math
import time
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import Checkpoint as LightningCheckpoint
from lightning.pytorch.plugins.io import AsyncCheckpointIO, CheckpointIO

from ntp.config.types import PositiveFloat, PositiveInt
from ntp.training.checkpoint_store import CheckpointStore, CheckpointWriter

CHECKPOINTS = "checkpoints"


class Checkpoint(LightningCheckpoint):
    """Keeps the newest and the best states of the run under ``checkpoints/``.

    A checkpoint is written after each validation, unless ``every_steps`` or ``every_minutes`` says otherwise; then also
    when a validation is the best so far, at the end, and when the run is asked to stop.

    Args:
        every_steps: optimizer steps between checkpoints.
        every_minutes: minutes between checkpoints, at the next optimizer step.
        keep_last: how many of the newest are kept; with two a damaged one does no harm.
        keep_best: how many are kept by validation loss.
        asynchronous: write in a thread, from a copy, while training goes on. It takes memory for the copy.
        directory: where; the run's ``checkpoints`` when absent.
    """

    def __init__(
        self,
        every_steps: PositiveInt | None = None,
        every_minutes: PositiveFloat | None = None,
        keep_last: PositiveInt = 2,
        keep_best: PositiveInt = 1,
        asynchronous: bool = False,
        directory: str | None = None,
    ) -> None:
        self.every_steps, self.every_minutes = every_steps, every_minutes
        self.asynchronous = asynchronous
        self.directory = directory
        self.store = CheckpointStore(Path(directory or CHECKPOINTS), keep_last, keep_best)
        self.best_loss = float("inf")
        self.save_seconds = 0.0  # of the longest
        self._saved_step = -1
        self._saved_time = time.monotonic()

    def plugin(self, run_directory: Path) -> CheckpointIO:
        """What makes Lightning write this run's checkpoints."""
        if self.directory is None:
            self.store.directory = run_directory / CHECKPOINTS
        writer = CheckpointWriter(self.store)
        return AsyncCheckpointIO(writer) if self.asynchronous else writer

    @property
    def _periodic(self) -> bool:
        return self.every_steps is not None or self.every_minutes is not None

    def _due(self, module: Any, step: int) -> bool:
        return bool(self.every_steps and step % self.every_steps == 0) or module.agreed["checkpoint"] > 0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Start the clock."""
        self._saved_time = time.monotonic()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        """Say that it is time; all devices must agree on the step."""
        if self.every_minutes is not None and trainer.is_global_zero:
            due = time.monotonic() - self._saved_time >= self.every_minutes * 60
            pl_module.requests["checkpoint"] = float(due)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save when it is time, at the boundary of an optimizer step."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        step = trainer.global_step
        # One state, one file: where a validation follows, the file should know its result.
        # And a state that gives no finite loss should not push out one that does.
        if self._due(pl_module, step) and not pl_module.validation_due(step) and not pl_module.agreed["skip"]:
            self.save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Compare the run's fixed validation rows; the larger final validation is not comparable with them."""
        loss, step = pl_module.validation_loss, trainer.global_step
        if trainer.state.fn != "fit":
            if loss is not None and trainer.is_global_zero:
                self.store.measure(step, loss)
            return
        improved = loss is not None and loss < self.best_loss
        if improved:
            self.best_loss = loss  # before saving: the file should know it
        sound = loss is None or math.isfinite(loss)
        if step and sound and (improved or self._due(pl_module, step) or not self._periodic):
            self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """The end is always kept."""
        self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Write the state now, unless this step's is written already."""
        if self._saved_step == trainer.global_step:
            return
        started = time.monotonic()
        trainer.save_checkpoint(self.store.path(trainer.global_step), weights_only=False)
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()
        self.save_seconds = max(self.save_seconds, self._saved_time - started)

    def state_dict(self) -> dict[str, Any]:
        """The best loss so far."""
        return {"best_loss": self.best_loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best loss."""
        self.best_loss = state_dict["best_loss"]
