"""The two ways to bring activations to one scale."""

from typing import Literal

from torch import nn

Norm = Literal["rmsnorm", "layernorm"]


def make_norm(kind: Norm, width: int, epsilon: float, bias: bool) -> nn.Module:
    """Build a normalization over the last dimension, of size ``width``.

    Args:
        kind: ``rmsnorm`` divides by the root mean square (Zhang & Sennrich 2019) and has a gain; ``layernorm``
            also subtracts the mean (Ba et al. 2016) and may have a bias.
        width: channels.
        epsilon: added to the mean square, or to the variance, against division by zero.
        bias: whether a layer norm has a bias; an RMS norm never has one.
    """
    if kind == "rmsnorm":
        return nn.RMSNorm(width, eps=epsilon)
    return nn.LayerNorm(width, eps=epsilon, bias=bias)
