"""What a Transformer is stacked from: attention, a feed-forward network, and the block that joins them.

Legend: B rows, T new positions of a row, S positions of a source, D width, K query heads, G key and value heads, H
width of a head, M width of the feed-forward network.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ntp.models.attention import Pattern, attend
from ntp.models.cache import KVCache
from ntp.models.normalization import Norm, make_norm
from ntp.models.positions import Rotation, rotate

Activation = Literal["gelu", "gelu_tanh", "relu", "relu2", "swiglu", "geglu"]
_GATED = ("swiglu", "geglu")


def default_mlp_width(width: int, activation: Activation) -> int:
    """4 * D or, for the gated ones with their third matrix, 8/3 * D rounded to a multiple of 64."""
    return max(64, 64 * round(8 * width / (3 * 64))) if activation in _GATED else 4 * width


class SelfAttention(nn.Module):
    """Multi-head attention with one projection for queries, keys and values.

    Args:
        layer: the number of its layer, from 0; its place in a cache.
        width: D.
        heads: K query heads.
        kv_heads: G key and value heads, each shared by K / G query heads.
        head_width: H.
        bias: whether projections have a bias.
        dropout: probability of dropping an attention weight.
        qk_norm_epsilon: normalise queries and keys per head by their root mean square, with this epsilon, before
            they are rotated (Henry et al. 2020; the form of Qwen3); None for not at all.
    """

    def __init__(
        self,
        layer: int,
        width: int,
        heads: int,
        kv_heads: int,
        head_width: int,
        bias: bool,
        dropout: float,
        qk_norm_epsilon: float | None,
    ) -> None:
        super().__init__()
        self.layer = layer
        self.heads, self.kv_heads, self.head_width = heads, kv_heads, head_width
        self.dropout = dropout
        self.qkv = nn.Linear(width, (heads + 2 * kv_heads) * head_width, bias=bias)
        self.output = nn.Linear(heads * head_width, width, bias=bias)
        self.query_norm = self.key_norm = None
        if qk_norm_epsilon is not None:
            self.query_norm = nn.RMSNorm(head_width, eps=qk_norm_epsilon)
            self.key_norm = nn.RMSNorm(head_width, eps=qk_norm_epsilon)

    def forward(
        self, hidden_BTD: Tensor, pattern: Pattern, rotation: Rotation | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """Mix [B, T, D] along T; returns [B, T, D]."""
        rows, length, _ = hidden_BTD.shape
        qkv = self.qkv(hidden_BTD).view(rows, length, -1, self.head_width)
        # Queries and keys are treated as one tensor for as long as they are treated alike.
        qk, value_BTGH = qkv.split((self.heads + self.kv_heads, self.kv_heads), dim=2)
        if self.query_norm is not None and self.key_norm is not None:
            gains = (self.query_norm.weight.expand(self.heads, -1), self.key_norm.weight.expand(self.kv_heads, -1))
            qk = F.rms_norm(qk, (self.head_width,), eps=self.query_norm.eps) * torch.cat(gains)
            qk = qk.to(qkv.dtype)
        if rotation is not None:
            qk = rotate(qk, rotation)
        query_BTKH, key_BTGH = qk.split((self.heads, self.kv_heads), dim=2)

        key_BGSH, value_BGSH = key_BTGH.transpose(1, 2), value_BTGH.transpose(1, 2)
        if cache is not None:
            key_BGSH, value_BGSH = cache.append(self.layer, key_BGSH, value_BGSH)
        dropout = self.dropout if self.training else 0.0
        mixed_BKTH = attend(query_BTKH.transpose(1, 2), key_BGSH, value_BGSH, pattern, dropout)
        return self.output(mixed_BKTH.transpose(1, 2).flatten(2))


class Memory(NamedTuple):
    """A source, as the decoder's queries see it.

    Attributes:
        hidden: [B, S, D] states of the source; None when a cache holds their keys and values.
        pattern: which of them each query sees.
        blind: [B, T, 1] bool, queries that see none, for which the pattern shows any; None when there are none.
    """

    hidden: Tensor | None
    pattern: Pattern
    blind: Tensor | None = None


class CrossAttention(nn.Module):
    """Multi-head attention from a decoder to the hidden states of a source (Vaswani et al. 2017, section 3.2.3).

    It knows nothing of positions, as in T5: the states of the source carry what is to be known.

    Args:
        layer, width, heads, kv_heads, head_width, bias, dropout, qk_norm_epsilon: see `SelfAttention`.
    """

    def __init__(
        self,
        layer: int,
        width: int,
        heads: int,
        kv_heads: int,
        head_width: int,
        bias: bool,
        dropout: float,
        qk_norm_epsilon: float | None,
    ) -> None:
        super().__init__()
        self.layer = layer
        self.heads, self.kv_heads, self.head_width = heads, kv_heads, head_width
        self.dropout = dropout
        self.query = nn.Linear(width, heads * head_width, bias=bias)
        self.key_value = nn.Linear(width, 2 * kv_heads * head_width, bias=bias)
        self.output = nn.Linear(heads * head_width, width, bias=bias)
        self.query_norm = self.key_norm = None
        if qk_norm_epsilon is not None:
            self.query_norm = nn.RMSNorm(head_width, eps=qk_norm_epsilon)
            self.key_norm = nn.RMSNorm(head_width, eps=qk_norm_epsilon)

    def forward(self, hidden_BTD: Tensor, memory: Memory, cache: KVCache | None = None) -> Tensor:
        """What each of [B, T, D] takes from the source; returns [B, T, D]."""
        rows, length, _ = hidden_BTD.shape
        query_BTKH = self.query(hidden_BTD).view(rows, length, self.heads, self.head_width)
        if self.query_norm is not None:
            query_BTKH = _normalised(query_BTKH, self.query_norm)
        if memory.hidden is not None:
            key_BGSH, value_BGSH = self._project(memory.hidden)
            if cache is not None:
                cache.remember(self.layer, key_BGSH, value_BGSH)
        elif cache is not None:
            key_BGSH, value_BGSH = cache.memory(self.layer)
        else:
            raise ValueError("cross-attention needs a source: its hidden states, or a cache that has read it")
        dropout = self.dropout if self.training else 0.0
        mixed_BKTH = attend(query_BTKH.transpose(1, 2), key_BGSH, value_BGSH, memory.pattern, dropout)
        taken_BTD = self.output(mixed_BKTH.transpose(1, 2).flatten(2))
        return taken_BTD if memory.blind is None else taken_BTD.masked_fill(memory.blind, 0.0)

    def _project(self, hidden_BSD: Tensor) -> tuple[Tensor, Tensor]:
        rows, length, _ = hidden_BSD.shape
        key_value = self.key_value(hidden_BSD).view(rows, length, 2 * self.kv_heads, self.head_width)
        key_BSGH, value_BSGH = key_value.chunk(2, dim=2)
        if self.key_norm is not None:
            key_BSGH = _normalised(key_BSGH, self.key_norm)
        return key_BSGH.transpose(1, 2), value_BSGH.transpose(1, 2)


def _normalised(heads: Tensor, norm: nn.RMSNorm) -> Tensor:
    return (F.rms_norm(heads, heads.shape[-1:], eps=norm.eps) * norm.weight).to(heads.dtype)


class FeedForward(nn.Module):
    """Two projections with a nonlinearity between them, at every position by itself.

    Args:
        width: D.
        hidden_width: M.
        activation: ``gelu`` (Hendrycks & Gimpel 2016), ``gelu_tanh`` (its approximation, as in GPT-2), ``relu``,
            ``relu2`` (its square; So et al. 2021), or ``swiglu`` and ``geglu`` (Shazeer 2020; the gate of the latter
            goes through ``gelu_tanh``, as in T5 v1.1), whose gate is a third matrix, fused with the first.
        bias: whether projections have a bias.
    """

    def __init__(self, width: int, hidden_width: int, activation: Activation, bias: bool) -> None:
        super().__init__()
        self.activation = activation
        self.up = nn.Linear(width, 2 * hidden_width if activation in _GATED else hidden_width, bias=bias)
        self.down = nn.Linear(hidden_width, width, bias=bias)

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """Transform [B, T, D]; returns [B, T, D]."""
        inner = self.up(hidden_BTD)
        if self.activation in _GATED:
            gate, inner = inner.chunk(2, dim=-1)
            gate = F.silu(gate) if self.activation == "swiglu" else F.gelu(gate, approximate="tanh")
            return self.down(gate * inner)
        if self.activation in ("relu", "relu2"):
            inner = F.relu(inner)
            return self.down(inner if self.activation == "relu" else inner.square())
        return self.down(F.gelu(inner, approximate="tanh" if self.activation == "gelu_tanh" else "none"))


class Block(nn.Module):
    """Attention, then feed-forward, each added to a residual stream that is normalised on the way in only (pre-norm).

    In a decoder that has a source, attention to the source comes between the two.

    Args:
        attention: mixes positions.
        mlp: transforms each position.
        norm: which normalization.
        norm_epsilon: its epsilon.
        bias: whether a layer norm has a bias.
        dropout: probability of dropping what is added to the residual stream.
        cross_attention: looks at a source; None for a block without one.
    """

    def __init__(
        self,
        attention: SelfAttention,
        mlp: FeedForward,
        norm: Norm,
        norm_epsilon: float,
        bias: bool,
        dropout: float,
        cross_attention: CrossAttention | None = None,
    ) -> None:
        super().__init__()
        width = mlp.down.out_features
        self.attention_norm = make_norm(norm, width, norm_epsilon, bias)
        self.attention = attention
        self.cross_norm: nn.Module | None = None
        if cross_attention is not None:
            self.cross_norm = make_norm(norm, width, norm_epsilon, bias)
        self.cross_attention = cross_attention
        self.mlp_norm = make_norm(norm, width, norm_epsilon, bias)
        self.mlp = mlp
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        hidden_BTD: Tensor,
        pattern: Pattern,
        rotation: Rotation | None = None,
        cache: KVCache | None = None,
        memory: Memory | None = None,
    ) -> Tensor:
        """Add to the residual stream [B, T, D]; returns [B, T, D]."""
        mixed = self.attention(self.attention_norm(hidden_BTD), pattern, rotation, cache)
        hidden_BTD = hidden_BTD + self.dropout(mixed)
        if self.cross_attention is not None and self.cross_norm is not None:
            taken = self.cross_attention(self.cross_norm(hidden_BTD), memory, cache)
            hidden_BTD = hidden_BTD + self.dropout(taken)
        return hidden_BTD + self.dropout(self.mlp(self.mlp_norm(hidden_BTD)))

    def residual_projections(self) -> list[nn.Linear]:
        """The matrices that write to the residual stream, which initialization treats apart."""
        cross = [] if self.cross_attention is None else [self.cross_attention.output]
        return [self.attention.output, *cross, self.mlp.down]
