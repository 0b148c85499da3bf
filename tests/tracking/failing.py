"""Callbacks that fail or destroy something, for tests of what a run leaves behind."""

import os
import signal
from pathlib import Path

from lightning.pytorch.callbacks import Callback


class FailsAtStepTwo(Callback):
    """Raises when the second step is done."""

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 2:
            raise RuntimeError("step two")


class KillsWandbAtStepTwo(Callback):
    """Kills the process that W&B has started beside this one."""

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 2:
            children = [pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]
            (service,) = [pid for pid in children if b"wandb-core" in Path(f"/proc/{pid}/cmdline").read_bytes()]
            os.kill(int(service), signal.SIGKILL)
