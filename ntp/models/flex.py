"""The rule of attention for FlexAttention (Dong et al. 2024), which skips the blocks that nobody sees.

Used on CUDA only, where a dense mask of a long row would not fit. On a CPU FlexAttention has no backward; it still
runs forward there, uncompiled, which is how the tests compare it with the dense rule.

Legend: B rows, T query positions, S key positions, L positions of a row, K query heads, G key and value heads,
H width of a head.
"""

import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from ntp.models.positions import Alibi

SMALLEST_HEAD = 16
"""FlexAttention's kernels take no narrower head."""

_HAS_TRITON = importlib.util.find_spec("triton") is not None
_compiled: dict[Callable[..., Any], Callable[..., Any]] = {}


class FlexPattern(NamedTuple):
    """Who sees whom, as FlexAttention wants it.

    Attributes:
        block_mask: the visible blocks; None when everything is visible.
        score_mod: adds the ALiBi bias to a score; None for no bias.
    """

    block_mask: BlockMask | None
    score_mod: Callable[..., Tensor] | None


def usable(device: torch.device, head_width: int, dropout: float) -> bool:
    """Whether FlexAttention can train here: a CUDA device with Triton, wide heads, and no dropout of attention."""
    return device.type == "cuda" and _HAS_TRITON and head_width >= SMALLEST_HEAD and dropout == 0.0


def make_flex_pattern(
    order_BL: Tensor | None,
    segments_BL: Tensor | None,
    private_BL: Tensor | None,
    alibi: Alibi | None,
    length: int,
    device: torch.device,
) -> FlexPattern:
    """Build the block mask of one forward.

    Args:
        order_BL: [B, L] int visibility rank, or None when order hides nothing.
        segments_BL: [B, L] int document of each position, or None for one document.
        private_BL: [B, L] bool, or None.
        alibi: the bias to add to the scores, or None.
        length: L.
        device: where the mask is built.
    """

    given = [tensor for tensor in (order_BL, segments_BL, private_BL) if tensor is not None]
    rows = max([1, *(tensor.shape[0] for tensor in given)])
    # The kernel asks about every row of the batch, also when one row of the mask serves them all.
    order, segments, private = (
        tensor if tensor is None else tensor.expand(rows, -1) for tensor in (order_BL, segments_BL, private_BL)
    )

    def visible(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        row = row if rows > 1 else row * 0
        seen = query >= 0
        if order is not None:
            query_order, key_order = order[row, query], order[row, key]
            if private is None:
                seen = key_order <= query_order
            else:
                seen = (key_order == query_order) | ((key_order < query_order) & ~private[row, key])
        if segments is not None:
            seen = seen & (segments[row, query] == segments[row, key])
        return seen

    block_mask = None
    if given:
        block_mask = _on(device, create_block_mask)(visible, rows, None, length, length, device=device)
    return FlexPattern(block_mask, None if alibi is None else _score_mod(alibi))


def _score_mod(alibi: Alibi) -> Callable[..., Tensor]:
    slopes, queries, keys = alibi
    rows = queries.shape[0]

    def biased(score: Tensor, row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        row = row if rows > 1 else row * 0
        return score - slopes[head] * (queries[row, query] - keys[row, key]).abs()

    return biased


def flex_attend(query_BKTH: Tensor, key_BGSH: Tensor, value_BGSH: Tensor, pattern: FlexPattern) -> Tensor:
    """Attend with a block mask; returns [B, K, T, H]."""
    attend = _on(query_BKTH.device, flex_attention)
    return attend(
        query_BKTH,
        key_BGSH,
        value_BGSH,
        score_mod=pattern.score_mod,
        block_mask=pattern.block_mask,
        enable_gqa=query_BKTH.shape[1] != key_BGSH.shape[1],
    )


def _on(device: torch.device, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, compiled on CUDA: uncompiled, both the kernel and the block mask would hold the dense [L, L].

    Inside a model that is being compiled the function is left alone, since the outer compilation fuses it.
    """
    if device.type != "cuda" or torch.compiler.is_compiling():
        return function
    if function not in _compiled:
        _compiled[function] = torch.compile(function)
    return _compiled[function]
