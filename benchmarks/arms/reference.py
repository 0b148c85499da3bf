"""The bare loop over a GPT of its own, written here: nothing of ntp's model is in its time.

Legend: B rows, L positions, D width, K heads, H width of a head, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arms.loop import train
from arms.settings import Settings
from harness.composed import composed_setup
from harness.laps import Laps


class Block(nn.Module):
    """Attention and a feed-forward network, each behind a layer norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """[B, L, D] to [B, L, D]."""
        rows, length, width = x_BLD.shape
        heads = (rows, length, self.heads, width // self.heads)
        q_BKLH, k_BKLH, v_BKLH = (
            part.view(heads).transpose(1, 2) for part in self.qkv(self.norm_1(x_BLD)).split(width, dim=2)
        )
        mixed_BKLH = F.scaled_dot_product_attention(q_BKLH, k_BKLH, v_BKLH, is_causal=True)
        x_BLD = x_BLD + self.output(mixed_BKLH.transpose(1, 2).reshape(rows, length, width))
        return x_BLD + self.down(F.gelu(self.up(self.norm_2(x_BLD)), approximate="tanh"))


class GPT(nn.Module):
    """GPT-2 (Radford et al. 2019): learned positions, tied embeddings."""

    def __init__(self, vocabulary: int, length: int, layers: int, width: int, heads: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, inputs_BL: Tensor, targets_BL: Tensor) -> Tensor:
        """Mean cross-entropy."""
        x_BLD = self.tokens(inputs_BL) + self.positions(torch.arange(inputs_BL.shape[1], device=inputs_BL.device))
        for block in self.blocks:
            x_BLD = block(x_BLD)
        logits_BLV = F.linear(self.norm(x_BLD), self.tokens.weight)
        return F.cross_entropy(logits_BLV.flatten(0, 1), targets_BL.flatten())


def run(settings: Settings, laps: Laps) -> None:
    """Train it."""
    setup = composed_setup(settings.overrides())
    model = GPT(settings.vocabulary, settings.length, settings.layers, settings.width, settings.heads)
    train(model, model, setup, laps, settings.device)
