"""What the rest of ntp may ask of any model."""

from abc import ABC, abstractmethod
from collections.abc import Sequence, Set
from typing import ClassVar, get_args

from torch import Tensor, nn

from ntp.config.errors import ConfigError
from ntp.data.example import Attention, Tally
from ntp.models.cache import KVCache


class LanguageModel(nn.Module, ABC):
    """A model that reads tokens and scores targets. Subclass it to bring another architecture.

    Attributes:
        vocabulary_size: V, ids that the head scores.
        width: D, channels of a hidden state.
        context_length: the longest row that it can read; None for any.
        attentions: kinds of attention that it can serve.

    Legend: B rows, L positions of a row, D width, N targets, V vocabulary.
    """

    vocabulary_size: int
    width: int
    context_length: int | None
    attentions: ClassVar[Set[Attention]] = frozenset(get_args(Attention))

    @abstractmethod
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
        """Hidden states [B, L, D] after the last norm; the fields are those of `ntp.data.example.Batch`.

        With a cache there are no order, segments, private or positions. What an empty cache is given is a prompt, read
        causally or in full, as the model is able to; what a cache that holds something is given continues it causally
        and sees all that it holds. The last of the hidden states predicts what comes next.
        """

    @property
    def layers(self) -> Sequence[nn.Module]:
        """What makes hidden states of hidden states, from the first to the last; empty where a model does not tell.

        Each gives [B, S, D] for the first S positions of rows that are only read, padding behind them left out or not.
        """
        return ()

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """Scores [..., V] float32 of hidden states [..., D]."""

    @abstractmethod
    def token_nll(self, hidden_ND: Tensor, targets_N: Tensor, *, excluded: int | None = None) -> Tensor:
        """Negative log-likelihood in nats, [N] float32, of targets [N] int64 at hidden states [N, D]; N may be 0.

        ``excluded`` is an id that is never predicted: its probability is 0.
        """

    @abstractmethod
    def forward_flops(self, length: int, targets: int) -> int:
        """Matrix FLOPs of one row of ``length`` positions, ``targets`` of which go through the head."""

    def row_flops(self, length: int, row: Tally) -> int:
        """Those of a row of a batch, of ``length`` positions with padding; as it would be in a batch of its own."""
        return self.forward_flops(length, row.targets)

    def embed(self, tokens_BL: Tensor, positions: Tensor | None = None) -> Tensor:
        """What the first block reads, [B, L, D], for objectives with layers of their own.

        Raises:
            ConfigError: this model does not offer it.
        """
        raise ConfigError("model", f"{type(self).__name__} shares no embeddings, which this objective needs")

    def make_stack(self, layers: int, width: int | None = None) -> nn.Module:
        """Blocks like this model's own, with fresh weights, for objectives with layers of their own.

        Args:
            layers: how many.
            width: D; None for the model's.

        Returns:
            A module that takes hidden states [B, L, D] and the keywords of `forward`, and returns [B, L, D] after a
            norm of its own; see `ntp.models.stack.Stack`.

        Raises:
            ConfigError: this model does not offer it.
        """
        raise ConfigError("model", f"{type(self).__name__} lends no blocks, which this objective needs")
