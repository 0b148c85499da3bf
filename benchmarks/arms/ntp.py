"""``ntp train`` itself, through its command line, with one more callback that counts the steps."""

import os
from typing import Any, ClassVar

from lightning import Trainer
from lightning.pytorch.callbacks import Callback

from arms.settings import Settings
from harness.laps import Laps
from ntp.cli import main
from ntp.models.flops import parameter_count


class Lap(Callback):
    """Tells the start of every step."""

    laps: ClassVar[Laps]

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Say how large the model is."""
        self.laps.facts |= {
            "parameters": parameter_count(pl_module.model),
            "vocabulary": pl_module.model.vocabulary_size,
        }

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """A batch is a step: nothing is accumulated."""
        self.laps.step()


def run(settings: Settings, laps: Laps) -> None:
    """Train with everything a run of the command has: loggers, checkpoints, metrics, data module."""
    Lap.laps = laps
    lap = ["allow_targets=[arms]", "+callbacks.lap._target_=arms.ntp.Lap"]
    status = main(["train", *settings.overrides(), *lap, f"run_dir=run-{os.getpid()}"])
    raise SystemExit(f"ntp train ended with status {status}")
