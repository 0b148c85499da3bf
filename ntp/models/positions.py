"""How a model knows where a token stands.

Six ways, each entering the Transformer at a different place: *learned* and *sinusoidal* vectors are added to the
token embeddings, *rotary* turns queries and keys, *alibi* and *relative* bias the attention scores (by a rule, and by
a trained table), and *none* leaves it to the causal mask. All of them read integer positions, which restart in every
segment of a packed row and may repeat.

Nothing here is a cached table. Angles are computed from the positions once per forward, in float32, and shared by
all layers: a few operations on [L, H] numbers, against a buffer that ``model.to(bfloat16)`` would round, that would
have to grow, and that positions out of its range would overrun.

Legend: B rows (1 when all rows share their positions), T query positions, S key positions, L positions of a row,
D width, K heads, H width of a head.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ntp.config.errors import ConfigError


class LearnedPositions(nn.Module):
    """One trained vector for each position (GPT, Radford et al. 2018).

    Args:
        context_length: rows of the table; no longer row can be read.
        width: D.
    """

    def __init__(self, context_length: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(context_length, width)

    def check_length(self, length: int) -> None:
        """Refuse a row that is longer than the table, going by its shape so that no device has to be waited for.

        Raises:
            ConfigError: naming the longest row that can be read.
        """
        if length > self.table.num_embeddings:
            raise ConfigError(
                "data.sequence_length",
                f"a row of {length} positions does not fit the model's {self.table.num_embeddings} learned positions "
                f"(model.context_length); the largest right value is {self.table.num_embeddings}",
            )

    def forward(self, positions_BL: Tensor) -> Tensor:
        """Look up [B, L] positions; returns [B, L, D]."""
        return self.table(positions_BL)


def sinusoidal(positions_BL: Tensor, width: int) -> Tensor:
    """Sines and cosines of geometrically spaced wavelengths (Vaswani et al. 2017, section 3.5).

    The sines fill the first half of the channels and the cosines the second, as in the authors' code.

    Returns:
        [B, L, D] float32, of mean square 1/2.
    """
    half = (width + 1) // 2
    frequencies = 10000.0 ** -(torch.arange(half, device=positions_BL.device, dtype=torch.float32) / half)
    angles = positions_BL[..., None].float() * frequencies
    return torch.cat((angles.sin(), angles.cos()), dim=-1)[..., :width]


class Rotation(NamedTuple):
    """The angles of one forward, ready to be multiplied with [B, T, K, H]: both are [B, T, 1, H] float32.

    ``sin`` carries the sign of the rotation: its first half is negated.
    """

    cos: Tensor
    sin: Tensor


def rotary(positions_BT: Tensor, head_width: int, base: float) -> Rotation:
    """The angles by which rotary embeddings turn each channel pair (Su et al. 2021, section 3.2).

    Channel h is paired with channel h + H/2, as GPT-NeoX and Llama do it; pair h turns by
    ``position * base ** (-2h / H)``.

    Args:
        positions_BT: [B, T] int.
        head_width: H, even.
        base: 10000 in the paper; larger values turn slower and suit longer contexts.
    """
    channel = torch.arange(0, head_width, 2, device=positions_BT.device, dtype=torch.float32)
    angles = positions_BT[..., None, None].float() * base ** -(channel / head_width)
    cos, sin = angles.cos(), angles.sin()
    return Rotation(torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1))


def rotate(heads_BTKH: Tensor, rotation: Rotation) -> Tensor:
    """Turn each pair of channels by its angle; computed in float32, returned in the dtype of the input."""
    swapped = heads_BTKH.roll(heads_BTKH.shape[-1] // 2, dims=-1)
    return torch.addcmul(heads_BTKH * rotation.cos, swapped, rotation.sin).to(heads_BTKH.dtype)


class Alibi(NamedTuple):
    """Attention scores that fall off linearly with distance (Press et al. 2022).

    The paper is causal; here the bias is ``-slope * |i - j|``, which agrees with it for the past and treats the
    future of a bidirectional model alike.

    Attributes:
        slopes: [K] float32.
        queries: [B, T] int, positions of the queries.
        keys: [B, S] int, positions of the keys.
    """

    slopes: Tensor
    queries: Tensor
    keys: Tensor

    def bias(self) -> Tensor:
        """What is added to the scores: [B, K, T, S] float32."""
        distance_BTS = (self.queries[:, :, None] - self.keys[:, None, :]).abs()
        return -self.slopes[:, None, None] * distance_BTS[:, None]


def alibi_slopes(heads: int, device: torch.device) -> Tensor:
    """The slope of every head: [K] float32.

    A geometric sequence from ``2 ** (-8 / K)`` to ``2 ** -8``. When K is not a power of two, every other slope of
    the next power of two fills up the sequence of the one below (the authors' code, footnote 5 of the paper).
    """

    def geometric(count: int) -> Tensor:
        return torch.exp2(torch.arange(1, count + 1, device=device, dtype=torch.float32) * (-8.0 / count))

    power = 1 << (heads.bit_length() - 1)
    return torch.cat((geometric(power), geometric(2 * power)[::2][: heads - power]))


class RelativePositions(nn.Module):
    """A trained bias of the attention scores for each head and each range of distances (T5, arXiv 1910.10683, 2.1).

    Half of the ranges of one direction hold a single distance each, from 0 on; the others grow geometrically up to
    ``max_distance``, and the last holds everything beyond.

    Args:
        heads: K.
        buckets: how many ranges.
        max_distance: where the last range begins.
        bidirectional: whether past and future have half of the ranges each; otherwise all are the past's and the
            future is taken for distance 0.

    Raises:
        ConfigError: the ranges do not come out.
    """

    def __init__(self, heads: int, buckets: int, max_distance: int, bidirectional: bool) -> None:
        super().__init__()
        exact = buckets // (4 if bidirectional else 2)
        if buckets < 4 or buckets % 2:
            raise ConfigError(
                "model.relative_buckets", f"{buckets} is not an even number from 4 on; take {max(4, buckets + 1)}"
            )
        if max_distance <= exact:
            raise ConfigError(
                "model.relative_max_distance",
                f"{max_distance} is not beyond the {exact} distances that have a bucket of their own; "
                f"take at least {exact + 1}",
            )
        self.max_distance, self.bidirectional = max_distance, bidirectional
        self.table = nn.Embedding(buckets, heads)

    def bucket(self, distance: Tensor) -> Tensor:
        """The range, an int64 in [0, buckets), of each distance from a query to a key (negative in the past)."""
        buckets = self.table.num_embeddings
        if self.bidirectional:
            buckets //= 2
            future = (distance > 0) * buckets
            distance = distance.abs()
        else:
            future = torch.zeros_like(distance)
            distance = (-distance).clamp(min=0)
        exact = buckets // 2
        # Float32 and this order of operations decide where a range ends; trained weights depend on it.
        growth = torch.log(distance.clamp(min=exact).float() / exact) / math.log(self.max_distance / exact)
        beyond = (exact + (growth * (buckets - exact)).long()).clamp(max=buckets - 1)
        return future + torch.where(distance < exact, distance, beyond)

    def forward(self, queries_BT: Tensor, keys_BS: Tensor) -> Tensor:
        """What is added to the scores: [B, K, T, S], for positions [B, T] and [B, S]; B is 1 when rows share them."""
        bias_BTSK = self.table(self.bucket(keys_BS[:, None, :] - queries_BT[:, :, None]))
        return bias_BTSK.permute(0, 3, 1, 2).contiguous()
