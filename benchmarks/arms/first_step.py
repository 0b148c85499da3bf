"""A callback that writes down when the first step of a run was done."""

import time
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import Callback

FILE = "first_step.txt"


class FirstStep(Callback):
    """Writes the time into the run directory, by a clock that all processes of a machine share."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """A batch is a step: nothing is accumulated."""
        if trainer.global_step == 1:
            (Path(trainer.default_root_dir) / FILE).write_text(str(time.monotonic()))
