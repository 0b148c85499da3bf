"""A model that writes is in evaluation mode, whatever it was doing before."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block, and the mode as it was behind it."""
    # Of every part by itself: some may be in evaluation mode while the others are trained.
    before = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part, was_training in before:
            part.training = was_training
