"""Who sees whom, and the kernels that obey it.

    position i may attend to position j  iff  ``segments[i] == segments[j]`` and
    (``order[j] == order[i]``, or ``order[j] < order[i]`` and j is not ``private``)

`visible` is this rule as a dense matrix and the reference for everything else. `make_pattern` turns the rule into
whatever the fastest kernel wants, once per forward, and `attend` runs that kernel in every layer:

    causal, nothing else to hide      scaled dot product attention with its causal flag, no mask
    full, nothing else to hide        the same, without a mask
    a learned bias for the scores     a mask that holds it
    anything else                     FlexAttention on CUDA, a mask elsewhere (the CPU's flash kernel takes masks)

Padding has a segment of its own, -1, in which padding sees padding: no query is ever left without a key, so no
softmax is ever empty.

Legend: B rows (1 when all rows are alike), L positions of a row, T query positions, S key positions (S = T, or
more when a cache holds the past), K query heads, G key and value heads, H width of a head.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ntp.data.example import Attention
from ntp.models.flex import FlexPattern, flex_attend, make_flex_pattern
from ntp.models.positions import Alibi


def visible(order_BL: Tensor, segments_BL: Tensor | None = None, private_BL: Tensor | None = None) -> Tensor:
    """The rule of attention as a dense matrix.

    Args:
        order_BL: [B, L] int, the visibility rank.
        segments_BL: [B, L] int, the document of each position; None for one document.
        private_BL: [B, L] bool, seen only by positions of equal order; None for none.

    Returns:
        [B, L, L] bool; entry (b, i, j) says whether position i may attend to position j.
    """
    query_order, key_order = order_BL[:, :, None], order_BL[:, None, :]
    if private_BL is None:
        seen_BLL = key_order <= query_order
    else:
        seen_BLL = (key_order == query_order) | ((key_order < query_order) & ~private_BL[:, None, :])
    if segments_BL is not None:
        seen_BLL = seen_BLL & (segments_BL[:, :, None] == segments_BL[:, None, :])
    return seen_BLL


class Pattern(NamedTuple):
    """The rule of one forward, in the form that its kernel takes. At most one field is set; none means "see all".

    Attributes:
        causal: use the kernel's own causal flag.
        mask: [B, 1, T, S] bool (true where visible), or [B, K, T, S] float added to the scores.
        flex: for FlexAttention.
    """

    causal: bool = False
    mask: Tensor | None = None
    flex: FlexPattern | None = None


def make_pattern(
    attention: Attention,
    length: int,
    device: torch.device,
    *,
    order: Tensor | None = None,
    segments: Tensor | None = None,
    private: Tensor | None = None,
    alibi: Alibi | None = None,
    bias: Tensor | None = None,
    past: int = 0,
    flex: bool = False,
) -> Pattern:
    """Choose the kernel of one forward and build what it needs.

    Args:
        attention: ``causal`` (each order is its index) and ``full`` (all orders are equal) take the fast kernels
            and no ``order``; ``prefix`` and ``ordered`` follow the general rule.
        length: L, the queries of this forward.
        device: where masks are built.
        order: [B, L] int, for ``prefix`` and ``ordered`` only.
        segments: [B, L] int; given, it is obeyed whatever the attention.
        private: [B, L] bool, for ``ordered`` only.
        alibi: a bias for the scores, by a rule.
        bias: [B or 1, K, T, S] float, a learned one; FlexAttention is not used with it.
        past: how many keys a cache holds before the first of the L; only for ``causal`` without segments.
        flex: use FlexAttention where a mask or a bias by a rule is needed.

    Raises:
        ValueError: the tensors do not go with the attention.
    """
    if attention in ("prefix", "ordered") and order is None:
        raise ValueError(f"{attention} attention needs an order")
    if attention in ("causal", "full") and order is not None:
        raise ValueError(f"{attention} attention takes no order; use attention='ordered'")
    if attention != "ordered" and private is not None:
        raise ValueError(f"{attention} attention takes no private; use attention='ordered'")
    if past and (attention != "causal" or segments is not None):
        raise ValueError("only causal attention without segments can continue from a cache")

    if segments is None and alibi is None and bias is None:
        if attention == "full" or (attention == "causal" and past and length == 1):
            return Pattern()
        if attention == "causal" and not past:
            return Pattern(causal=True)
    if attention == "causal":
        order = torch.arange(past, past + length, device=device)[None]
    if flex and not past and bias is None:
        return Pattern(flex=make_flex_pattern(order, segments, private, alibi, length, device))

    mask: Tensor | None = None
    if past and order is not None:
        mask = torch.arange(past + length, device=device) <= order[:, :, None]
    elif order is not None:
        mask = visible(order, segments, private)
    elif segments is not None:
        mask = visible(torch.zeros_like(segments), segments)
    if mask is not None:
        mask = mask[:, None]
    if alibi is not None:
        bias = alibi.bias()
    if bias is not None:
        mask = bias if mask is None else bias.masked_fill(~mask, -torch.inf)
    return Pattern(mask=mask)


def attend(query_BKTH: Tensor, key_BGSH: Tensor, value_BGSH: Tensor, pattern: Pattern, dropout: float = 0.0) -> Tensor:
    """Scaled dot product attention (Vaswani et al. 2017, section 3.2.1) under a pattern.

    Args:
        query_BKTH: [B, K, T, H].
        key_BGSH: [B, G, S, H]; each of the G heads serves K / G query heads (Ainslie et al. 2023).
        value_BGSH: [B, G, S, H].
        pattern: from `make_pattern`.
        dropout: probability of dropping an attention weight; not for FlexAttention.

    Returns:
        [B, K, T, H].
    """
    if pattern.flex is not None:
        return flex_attend(query_BKTH, key_BGSH, value_BGSH, pattern.flex)
    mask = pattern.mask
    if mask is not None and mask.is_floating_point():
        mask = mask.to(query_BKTH.dtype)
    groups = query_BKTH.shape[1] // key_BGSH.shape[1]
    if groups > 1 and query_BKTH.is_cuda and (mask is not None or query_BKTH.dtype == torch.float32):
        # Here CUDA's fused kernels know no groups, and the fallback would hold every [T, S] matrix of scores.
        key_BGSH = key_BGSH.repeat_interleave(groups, dim=1)
        value_BGSH = value_BGSH.repeat_interleave(groups, dim=1)
        groups = 1
    return F.scaled_dot_product_attention(
        query_BKTH,
        key_BGSH,
        value_BGSH,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=pattern.causal,
        enable_gqa=groups > 1,
    )
