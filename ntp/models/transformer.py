"""The Transformer: a decoder, an encoder, or anything between, as the rule of attention says.

It reads tokens and gives hidden states; `Transformer.logits` and `Transformer.token_nll` are separate, because a
loss needs them at the positions that have a target and nowhere else. Nothing is shifted here: the hidden state of
position i predicts whatever the target of position i is.

Legend: B rows, L positions of a row, D width, K query heads, G key and value heads, H width of a head, M width of
the feed-forward network, N targets, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn

from ntp.config.errors import ConfigError
from ntp.config.types import PositiveFloat, PositiveInt, Probability
from ntp.data.example import Attention
from ntp.models import flops, head
from ntp.models.base import LanguageModel
from ntp.models.blocks import Activation, default_mlp_width
from ntp.models.cache import KVCache, check_continues
from ntp.models.checks import check_choice, check_heads
from ntp.models.initialization import Init, Streams, initialize
from ntp.models.normalization import Norm
from ntp.models.positions import LearnedPositions, sinusoidal
from ntp.models.stack import Positions, Stack


class Transformer(LanguageModel):
    """A pre-norm Transformer (Vaswani et al. 2017; GPT-2, Radford et al. 2019; Llama, Touvron et al. 2023).

    Args:
        vocabulary_size: V, how many token ids there are; in a config, null means the tokenizer's.
        width: D, channels of the residual stream.
        layers: how many blocks.
        heads: K, query heads; each is width / heads channels wide.
        kv_heads: G, key and value heads, each shared by heads / kv_heads query heads (Ainslie et al. 2023); None
            means as many as heads.
        mlp_width: M, channels inside the feed-forward network; None means 4 * width or, for SwiGLU and GEGLU with
            their third matrix, 8/3 * width rounded to a multiple of 64.
        norm: normalization before attention, before the feed-forward network, and after the last block.
        norm_epsilon: added to the mean square (or the variance) before its root is taken.
        activation: nonlinearity of the feed-forward network.
        positions: how the model knows where a token stands.
        rotary_base: rotary wavelengths run from 2 pi positions to about 2 pi times this.
        relative_buckets: ranges of distance with a trained bias each, in relative positions (arXiv 1910.10683, section
            2.1). Past and future have half of them each, whatever the attention, so that a prompt may be read in
            full and continued.
        relative_max_distance: the last range holds all distances from here on.
        context_length: rows of the table of learned positions, which need it; a fact about the model otherwise.
        qk_norm: whether queries and keys are normalised, per head.
        tie_embeddings: whether the head uses the token embeddings as its weights (Press & Wolf 2017).
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

    def __init__(
        self,
        vocabulary_size: PositiveInt | None = None,
        width: PositiveInt = 128,
        layers: PositiveInt = 4,
        heads: PositiveInt = 4,
        kv_heads: PositiveInt | None = None,
        mlp_width: PositiveInt | None = None,
        norm: Norm = "rmsnorm",
        norm_epsilon: PositiveFloat = 1e-5,
        activation: Activation = "swiglu",
        positions: Positions = "rotary",
        rotary_base: PositiveFloat = 10000.0,
        relative_buckets: PositiveInt = 32,
        relative_max_distance: PositiveInt = 128,
        context_length: PositiveInt | None = None,
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
        check_choice("model.positions", positions, get_args(Positions))
        check_choice("model.init", init, get_args(Init))
        check_heads(width, heads, kv_heads, None, positions == "rotary")
        if positions == "learned" and context_length is None:
            raise ConfigError("model.context_length", "learned positions need it; the value of data.sequence_length")
        if mlp_width is None:
            mlp_width = default_mlp_width(width, activation)

        self.vocabulary_size, self.width = vocabulary_size, width
        self.context_length = context_length if positions == "learned" else None
        self.positions, self.position_std = positions, init_std
        self.logit_softcap = logit_softcap
        self._make: dict[str, Any] = {
            "width": width,
            "heads": heads,
            "kv_heads": kv_heads,
            "mlp_width": mlp_width,
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

        streams = Streams.begin()
        self.token_embedding = nn.Embedding(vocabulary_size, width)
        self.position_embedding: LearnedPositions | None = None
        if positions == "learned" and context_length is not None:
            self.position_embedding = LearnedPositions(context_length, width)
        self.embedding_dropout = nn.Dropout(dropout)
        self.head = None if tie_embeddings else nn.Linear(width, vocabulary_size, bias=False)
        initialize(self, (), init, init_std, streams)
        self.stack = Stack(layers=layers, streams=streams.within("stack"), **self._make)

    @property
    def output_weight(self) -> Tensor:
        """The weights of the head, [V, D]: those of the token embeddings if the two are tied."""
        return self.token_embedding.weight if self.head is None else self.head.weight

    @property
    def layers(self) -> Sequence[nn.Module]:
        """The blocks."""
        return list(self.stack.blocks)

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
        """Read rows of tokens.

        Args:
            tokens_BL: [B, L] int64.
            attention: who sees whom: ``causal``, ``full``, or as ``order`` and ``private`` say, ``prefix`` or
                ``ordered``.
            order: [B, L] int64 visibility rank, for ``prefix`` and ``ordered`` only.
            segments: [B, L] int64 document of each position, -1 for padding; nothing attends across it. None for one
                document.
            private: [B, L] bool, seen only by positions of equal order, for ``ordered`` only. None for none.
            positions: [B, L] int64, what the positional encoding sees. None counts from 0, or on from the cache.
            cache: the past of these rows; the tokens continue it and are added to it. What is added to an empty one may
                be read with full attention, as a prompt; what continues it is read causally and sees all of it.

        Returns:
            Hidden states after the final norm, [B, L, D].

        Raises:
            ConfigError: the rows are longer than the table of learned positions.
            ValueError: the tensors do not go with the attention, or the attention with the cache.
        """
        if cache is not None:
            check_continues(cache, attention, order, segments, private, positions)
        if positions is None:
            past = 0 if cache is None else cache.length
            end = past + tokens_BL.shape[1]
            if self.position_embedding is not None:
                self.position_embedding.check_length(end)
            positions = torch.arange(past, end, device=tokens_BL.device)[None]
        return self.stack(
            self.embed(tokens_BL, positions),
            attention=attention,
            order=order,
            segments=segments,
            private=private,
            positions=positions,
            cache=cache,
        )

    def embed(self, tokens_BL: Tensor, positions: Tensor | None = None) -> Tensor:
        """What the stack reads: token embeddings [B, L, D], with learned or sinusoidal positions added."""
        if positions is None:
            positions = torch.arange(tokens_BL.shape[1], device=tokens_BL.device)[None]
        hidden_BLD = self.token_embedding(tokens_BL)
        if self.position_embedding is not None:
            hidden_BLD = hidden_BLD + self.position_embedding(positions)
        elif self.positions == "sinusoidal":
            # Scaled to the size of the token embeddings; the paper scales those up instead, to the same ratio.
            hidden_BLD = hidden_BLD + (self.position_std * sinusoidal(positions, self.width)).to(hidden_BLD.dtype)
        return self.embedding_dropout(hidden_BLD)

    def make_stack(self, layers: int, width: int | None = None) -> Stack:
        """Blocks like this model's own, with fresh weights; narrower ones have fewer heads of about the same width."""
        if width is None or width == self.width:
            return Stack(layers=layers, **self._make)
        heads = max(1, round(self._make["heads"] * width / self.width))
        while width % heads or (self.positions == "rotary" and width // heads % 2):
            heads -= 1
            if not heads:
                raise ConfigError("objective", f"rotary positions turn pairs of channels; {width} of them make none")
        mlp_width = max(1, round(self._make["mlp_width"] * width / self.width))
        narrow = {"width": width, "heads": heads, "kv_heads": heads, "mlp_width": mlp_width}
        return Stack(layers=layers, **(self._make | narrow))

    def logits(self, hidden: Tensor) -> Tensor:
        """Score every token of the vocabulary: hidden states [..., D] to [..., V] float32."""
        return head.logits(hidden, self.output_weight, self.logit_softcap)

    def token_nll(self, hidden_ND: Tensor, targets_N: Tensor, *, excluded: int | None = None) -> Tensor:
        """Negative log-likelihood in nats of each target: [N, D] and [N] int64 to [N] float32; N may be 0."""
        return head.token_nll(hidden_ND, self.output_weight, targets_N, self.logit_softcap, excluded=excluded)

    def forward_flops(self, length: int, targets: int) -> int:
        """Matrix FLOPs of reading one row of ``length`` positions and scoring ``targets`` of them."""
        return self.stack.forward_flops(length) + flops.head_flops(self.width, self.vocabulary_size, targets)
