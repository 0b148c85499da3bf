"""A callback that writes down the norm of the gradient that the optimizer sees."""

from pathlib import Path

from lightning.pytorch.callbacks import Callback
from torch.nn.utils import get_total_norm


class RecordsGradients(Callback):
    """One line a step, in gradients.txt of the run directory."""

    def on_train_batch_end(self, trainer, module, *_):
        """Gradients are cleared only when the next step begins."""
        norm = get_total_norm([one.grad for one in module.parameters() if one.grad is not None])
        with open(Path(trainer.default_root_dir) / "gradients.txt", "a") as file:
            file.write(f"{norm.item()}\n")
