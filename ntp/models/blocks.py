"""What a Transformer is stacked from: self-attention, a feed-forward network, and the block that joins them.

Legend: B rows, T new positions of a row, D width, K query heads, G key and value heads, H width of a head, M width
of the feed-forward network.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ntp.models.attention import Pattern, attend
from ntp.models.cache import KVCache
from ntp.models.normalization import Norm, make_norm
from ntp.models.positions import Rotation, rotate

Activation = Literal["gelu", "gelu_tanh", "swiglu", "relu2"]


class SelfAttention(nn.Module):
    """Multi-head attention with one projection for queries, keys and values.

    Args:
        layer: the number of its layer, from 0; its place in a cache.
        width: D.
        heads: K query heads.
        kv_heads: G key and value heads, each shared by K / G query heads.
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
        bias: bool,
        dropout: float,
        qk_norm_epsilon: float | None,
    ) -> None:
        super().__init__()
        self.layer = layer
        self.heads, self.kv_heads, self.head_width = heads, kv_heads, width // heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, (heads + 2 * kv_heads) * self.head_width, bias=bias)
        self.output = nn.Linear(width, width, bias=bias)
        self.query_norm = self.key_norm = None
        if qk_norm_epsilon is not None:
            self.query_norm = nn.RMSNorm(self.head_width, eps=qk_norm_epsilon)
            self.key_norm = nn.RMSNorm(self.head_width, eps=qk_norm_epsilon)

    def forward(
        self, hidden_BTD: Tensor, pattern: Pattern, rotation: Rotation | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """Mix [B, T, D] along T; returns [B, T, D]."""
        rows, length, width = hidden_BTD.shape
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
        return self.output(mixed_BKTH.transpose(1, 2).reshape(rows, length, width))


class FeedForward(nn.Module):
    """Two projections with a nonlinearity between them, at every position by itself.

    Args:
        width: D.
        hidden_width: M.
        activation: ``gelu`` (Hendrycks & Gimpel 2016), ``gelu_tanh`` (its approximation, as in GPT-2), ``relu2``
            (the square of ReLU; So et al. 2021), or ``swiglu`` (Shazeer 2020), whose gate is a third matrix, fused
            with the first.
        bias: whether projections have a bias.
    """

    def __init__(self, width: int, hidden_width: int, activation: Activation, bias: bool) -> None:
        super().__init__()
        self.activation = activation
        self.up = nn.Linear(width, 2 * hidden_width if activation == "swiglu" else hidden_width, bias=bias)
        self.down = nn.Linear(hidden_width, width, bias=bias)

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """Transform [B, T, D]; returns [B, T, D]."""
        inner = self.up(hidden_BTD)
        if self.activation == "swiglu":
            gate, inner = inner.chunk(2, dim=-1)
            return self.down(F.silu(gate) * inner)
        if self.activation == "relu2":
            return self.down(F.relu(inner).square())
        return self.down(F.gelu(inner, approximate="tanh" if self.activation == "gelu_tanh" else "none"))


class Block(nn.Module):
    """Attention, then feed-forward, each added to a residual stream that is normalised on the way in only (pre-norm).

    Args:
        attention: mixes positions.
        mlp: transforms each position.
        norm: which normalization.
        norm_epsilon: its epsilon.
        bias: whether a layer norm has a bias.
        dropout: probability of dropping what is added to the residual stream.
    """

    def __init__(
        self, attention: SelfAttention, mlp: FeedForward, norm: Norm, norm_epsilon: float, bias: bool, dropout: float
    ) -> None:
        super().__init__()
        width = mlp.down.out_features
        self.attention_norm = make_norm(norm, width, norm_epsilon, bias)
        self.attention = attention
        self.mlp_norm = make_norm(norm, width, norm_epsilon, bias)
        self.mlp = mlp
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, hidden_BTD: Tensor, pattern: Pattern, rotation: Rotation | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """Add to the residual stream [B, T, D]; returns [B, T, D]."""
        mixed = self.attention(self.attention_norm(hidden_BTD), pattern, rotation, cache)
        hidden_BTD = hidden_BTD + self.dropout(mixed)
        return hidden_BTD + self.dropout(self.mlp(self.mlp_norm(hidden_BTD)))

    def residual_projections(self) -> list[nn.Linear]:
        """The matrices that write to the residual stream, which initialization treats apart."""
        return [self.attention.output, self.mlp.down]
