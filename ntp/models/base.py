"""What the rest of ntp may ask of any model."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from ntp.data.example import Attention
from ntp.models.cache import KVCache


class LanguageModel(nn.Module, ABC):
    """A model that reads tokens and scores targets. Subclass it to bring another architecture.

    Attributes:
        vocabulary_size: V, ids that the head scores.
        width: D, channels of a hidden state.
        context_length: the longest row that it can read; None for any.

    Legend: B rows, L positions of a row, D width, N targets, V vocabulary.
    """

    vocabulary_size: int
    width: int
    context_length: int | None

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
        """Hidden states [B, L, D] after the last norm; the fields are those of `ntp.data.example.Batch`."""

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """Scores [..., V] float32 of hidden states [..., D]."""

    @abstractmethod
    def token_nll(self, hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
        """Negative log-likelihood in nats, [N] float32, of targets [N] int64 at hidden states [N, D]; N may be 0."""

    @abstractmethod
    def forward_flops(self, length: int, targets: int) -> int:
        """Matrix FLOPs of one row of ``length`` positions, ``targets`` of which go through the head."""
