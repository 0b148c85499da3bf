"""Objectives and callbacks that remember what no checkpoint keeps, or that are never the same twice."""

import random
import time
from dataclasses import replace

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from ntp.objectives.causal import Causal


class CountsRows(Causal):
    """Hides more and more targets, by a count of its own."""

    def __init__(self):
        super().__init__()
        self.rows = 0

    def corrupt(self, row, draw):
        self.rows += 1
        made = super().corrupt(row, draw)
        weights = np.full(len(made), 1.0 + self.rows / 100, dtype=np.float32)
        return replace(made, weights=weights)


class CountsLosses(Causal):
    """Its loss grows with a count of its own, from the seventh step on only."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def loss(self, model, batch):
        self.calls += self.training
        terms = super().loss(model, batch)
        return replace(terms, sum=terms.sum * (1 + max(0, self.calls - 12)))


class CountsForLater(Causal):
    """Would do something else after a thousand rows."""

    def __init__(self):
        super().__init__()
        self.rows = 0

    def corrupt(self, row, draw):
        self.rows += 1
        return super().corrupt(row, draw)


class OwnGenerator(Causal):
    """Draws from a generator of its own."""

    def __init__(self):
        super().__init__()
        self.generator = random.Random(0)

    def corrupt(self, row, draw):
        made = super().corrupt(row, draw)
        return replace(made, weights=np.full(len(made), self.generator.uniform(0.5, 1.5), dtype=np.float32))


class KeepsItsCount(Causal):
    """The right way: the count is a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def loss(self, model, batch):
        if self.training:
            self.calls += 1
        terms = super().loss(model, batch)
        return replace(terms, sum=terms.sum * (1 + self.calls / 10))


class Unsteady(Causal):
    """Its loss depends on the clock."""

    def loss(self, model, batch):
        terms = super().loss(model, batch)
        return replace(terms, sum=terms.sum * (1 + time.perf_counter() % 1))


class Averages(Callback):
    """A running mean of the weights that nobody saves."""

    def __init__(self):
        self.mean = None

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        weights = torch.cat([one.detach().flatten() for one in pl_module.parameters()])
        self.mean = weights.clone() if self.mean is None else torch.lerp(self.mean, weights, 0.1)


class AveragesAndSaves(Averages):
    """The right way."""

    def state_dict(self):
        return {"mean": self.mean}

    def load_state_dict(self, state_dict):
        self.mean = state_dict["mean"]


class Clock(Callback):
    """Knows the time, which is another one in every run."""

    def __init__(self):
        self.started = time.perf_counter()


class Noise(Callback):
    """Changes the weights at random before each micro-batch, from the generator that all share."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        with torch.no_grad():
            for one in pl_module.parameters():
                one.add_(1e-3 * torch.randn_like(one))
