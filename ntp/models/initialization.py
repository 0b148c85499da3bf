"""Where training starts from.

What is drawn for a parameter is a function of the seed and of the parameter's name. So two models of one seed start
alike wherever they have a parameter of the same name and shape, whatever else they have: more layers, another
vocabulary, a head of their own. Drawn from one generator, one after the other, each would move all behind it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

Init = Literal["gpt2", "zero_output"]


@dataclass(frozen=True)
class Streams:
    """A stream of random numbers for each name.

    Attributes:
        key: what tells these streams from others of the same names.
        prefix: put before each name, for a part of a model that is initialised by itself.
    """

    key: int
    prefix: str = ""

    @classmethod
    def begin(cls) -> Streams:
        """Streams that no one has drawn from, keyed by the next number of torch's generator.

        To be called before a layer is built: layers draw too, and how much depends on their size.
        """
        return cls(int(torch.randint(2**63 - 1, (), device="cpu")))

    def within(self, name: str) -> Streams:
        """Those of a part of the model, whose names begin with its own."""
        return Streams(self.key, f"{self.prefix}{name}.")

    def normal_(self, name: str, parameter: torch.Tensor, std: float) -> None:
        """Draw a parameter from normal(0, std), in place; without weights (on ``meta``) nothing is drawn."""
        if not parameter.is_meta:
            generator = torch.Generator(parameter.device).manual_seed(_seed_of(self.key, self.prefix + name))
            parameter.normal_(std=std, generator=generator)


def _seed_of(key: int, name: str) -> int:
    """64 bits, the same in every process. Torch takes the lower half of them on a CPU."""
    return int.from_bytes(hashlib.sha256(f"{key} {name}".encode()).digest()[:8], "little")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch, numpy and Python for what is built within, and leave their generators on the CPU as they were."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(of_numpy)
            random.setstate(of_python)


@contextmanager
def named(name: str) -> Iterator[None]:
    """Draw what is built within by its name: whatever it draws is a function of that and of torch's last seed.

    It is for layers that draw their weights by themselves. Names may be nested.
    """
    with seeded(_seed_of(torch.initial_seed(), name)):
        yield


@torch.no_grad()
def initialize(
    model: nn.Module, residual_projections: Iterable[nn.Linear], scheme: Init, std: float, streams: Streams
) -> None:
    """Set every weight of a model, in place.

    Matrices and embeddings are drawn from normal(0, std), biases are 0 and gains 1. What writes to the residual
    stream is treated apart:

    - ``gpt2``: drawn from normal(0, std / sqrt(n)), n being how many projections write to the stream, so that its
      variance does not grow with depth (Radford et al. 2019, section 2.3);
    - ``zero_output``: 0, so that every block starts as the identity (as in Fixup, Zhang et al. 2019).
      With tied embeddings a wide model then starts out predicting the very token it reads: the first loss of a
      width of 768 is 15 nats (4 layers, random tokens), where a uniform guess over the 8192 tokens costs 9.

    A standard deviation only scales what is drawn: between models that differ in n, what writes to the stream differs
    by a factor and is otherwise the same.

    Args:
        model: whose linear layers, embeddings and normalizations are set.
        residual_projections: those of its linear layers that write to the residual stream.
        scheme: which of the two.
        std: standard deviation.
        streams: what each weight is drawn from, by its name in the model.
    """
    outputs = set(residual_projections)
    for name, module in model.named_modules():
        if module in outputs and scheme == "zero_output":
            nn.init.zeros_(module.weight)
        elif isinstance(module, nn.Linear | nn.Embedding):
            own_std = std / len(outputs) ** 0.5 if module in outputs else std
            streams.normal_(f"{name}.weight", module.weight, own_std)
        elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
            nn.init.ones_(module.weight)
        if isinstance(module, nn.Linear | nn.LayerNorm) and module.bias is not None:
            nn.init.zeros_(module.bias)
