"""Parts of runs with something wrong: data that spoils the loss, too little memory, a process that ends too early."""

import dataclasses
import hashlib
import math
import resource
import signal
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from ntp.data.example import IGNORE
from ntp.objectives.causal import Causal
from ntp.training.optimizers import AdamW


class Poisoned(Causal):
    """Multiplies the loss of some rows.

    Args:
        total: optimizer steps of the run.
        steps: of whose rows, wherever these come from.
        rows: which ones of the first epoch, whatever step they come at.
        factor: of their loss; None leaves them without a target.
        nan_rows: of the first epoch, whose loss is not a number.
    """

    def __init__(
        self,
        total: int,
        steps: list[int] = (),
        rows: list[int] = (),
        factor: float | None = math.nan,
        nan_rows: list[int] = (),
    ):
        super().__init__()
        self.progress = {(step - 1) / total for step in steps}
        self.factors = dict.fromkeys(rows, factor) | dict.fromkeys(nan_rows, math.nan)
        self.factor = factor

    def corrupt(self, row, draw):
        example = super().corrupt(row, draw)
        factor = 1.0
        if not draw.evaluation and draw.progress in self.progress:
            factor = self.factor
        elif not draw.evaluation and draw.epoch == 0:
            factor = self.factors.get(draw.row, 1.0)
        targets = np.full_like(example.targets, IGNORE) if factor is None else example.targets
        weights = np.full(len(example), 1.0 if factor is None else factor)
        target_bytes = np.where(targets == IGNORE, 0, example.target_bytes)
        return dataclasses.replace(example, targets=targets, weights=weights, target_bytes=target_bytes)


class PoisonedGradient(Poisoned):
    """The loss is what it should be, and its gradient is not finite."""

    def loss(self, model, batch):
        poisoned = batch.weights.isnan().any()
        batch.weights.fill_(1.0)
        terms = super().loss(model, batch)
        if poisoned:
            terms.sum = terms.sum + (next(model.parameters()).sum() * 0.0).sqrt()
        return terms


class Greedy(Causal):
    """Runs out of memory whenever it is given more than so many rows to train on.

    Args:
        fits: rows.
        after: micro-batches that succeed in any case.
        validates: rows that it can be given to validate on.
    """

    def __init__(self, fits: int, after: int = 0, validates: int = 1000):
        super().__init__()
        self.fits, self.after, self.validates = fits, after, validates

    def loss(self, model, batch):
        self.after -= torch.is_grad_enabled()
        if self.after < 0 and batch.rows > (self.fits if torch.is_grad_enabled() else self.validates):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().loss(model, batch)


class GreedyAdamW(AdamW):
    """Runs out of memory while it updates the weights."""

    def build(self, module):
        optimizer = super().build(module)

        def step(closure):
            closure()
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        optimizer.step = step
        return optimizer


class Ends(Callback):
    """Ends the process in the middle of an optimizer step.

    Args:
        step: which one.
        crash: by an exception instead of by a signal that asks it to stop; only once in a run directory.
    """

    def __init__(self, step: int, crash: bool = False) -> None:
        self.step, self.crash = step, crash

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step + 1 == self.step:
            crashed = Path(trainer.default_root_dir) / "crashed"
            if self.crash and not crashed.exists():
                crashed.touch()
                raise RuntimeError("crashed on purpose")
            if not self.crash:
                signal.raise_signal(signal.SIGTERM)


class RecordsBatches(Callback):
    """One line a micro-batch, in batches.txt of the run directory: step and content."""

    def on_train_batch_start(self, trainer, module, batch, _):
        digest = hashlib.sha256(batch.tokens.numpy().tobytes()).hexdigest()
        with open(Path(trainer.default_root_dir) / "batches.txt", "a") as file:
            file.write(f"{trainer.global_step + 1} {digest}\n")


class LimitsMemory(Callback):
    """Grants training so many bytes beyond what the process has when it starts for the first time."""

    def __init__(self, more: float) -> None:
        self.more = int(more)

    def on_train_start(self, *_):
        if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
            return
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + self.more
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))

    def on_train_end(self, *_):
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
