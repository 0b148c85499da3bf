"""Where training starts from."""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import nn

Init = Literal["gpt2", "zero_output"]


@torch.no_grad()
def initialize(model: nn.Module, residual_projections: Iterable[nn.Linear], scheme: Init, std: float) -> None:
    """Set every weight of a model, in place.

    Matrices and embeddings are drawn from normal(0, std), biases are 0 and gains 1. What writes to the residual
    stream is treated apart:

    - ``gpt2``: drawn from normal(0, std / sqrt(n)), n being how many projections write to the stream, so that its
      variance does not grow with depth (Radford et al. 2019, section 2.3);
    - ``zero_output``: 0, so that every block starts as the identity (as in Fixup, Zhang et al. 2019).
      With tied embeddings a wide model then starts out predicting the very token it reads: the first loss of a
      width of 768 is 15 nats (4 layers, random tokens), where a uniform guess over the 8192 tokens costs 9.

    Args:
        model: whose linear layers, embeddings and normalizations are set.
        residual_projections: those of its linear layers that write to the residual stream.
        scheme: which of the two.
        std: standard deviation.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=std)
        elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
            nn.init.ones_(module.weight)
        if isinstance(module, nn.Linear | nn.LayerNorm) and module.bias is not None:
            nn.init.zeros_(module.bias)
    outputs = list(residual_projections)
    for projection in outputs:
        if scheme == "zero_output":
            nn.init.zeros_(projection.weight)
        else:
            nn.init.normal_(projection.weight, std=std / len(outputs) ** 0.5)
