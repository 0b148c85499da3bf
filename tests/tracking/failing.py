"""A callback that fails, for tests of what a failing run leaves behind."""

from lightning.pytorch.callbacks import Callback


class FailsAtStepTwo(Callback):
    """Raises when the second step is done."""

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 2:
            raise RuntimeError("step two")
