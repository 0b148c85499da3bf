"""What may befall one of several processes."""

import os
import signal
from pathlib import Path

from lightning.pytorch.callbacks import Callback


class FailsAlone(Callback):
    """Raises on the last device only.

    Args:
        step: behind which optimizer step.
    """

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step and trainer.global_rank == trainer.world_size - 1:
            raise ArithmeticError("something is wrong here")


class IsToldInValidation(Callback):
    """The last device is asked to stop in the middle of a validation, once in the life of a run."""

    def on_validation_batch_end(self, trainer, *_):
        told = Path(trainer.default_root_dir) / "told"
        if trainer.global_step and trainer.global_rank == trainer.world_size - 1 and not told.exists():
            told.touch()
            os.kill(os.getpid(), signal.SIGTERM)
