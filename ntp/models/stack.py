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
from ntp.models.blocks import Activation, Block, CrossAttention, FeedForward, Memory, SelfAttention
from ntp.models.cache import KVCache
from ntp.models.initialization import Init, Streams, initialize
from ntp.models.normalization import Norm, make_norm
from ntp.models.positions import Alibi, RelativePositions, Rotation, alibi_slopes, rotary

Positions = Literal["learned", "sinusoidal", "rotary", "alibi", "relative", "none"]


class Stack(nn.Module):
    """Pre-norm blocks and the norm behind them.

    Args:
        width: D.
        layers: how many blocks.
        heads: query heads.
        kv_heads: key and value heads.
        mlp_width: channels inside the feed-forward network.
        norm, norm_epsilon, activation, qk_norm, bias, dropout: see `ntp.models.transformer.Transformer`.
        positions: ``rotary``, ``alibi`` and ``relative`` are obeyed here; the others have been added to what comes in.
        rotary_base: of rotary positions.
        relative_buckets, relative_max_distance: of relative positions, whose table all blocks share.
        relative_bidirectional: whether the table tells the future from the past; without a future it need not.
        head_width: channels of a head; None means width / heads.
        cross_attention: whether each block also looks at a source.
        init, init_std: initial weights.
        streams: what they are drawn from, for a stack that is a part of a model; None begins new ones.
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
        relative_buckets: PositiveInt,
        relative_max_distance: PositiveInt,
        init: Init,
        init_std: PositiveFloat,
        activation_checkpointing: bool = False,
        relative_bidirectional: bool = True,
        head_width: PositiveInt | None = None,
        cross_attention: bool = False,
        streams: Streams | None = None,
    ) -> None:
        super().__init__()
        streams = Streams.begin() if streams is None else streams
        self.heads, self.head_width = heads, width // heads if head_width is None else head_width
        self.positions, self.rotary_base = positions, rotary_base
        self.attention_dropout, self.crosses = dropout, cross_attention
        self.activation_checkpointing = activation_checkpointing
        self.relative: RelativePositions | None = None
        if positions == "relative":
            self.relative = RelativePositions(heads, relative_buckets, relative_max_distance, relative_bidirectional)
        shape = (width, heads, kv_heads, self.head_width, bias, dropout, norm_epsilon if qk_norm else None)
        blocks = [
            Block(
                SelfAttention(layer, *shape),
                FeedForward(width, mlp_width, activation, bias),
                norm,
                norm_epsilon,
                bias,
                dropout,
                CrossAttention(layer, *shape) if cross_attention else None,
            )
            for layer in range(layers)
        ]
        self.blocks = nn.ModuleList(blocks)
        self.final_norm = make_norm(norm, width, norm_epsilon, bias)
        outputs = [output for block in blocks for output in block.residual_projections()]
        initialize(self, outputs, init, init_std, streams)
        # Summed once: training asks for FLOPs in every step.
        linears = {module for module in self.blocks.modules() if isinstance(module, nn.Linear)}
        projected = {module.key_value for module in self.blocks.modules() if isinstance(module, CrossAttention)}
        self._position_flops = sum(flops.linear_flops(linear, 1) for linear in linears - projected)
        self._source_flops = sum(flops.linear_flops(linear, 1) for linear in projected)

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
        memory: Memory | None = None,
    ) -> Tensor:
        """Transform [B, L, D]; the fields are those of `ntp.data.example.Batch`.

        Args:
            hidden_BLD: embeddings, or whatever another stack made of them.
            attention, order, segments, private: who sees whom.
            positions: [B, L] int64, what the positional encoding sees. None counts from 0, or on from the cache.
            cache: the past of these rows; the hidden states continue it and are added to it. An empty one may be
                given with full attention too: what follows sees the whole of it.
            memory: the source, for blocks that look at one.

        Returns:
            [B, L, D] after the final norm.

        Raises:
            ValueError: the tensors do not go with the attention, or the blocks look at a source and there is none.
        """
        if self.crosses and memory is None:
            raise ValueError("blocks that look at a source need its memory")
        # What a projection made is bfloat16 under autocast; the residual stream is as precise as the weights.
        hidden_BLD = hidden_BLD.to(self.final_norm.weight.dtype)  # type: ignore[arg-type]
        length, device = hidden_BLD.shape[1], hidden_BLD.device
        past = 0 if cache is None else cache.held
        if positions is None:
            begin = 0 if cache is None else cache.length
            positions = torch.arange(begin, begin + length, device=device)[None]
        keys = positions
        if cache is not None and past:
            keys = torch.arange(cache.offset, cache.length + length, device=device)[None]
        rotation: Rotation | None = None
        alibi: Alibi | None = None
        bias: Tensor | None = None
        if self.positions == "rotary":
            rotation = rotary(positions, self.head_width, self.rotary_base)
        elif self.positions == "alibi":
            alibi = Alibi(alibi_slopes(self.heads, device), positions, keys)
        elif self.relative is not None:
            bias = self.relative(positions, keys).to(_computed(hidden_BLD))
        pattern = make_pattern(
            attention,
            length,
            device,
            order=order,
            segments=segments,
            private=private,
            alibi=alibi,
            bias=bias,
            past=past,
            flex=flex.usable(device, self.head_width, self.attention_dropout if self.training else 0.0),
        )
        for block in self.blocks:
            hidden_BLD = self._block(block, hidden_BLD, pattern, rotation, cache, memory)
        if cache is not None:
            cache.advance(length)
            if attention == "full":
                cache.seal()
        return self.final_norm(hidden_BLD)

    def _block(
        self,
        block: nn.Module,
        hidden_BLD: Tensor,
        pattern: Pattern,
        rotation: Rotation | None,
        cache: KVCache | None,
        memory: Memory | None,
    ) -> Tensor:
        if self.activation_checkpointing and torch.is_grad_enabled() and cache is None:
            return checkpoint(block, hidden_BLD, pattern, rotation, None, memory, use_reentrant=False)
        return block(hidden_BLD, pattern, rotation, cache, memory)

    def forward_flops(self, length: int, sources: int = 0) -> int:
        """Matrix FLOPs of one row of ``length`` positions, looking at a source of ``sources`` positions."""
        seen = length + sources if self.crosses else length
        attention = flops.attention_flops(length, seen, self.heads, self.head_width)
        return length * self._position_flops + sources * self._source_flops + len(self.blocks) * attention


def _computed(hidden_BLD: Tensor) -> torch.dtype:
    """The precision that attention is computed in. A bias that is rounded once is not kept rounded by every layer."""
    kind = hidden_BLD.device.type
    casts = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if casts else hidden_BLD.dtype
