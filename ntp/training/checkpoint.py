"""Checkpoints: written whole or not at all, and free of code."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Checkpoint as LightningCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn

from ntp.config.errors import ConfigError
from ntp.config.types import PositiveInt

LAST, BEST = "last.ckpt", "best.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes to a temporary name, synchronises and renames: a full disk or a kill leaves the previous file whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write ``checkpoint`` to ``path``.

        Raises:
            OSError: it could not be written; what was at ``path`` is still there.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except RuntimeError as error:  # torch's zip writer turns a failed write into its own error
            raise OSError(f"could not write {path}: {error}") from error
        finally:
            temporary.unlink(missing_ok=True)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = True) -> Any:
        """Read tensors and plain containers; anything that would run code on loading is refused."""
        return torch.load(path, map_location=map_location, weights_only=True)


class Checkpoint(LightningCheckpoint):
    """Keeps ``checkpoints/last.ckpt`` and, by validation loss, ``checkpoints/best.ckpt``.

    Args:
        directory: where; the run's ``checkpoints`` when absent.
        every_steps: optimizer steps between checkpoints; after every validation when absent.
    """

    def __init__(self, every_steps: PositiveInt | None = None, directory: str | None = None) -> None:
        self.every_steps = every_steps
        self.directory = None if directory is None else Path(directory)
        self.best_loss = float("inf")
        self._saved_step = -1

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Find the run's directory."""
        if self.directory is None:
            self.directory = Path(trainer.default_root_dir) / "checkpoints"

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save when it is time, at the boundary of an optimizer step."""
        at_boundary = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if self.every_steps and at_boundary and trainer.global_step % self.every_steps == 0:
            self._save_last(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Compare the run's fixed validation rows; the larger final validation is not comparable with them."""
        if trainer.datamodule.final or trainer.sanity_checking:  # type: ignore[attr-defined]
            return
        loss = pl_module.latest.get("val/loss")
        improved = loss is not None and loss < self.best_loss
        if improved:
            self.best_loss = loss  # before saving: the file should know it
        if trainer.state.fn == "fit" and (improved or not self.every_steps):
            self._save_last(trainer)
        if improved and self._saved_step >= 0:  # a run that was stopped before its first step has nothing to keep
            self._copy_last_to_best(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """The end is always kept."""
        self._save_last(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The best loss so far."""
        return {"best_loss": self.best_loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best loss."""
        self.best_loss = state_dict["best_loss"]

    def _save_last(self, trainer: Trainer) -> None:
        if self._saved_step != trainer.global_step:
            assert self.directory is not None
            trainer.save_checkpoint(self.directory / LAST, weights_only=False)
            self._saved_step = trainer.global_step

    def _copy_last_to_best(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            assert self.directory is not None
            # A second name for the same bytes: last.ckpt is only ever replaced, never written over.
            temporary = self.directory / f".{BEST}.{os.getpid()}.tmp"
            temporary.unlink(missing_ok=True)
            try:
                os.link(self.directory / LAST, temporary)
            except OSError:  # a file system without hard links
                import shutil

                shutil.copyfile(self.directory / LAST, temporary)
            os.replace(temporary, self.directory / BEST)


def read_checkpoint(path: Path, key: str) -> dict[str, Any]:
    """The content of a checkpoint: tensors and plain containers.

    Args:
        path: of the file.
        key: the config key that led to it, for messages.

    Raises:
        ConfigError: there is no such file, or it can't be read.
    """
    if not path.is_file():
        others = sorted(one.stem for one in path.parent.glob("*.ckpt"))
        hint = f"; there is {key}={others[0]}" if others else ""
        raise ConfigError(key, f"there is no checkpoint {path}{hint}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in many ways, each with its own exception
        raise ConfigError(key, f"{path} is not a readable checkpoint ({str(error).splitlines()[0]})") from error
    if not isinstance(checkpoint, dict) or not checkpoint.keys() >= {"state_dict", "global_step"}:
        raise ConfigError(key, f"{path} is not a checkpoint of ntp's")
    return checkpoint


def restore_weights(parts: dict[str, nn.Module], checkpoint: dict[str, Any], key: str) -> None:
    """Load the weights of a checkpoint.

    Args:
        parts: modules by the name that the checkpoint has for them.
        checkpoint: what `read_checkpoint` gave.
        key: the config key that led to it, for messages.

    Raises:
        ConfigError: the checkpoint holds another architecture.
    """
    stored = checkpoint["state_dict"]
    own = {f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()}
    for name in [*own, *(name for name in stored if name not in own)]:
        here, there = (_shape(weights.get(name)) for weights in (own, stored))
        if here != there:
            raise ConfigError(
                key, f"is of another architecture: '{name}' is {there} in it and {here} in the configured model"
            )
    for part, module in parts.items():
        prefix = f"{part}."
        weights = {name.removeprefix(prefix): one for name, one in stored.items() if name.startswith(prefix)}
        module.load_state_dict(weights)


def _shape(tensor: torch.Tensor | None) -> str:
    return "absent" if tensor is None else "x".join(map(str, tensor.shape))
