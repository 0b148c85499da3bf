"""Blocks in a row, with what the attention of all of them shares: the pattern and the positions.

A model is a stack between its embeddings and its head; an objective with Transformer layers of its own asks the model
for another one of the same make (`ntp.models.base.LanguageModel.make_stack`).

Legend: B rows, L positions of a row, D width.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ntp.config.types import PositiveFloat, PositiveInt, Probability
from ntp.data.example import Attention
from ntp.models import flex, flops
from ntp.models.attention import Pattern, make_pattern
from ntp.models.blocks import Activation, Block, FeedForward, SelfAttention
from ntp.models.cache import KVCache
from ntp.models.initialization import Init, initialize
from ntp.models.normalization import Norm, make_norm
from ntp.models.positions import Alibi, Rotation, alibi_slopes, rotary

Positions = Literal["learned", "sinusoidal", "rotary", "alibi", "none"]


class Stack(nn.Module):
    """Pre-norm blocks and the norm behind them.

    Args:
        width: D.
        layers: how many blocks.
        heads: query heads.
        kv_heads: key and value heads.
        mlp_width: channels inside the feed-forward network.
        norm, norm_epsilon, activation, qk_norm, bias, dropout: see `ntp.models.transformer.Transformer`.
        positions: ``rotary`` and ``alibi`` are obeyed here; the others have been added to what comes in.
        rotary_base: of rotary positions.
        init, init_std: initial weights.
        activation_checkpointing: compute each block again in the backward pass.
    """

    def __init__(
        self,
        *,
        width: PositiveInt,
        layers: PositiveInt,
        heads: PositiveInt,
        kv_heads: PositiveInt,
        mlp_width: PositiveInt,
        norm: Norm,
        norm_epsilon: PositiveFloat,
        activation: Activation,
        qk_norm: bool,
        bias: bool,
        dropout: Probability,
        positions: Positions,
        rotary_base: PositiveFloat,
        init: Init,
        init_std: PositiveFloat,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.positions, self.rotary_base = positions, rotary_base
        self.attention_dropout = dropout
        self.activation_checkpointing = activation_checkpointing
        blocks = [
            Block(
                SelfAttention(layer, width, heads, kv_heads, bias, dropout, norm_epsilon if qk_norm else None),
                FeedForward(width, mlp_width, activation, bias),
                norm,
                norm_epsilon,
                bias,
                dropout,
            )
            for layer in range(layers)
        ]
        self.blocks = nn.ModuleList(blocks)
        self.final_norm = make_norm(norm, width, norm_epsilon, bias)
        initialize(self, [output for block in blocks for output in block.residual_projections()], init, init_std)

    def forward(
        self,
        hidden_BLD: Tensor,
        *,
        attention: Attention = "causal",
        order: Tensor | None = None,
        segments: Tensor | None = None,
        private: Tensor | None = None,
        positions: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Transform [B, L, D]; the fields are those of `ntp.data.example.Batch`.

        Args:
            hidden_BLD: embeddings, or whatever another stack made of them.
            attention, order, segments, private: who sees whom.
            positions: [B, L] int64, what the positional encoding sees. None counts from 0, or on from the cache.
            cache: the past of these rows; the hidden states continue it and are added to it.

        Returns:
            [B, L, D] after the final norm.
        """
        length, device = hidden_BLD.shape[1], hidden_BLD.device
        past = 0 if cache is None else cache.length
        if positions is None:
            positions = torch.arange(past, past + length, device=device)[None]
        rotation: Rotation | None = None
        alibi: Alibi | None = None
        if self.positions == "rotary":
            rotation = rotary(positions, self.head_width, self.rotary_base)
        elif self.positions == "alibi":
            keys = torch.arange(past + length, device=device)[None] if past else positions
            alibi = Alibi(alibi_slopes(self.heads, device), positions, keys)
        pattern = make_pattern(
            attention,
            length,
            device,
            order=order,
            segments=segments,
            private=private,
            alibi=alibi,
            past=past,
            flex=flex.usable(device, self.head_width, self.attention_dropout if self.training else 0.0),
        )
        for block in self.blocks:
            hidden_BLD = self._block(block, hidden_BLD, pattern, rotation, cache)
        if cache is not None:
            cache.advance(length)
        return self.final_norm(hidden_BLD)

    def _block(
        self, block: nn.Module, hidden_BLD: Tensor, pattern: Pattern, rotation: Rotation | None, cache: KVCache | None
    ) -> Tensor:
        if self.activation_checkpointing and torch.is_grad_enabled() and cache is None:
            return checkpoint(block, hidden_BLD, pattern, rotation, use_reentrant=False)
        return block(hidden_BLD, pattern, rotation, cache)

    def forward_flops(self, length: int) -> int:
        """Matrix FLOPs of one row of ``length`` positions."""
        linears = [module for module in self.blocks.modules() if isinstance(module, nn.Linear)]
        return sum(flops.linear_flops(linear, length) for linear in linears) + len(self.blocks) * flops.attention_flops(
            length, length, self.heads, self.head_width
        )
