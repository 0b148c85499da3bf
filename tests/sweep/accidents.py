"""What happens to a run once, by a file that a test puts into the folder ``accidents``."""

import os
import signal
from pathlib import Path

from lightning.pytorch.callbacks import Callback

FOLDER = Path("accidents")


class Accidents(Callback):
    """After the third step: fails or dies, where a file of the run directory's name says so; then the file is gone."""

    def on_train_batch_end(self, trainer, *_):
        path = FOLDER / Path(trainer.default_root_dir).name
        if trainer.global_step != 3 or not path.exists():
            return
        kind = path.read_text()
        path.unlink()
        if kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("an accident")
