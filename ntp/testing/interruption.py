"""Interrupting a run at a chosen place."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from lightning import Trainer
from lightning.pytorch.callbacks import Callback

from ntp.training.checkpoint import Checkpoint

_FILE = "interruption.json"
_POLL_SECONDS = 1e-4

How = Literal["exception", "SIGINT", "SIGTERM", "SIGUSR1", "SIGKILL"]
Where = Literal["accumulation", "moment", "validation", "writing", "final validation"]


@dataclass(frozen=True)
class Interruption:
    """When a run is interrupted, and how.

    Attributes:
        how: by an exception, after which nothing is saved; by a signal that asks it to stop; or by one that kills it.
        where: behind the first backward pass of a step; at some moment after that step began; in the middle of the
            validation behind it; while its checkpoint is being written; or in the validation at the end of the run.
        step: optimizer step, counted from 1.
        delay: for a moment: how far behind the beginning of the step it lies, in durations of the step before.
    """

    how: How
    where: Where
    step: int
    delay: float = 0.0

    def __str__(self) -> str:
        places = {
            "accumulation": f"in step {self.step}, behind its first backward pass",
            "moment": f"{self.delay:.2f} steps after step {self.step} began",
            "validation": f"in the validation at step {self.step}",
            "writing": f"while the checkpoint of step {self.step} was being written",
            "final validation": "in the validation at the end",
        }
        return f"{self.how} {places[self.where]}"


class Interrupted(BaseException):
    """Ends a run at once, wherever it is."""


class Interrupter(Callback):
    """Interrupts the run once, as `plan_interruption` last said to whoever looks into the directory.

    Of several processes the first one is interrupted.

    Args:
        directory: where to look; the plan is gone as soon as it is carried out.
    """

    def __init__(self, directory: str) -> None:
        self.file = Path(directory) / _FILE
        self._plan: Interruption | None = None
        self._step_began = self._step_seconds = 0.0
        self._timer: threading.Timer | None = None  # at a moment

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Read the plan."""
        self._plan = read_plan(self.file.parent) if trainer.is_global_zero else None

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """At some moment: set the clock, so that it may be in anything that the process does from here on."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            now = time.monotonic()
            began, self._step_began = self._step_began, now
            self._step_seconds = now - (began or now)
            if (plan := self._planned("moment", trainer.global_step + 1)) is not None:
                self._timer = threading.Timer(plan.delay * self._step_seconds, self._strike, args=(plan,))
                self._timer.daemon = True
                self._timer.start()

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """The last moment there is: steps may take less time than the one before did."""
        if self._timer is not None:
            self._timer.join()

    def on_after_backward(self, trainer: Trainer, pl_module: Any) -> None:
        """In the middle of an optimizer step, or in front of its update where it has a single micro-batch."""
        if trainer.fit_loop.batch_idx % trainer.accumulate_grad_batches == 0:
            self._strike(self._planned("accumulation", trainer.global_step + 1))

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """In the middle of a validation, or behind it where it has a single batch."""
        where: Where = "validation" if trainer.state.fn == "fit" else "final validation"
        self._strike(self._planned(where, trainer.global_step))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """While it is being written: as soon as there is a part of the file."""
        if (plan := self._planned("writing", trainer.global_step)) is not None:
            stores = [one.store for one in trainer.checkpoint_callbacks if isinstance(one, Checkpoint)]
            threading.Thread(target=self._strike_writing, args=(plan, stores[0].directory), daemon=True).start()

    def _planned(self, where: Where, step: int) -> Interruption | None:
        plan = self._plan
        if plan is None or plan.where != where or (plan.step != step and where != "final validation"):
            return None
        self._plan = None
        return plan

    def _strike_writing(self, plan: Interruption, directory: Path) -> None:
        while not any(directory.glob(".step-*.tmp")):
            time.sleep(_POLL_SECONDS)
        self._strike(plan)

    def _strike(self, plan: Interruption | None) -> None:
        if plan is None:
            return
        self.file.unlink()
        if plan.how == "exception":
            raise Interrupted
        os.kill(os.getpid(), signal.Signals[plan.how])


def plan_interruption(directory: Path, interruption: Interruption) -> None:
    """Tell the `Interrupter` of the next process."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / _FILE).write_text(json.dumps(asdict(interruption)), encoding="utf-8")


def read_plan(directory: Path) -> Interruption | None:
    """What is planned and has not happened yet."""
    file = directory / _FILE
    return Interruption(**json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None
