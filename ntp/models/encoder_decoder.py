"""The encoder-decoder, in the shape of T5 (arXiv 1910.10683): one stack reads the source, another writes the target.

It reads the same rows as a decoder, rows of ``prefix`` attention: in every segment the positions of order 0 are the
source and the others the target. The last position of a source is the one that predicts the first target, so the
decoder is given it too, as what it starts from. A source that ends in the end-of-text token starts the decoder with it,
where T5 has a start token of its own.

Each stack reads only what is its own: the positions of the sources are gathered into shorter rows, and so are those
that the decoder reads, and their hidden states are put back to where they came from.

Legend: B rows, L positions of a row, S positions of a row of sources, T positions of a row of the decoder, D width, K
query heads, G key and value heads, H width of a head, M width of the feed-forward network, N targets, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from ntp.config.errors import ConfigError
from ntp.config.types import PositiveFloat, PositiveInt, Probability
from ntp.data.collate import PADDING_SEGMENT
from ntp.data.example import Attention, Tally
from ntp.models import flops, head
from ntp.models.attention import Pattern
from ntp.models.base import LanguageModel
from ntp.models.blocks import Activation, Memory, default_mlp_width
from ntp.models.cache import KVCache, check_continues
from ntp.models.checks import check_choice, check_heads
from ntp.models.initialization import Init, Streams, initialize
from ntp.models.normalization import Norm
from ntp.models.stack import Stack

_ROUNDING = 16
"""Sizes of ragged batches are rounded up to a multiple of this, so that kernels meet fewer different shapes."""


class EncoderDecoder(LanguageModel):
    """A pre-norm Transformer of an encoder and a decoder (T5, Raffel et al. 2020; v1.1, Shazeer 2020).

    Args:
        vocabulary_size: V, how many token ids there are; in a config, null means the tokenizer's.
        width: D, channels of the residual streams.
        encoder_layers: blocks of the encoder.
        decoder_layers: blocks of the decoder, each with attention to the source.
        heads: K, query heads.
        head_width: H, channels of a head; None means width / heads.
        kv_heads: G, key and value heads, each shared by heads / kv_heads query heads (Ainslie et al. 2023); None
            means as many as heads.
        mlp_width: M, channels inside the feed-forward network; None means 4 * width or, for SwiGLU and GEGLU with
            their third matrix, 8/3 * width rounded to a multiple of 64.
        norm: normalization before attention, before the feed-forward network, and after the last block of a stack.
        norm_epsilon: added to the mean square (or the variance) before its root is taken.
        activation: nonlinearity of the feed-forward network.
        positions: how the model knows where a token stands. Attention to the source knows nothing of it.
        rotary_base: rotary wavelengths run from 2 pi positions to about 2 pi times this.
        relative_buckets: ranges of distance with a trained bias each, in relative positions (section 2.1). All blocks
            of a stack share them; in the encoder half of them are for the future.
        relative_max_distance: the last range holds all distances from here on.
        qk_norm: whether queries and keys are normalised, per head.
        tie_embeddings: whether the head uses the token embeddings as its weights (Press & Wolf 2017). Encoder and
            decoder always share theirs.
        bias: whether linear layers and layer norms have a bias; the head has none.
        dropout: probability of dropping an embedding, an attention weight, or an addition to the residual stream.
        logit_softcap: squash logits smoothly into (-softcap, softcap); None leaves them alone.
        init: ``gpt2``, or ``zero_output`` to start every block as the identity.
        init_std: standard deviation of initial weights.
        activation_checkpointing: whether the backward pass computes each block again instead of remembering it:
            less memory, about a third more time.

    Raises:
        ConfigError: the values do not fit together.
    """

    attentions: ClassVar[frozenset[Attention]] = frozenset({"prefix"})

    def __init__(
        self,
        vocabulary_size: PositiveInt | None = None,
        width: PositiveInt = 128,
        encoder_layers: PositiveInt = 2,
        decoder_layers: PositiveInt = 2,
        heads: PositiveInt = 4,
        head_width: PositiveInt | None = None,
        kv_heads: PositiveInt | None = None,
        mlp_width: PositiveInt | None = 256,
        norm: Norm = "rmsnorm",
        norm_epsilon: PositiveFloat = 1e-6,
        activation: Activation = "geglu",
        positions: Literal["relative", "rotary"] = "relative",
        rotary_base: PositiveFloat = 10000.0,
        relative_buckets: PositiveInt = 32,
        relative_max_distance: PositiveInt = 128,
        qk_norm: bool = False,
        tie_embeddings: bool = True,
        bias: bool = False,
        dropout: Probability = 0.0,
        logit_softcap: PositiveFloat | None = None,
        init: Init = "gpt2",
        init_std: PositiveFloat = 0.02,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        kv_heads = heads if kv_heads is None else kv_heads
        if vocabulary_size is None:
            raise ConfigError("model.vocabulary_size", "is null and there is no tokenizer to take it from; give it")
        check_choice("model.norm", norm, get_args(Norm))
        check_choice("model.activation", activation, get_args(Activation))
        check_choice("model.positions", positions, ("relative", "rotary"))
        check_choice("model.init", init, get_args(Init))
        check_heads(width, heads, kv_heads, head_width, positions == "rotary")

        self.vocabulary_size, self.width, self.context_length = vocabulary_size, width, None
        self.logit_softcap = logit_softcap
        streams = Streams.begin()
        self.token_embedding = nn.Embedding(vocabulary_size, width)
        self.embedding_dropout = nn.Dropout(dropout)
        self.head = None if tie_embeddings else nn.Linear(width, vocabulary_size, bias=False)
        initialize(self, (), init, init_std, streams)
        make: dict[str, Any] = {
            "width": width,
            "heads": heads,
            "head_width": head_width,
            "kv_heads": kv_heads,
            "mlp_width": default_mlp_width(width, activation) if mlp_width is None else mlp_width,
            "norm": norm,
            "norm_epsilon": norm_epsilon,
            "activation": activation,
            "qk_norm": qk_norm,
            "bias": bias,
            "dropout": dropout,
            "positions": positions,
            "rotary_base": rotary_base,
            "relative_buckets": relative_buckets,
            "relative_max_distance": relative_max_distance,
            "init": init,
            "init_std": init_std,
            "activation_checkpointing": activation_checkpointing,
        }
        self.encoder = Stack(layers=encoder_layers, streams=streams.within("encoder"), **make)
        make |= {"cross_attention": True, "relative_bidirectional": False}
        self.decoder = Stack(layers=decoder_layers, streams=streams.within("decoder"), **make)

    @property
    def output_weight(self) -> Tensor:
        """The weights of the head, [V, D]: those of the token embeddings if the two are tied."""
        return self.token_embedding.weight if self.head is None else self.head.weight

    @property
    def layers(self) -> Sequence[nn.Module]:
        """The blocks of the encoder: a text that is only read is a source."""
        return list(self.encoder.blocks)

    def forward(
        self,
        tokens_BL: Tensor,
        *,
        attention: Attention = "causal",
        order: Tensor | None = None,
        segments: Tensor | None = None,
        private: Tensor | None = None,
        positions: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Read rows of sources and targets, or a source and then, step by step, its target.

        On an accelerator a forward without a cache waits once for the device, to learn how long its rows are. It does
        not where ``order`` and ``segments`` are on the host.

        Args:
            tokens_BL: [B, L] int64.
            attention: ``prefix``. With an empty cache ``full``, for prompts that are sources as a whole; with one that
                holds a source ``causal``.
            order: [B, L] int64, 0 for a source, which comes first in its segment, and then 1, 2, 3 ...
            segments: [B, L] int64 document of each position, -1 for padding; nothing attends across it. None for one
                document.
            private: None.
            positions: [B, L] int64. Only distances within a source, and within what the decoder reads, matter. None
                counts along the row, or on from the cache.
            cache: the past of these rows; the tokens continue it and are added to it.

        Returns:
            Hidden states after the final norm, [B, L, D]: the decoder's for targets and for the last position of each
            source, the encoder's for the rest of the sources, and 0 for padding.

        Raises:
            ValueError: the tensors do not go with the attention, or the attention with the model or the cache.
        """
        if cache is not None:
            check_continues(cache, attention, order, segments, private, positions)
            return self._continue(tokens_BL, attention, cache)
        if attention != "prefix":
            raise ValueError(f"an encoder-decoder reads a source and a target, attention='prefix', not {attention}")
        if order is None:
            raise ValueError("prefix attention needs an order")
        if private is not None:
            raise ValueError("prefix attention takes no private; use attention='ordered'")

        layout = lay_out(order.expand(tokens_BL.shape), None if segments is None else segments.expand(tokens_BL.shape))
        layout = layout.to(tokens_BL.device)
        read_BS, read_BT = layout.encoder.read, layout.decoder.read
        encoded_BSD = self.encoder(
            self._embed(tokens_BL.gather(1, read_BS)),
            attention="full",
            segments=layout.encoder.segments,
            positions=None if positions is None else positions.expand(tokens_BL.shape).gather(1, read_BS),
        )
        decoded_BTD = self.decoder(
            self._embed(tokens_BL.gather(1, read_BT)),
            attention="causal",
            segments=layout.decoder.segments,
            positions=None if positions is None else positions.expand(tokens_BL.shape).gather(1, read_BT),
            memory=Memory(encoded_BSD, Pattern(mask=layout.seen), layout.blind),
        )
        nothing_B1D = decoded_BTD.new_zeros(tokens_BL.shape[0], 1, self.width)
        hidden = torch.cat((encoded_BSD, decoded_BTD, nothing_B1D), dim=1)
        return hidden.gather(1, layout.place[:, :, None].expand(-1, -1, self.width))

    def _continue(self, tokens_BT: Tensor, attention: Attention, cache: KVCache) -> Tensor:
        if attention == "causal":
            if not cache.length:
                raise ValueError("an encoder-decoder begins with its source: attention='full' with an empty cache")
            return self.decoder(self._embed(tokens_BT), cache=cache, memory=Memory(None, Pattern()))
        encoded_BSD = self.encoder(self._embed(tokens_BT), attention="full")
        before = tokens_BT.shape[1] - 1
        decoded_B1D = self.decoder(
            self._embed(tokens_BT[:, -1:]),
            positions=torch.full((1, 1), before, device=tokens_BT.device),
            cache=cache,
            memory=Memory(encoded_BSD, Pattern()),
        )
        cache.seal(before)
        return torch.cat((encoded_BSD[:, :-1], decoded_B1D), dim=1)

    def _embed(self, tokens_BL: Tensor) -> Tensor:
        return self.embedding_dropout(self.token_embedding(tokens_BL))

    def logits(self, hidden: Tensor) -> Tensor:
        """Score every token of the vocabulary: hidden states [..., D] to [..., V] float32."""
        return head.logits(hidden, self.output_weight, self.logit_softcap)

    def token_nll(self, hidden_ND: Tensor, targets_N: Tensor, *, excluded: int | None = None) -> Tensor:
        """Negative log-likelihood in nats of each target: [N, D] and [N] int64 to [N] float32; N may be 0."""
        return head.token_nll(hidden_ND, self.output_weight, targets_N, self.logit_softcap, excluded=excluded)

    def forward_flops(self, length: int, targets: int) -> int:
        """Matrix FLOPs of reading one row of ``length`` positions and scoring ``targets`` of them.

        The decoder reads as many positions as there are targets, the last of the source among them.
        """
        sources = min(length, max(0, length - targets + 1))
        return (
            self.encoder.forward_flops(sources)
            + self.decoder.forward_flops(targets, sources)
            + flops.head_flops(self.width, self.vocabulary_size, targets)
        )

    def row_flops(self, length: int, row: Tally) -> int:
        """Those of a row of a batch: padding is left out, and several documents have several sources."""
        sources, decoded = max(1, row.sources), max(1, row.decoded)
        return (
            self.encoder.forward_flops(sources)
            + self.decoder.forward_flops(decoded, sources)
            + flops.head_flops(self.width, self.vocabulary_size, row.targets)
        )


class Part(NamedTuple):
    """What one of the two stacks reads.

    Attributes:
        read: [B, S or T] int64, which positions of the row; behind the last of a row any, as padding.
        segments: [B, S or T] int64, or None where nothing is to be hidden.
    """

    read: Tensor
    segments: Tensor | None


class Layout(NamedTuple):
    """How rows are taken apart and put together again.

    Attributes:
        encoder, decoder: what each reads.
        seen: [B, 1, T, S] bool, which positions of a source each one of the decoder sees; None for all.
        blind: [B, T or 1, 1] bool, positions of the decoder without any source, for which ``seen`` shows all; None when
            there are none.
        place: [B, L] int64, where the hidden state of each position of the row is among the S of the encoder, the T of
            the decoder, and one for padding.
    """

    encoder: Part
    decoder: Part
    seen: Tensor | None
    blind: Tensor | None
    place: Tensor

    def to(self, device: torch.device) -> "Layout":
        """The same on another device."""

        def moved(tensor: Tensor | None) -> Any:
            return None if tensor is None else tensor.to(device)

        encoder, decoder = (Part(*(moved(tensor) for tensor in part)) for part in (self.encoder, self.decoder))
        return Layout(encoder, decoder, moved(self.seen), moved(self.blind), moved(self.place))


def lay_out(order_BL: Tensor, segments_BL: Tensor | None = None) -> Layout:
    """Tell what the encoder and what the decoder is to read of rows of ``prefix`` attention.

    Args:
        order_BL: [B, L] int, 0 for the source.
        segments_BL: [B, L] int, -1 for padding; None for one document.
    """
    length = order_BL.shape[1]
    real_BL = torch.ones_like(order_BL, dtype=torch.bool) if segments_BL is None else segments_BL != PADDING_SEGMENT
    source_BL = real_BL & (order_BL == 0)
    goes_on = source_BL[:, 1:]
    if segments_BL is not None:
        goes_on = goes_on & (segments_BL[:, 1:] == segments_BL[:, :-1])
    last_BL = source_BL & ~nn.functional.pad(goes_on, (0, 1))
    decoded_BL = last_BL | (real_BL & ~source_BL)
    sources_B, decoded_B = source_BL.sum(1), decoded_BL.sum(1)
    several = torch.zeros_like(sources_B)
    if segments_BL is not None:
        least = torch.where(real_BL, segments_BL, torch.iinfo(segments_BL.dtype).max).amin(1)
        several = (torch.where(real_BL, segments_BL, PADDING_SEGMENT).amax(1) > least).long()
    # The one thing that the host has to be told.
    extremes = (*sources_B.aminmax(), *decoded_B.aminmax(), several.amax())
    fewest_sources, most_sources, fewest_decoded, most_decoded, packed = torch.stack(extremes).tolist()

    size_S = _size(fewest_sources, most_sources, length)
    size_T = _size(fewest_decoded, most_decoded, length)
    read_BS, real_BS = _first(source_BL, sources_B, size_S)
    read_BT, real_BT = _first(decoded_BL, decoded_B, size_T)
    segments_BS = segments_BT = seen = blind = None
    if packed and segments_BL is not None:
        segments_BS = torch.where(real_BS, segments_BL.gather(1, read_BS), PADDING_SEGMENT)
        segments_BT = torch.where(real_BT, segments_BL.gather(1, read_BT), PADDING_SEGMENT)
        seen = segments_BT[:, :, None] == segments_BS[:, None, :]
    elif fewest_sources < size_S:
        # Padding of the decoder stands behind what it reads, where the causal rule hides it.
        segments_BS = torch.where(real_BS, 0, PADDING_SEGMENT)
        seen = real_BS[:, None, :]
    if seen is not None:
        if packed or not fewest_sources:
            # A softmax over nothing is not a number, so these look at everything and what they see is dropped.
            blind = ~seen.any(-1, keepdim=True)
            seen = seen | blind
        seen = seen.expand(-1, size_T, -1)[:, None]

    place_BL = torch.where(source_BL, source_BL.cumsum(1) - 1, size_S + size_T)
    place_BL = torch.where(decoded_BL, size_S + decoded_BL.cumsum(1) - 1, place_BL)
    return Layout(Part(read_BS, segments_BS), Part(read_BT, segments_BT), seen, blind, place_BL)


def _size(fewest: int, most: int, length: int) -> int:
    """Positions of a gathered row; rows that are all alike are not padded."""
    return max(1, most) if fewest == most else min(length, -(-most // _ROUNDING) * _ROUNDING)


def _first(chosen_BL: Tensor, count_B: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Where the chosen positions are, [B, size] int64, and which of these there are, [B, size] bool."""
    read = (~chosen_BL).byte().argsort(dim=1, stable=True)[:, :size]
    return read, torch.arange(size, device=chosen_BL.device) < count_B[:, None]
