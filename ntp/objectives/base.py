"""What an objective is: a corruption of rows, and a loss.

Nothing outside an objective's own file knows its name. The data module calls `corrupt`, the Lightning module calls
`loss` and divides once, and everything else reads the class facts `attention`, `likelihood` and `inference`.

Legend: L positions of a row, B rows, N targets, D width, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

from torch import Tensor, nn

from ntp.data.example import Attention, Batch, Draw, Example, Row

Likelihood = Literal["exact", "bound", "pseudo", "none"]
"""What the loss says of the text: its negative log-likelihood, an upper bound of it, something else, or nothing."""

Inference = Literal["continue", "infill"]


@dataclass(frozen=True)
class Context:
    """What an objective may know of the run it is part of.

    Attributes:
        sequence_length: positions of a row.
        vocabulary_size: ids that the tokenizer has.
        special_ids: id of each special token that the tokenizer has, by its text.
        width: width of the model's hidden states, for objectives with heads of their own.
        seed: the run's seed.
    """

    sequence_length: int
    vocabulary_size: int
    special_ids: dict[str, int]
    width: int
    seed: int


class Scorer(Protocol):
    """What an objective may ask of a model."""

    def __call__(
        self,
        tokens: Tensor,
        /,
        *,
        attention: Attention,
        order: Tensor | None,
        segments: Tensor | None,
        private: Tensor | None,
        positions: Tensor | None,
    ) -> Tensor:
        """Hidden states [B, L, D] after the last norm."""
        ...

    def token_nll(self, hidden: Tensor, targets: Tensor, /) -> Tensor:
        """Negative log-likelihood in nats, float32 [N], of targets [N] at hidden states [N, D]."""
        ...


@dataclass
class LossTerms:
    """Sums and counts, never means: only the Lightning module divides, by the count over all ranks and micro-batches.

    Attributes:
        sum: scalar float32, connected to the graph even without any target.
        count: what to divide by. A Python number where the host knows it, so that no step waits for the device.
        bytes: UTF-8 bytes of the text that ``sum`` is about, for bits per byte.
        metrics: further (sum, count) pairs by name; logged as ``train/<name>`` and ``val/<name>``.
    """

    sum: Tensor
    count: int | Tensor
    bytes: int | Tensor
    metrics: dict[str, tuple[Tensor, int | Tensor]] = field(default_factory=dict)


class Objective(nn.Module, ABC):
    """Base class of all objectives: subclass it, and write one YAML file that names the subclass as ``_target_``.

    An objective is a Module because some own heads. `corrupt` runs in the processes that load data and may use only
    numpy, its arguments and what `bind` stored.
    """

    attention: ClassVar[Attention]
    """The cheapest kernel that obeys the rule of visibility for rows of this objective."""

    likelihood: ClassVar[Likelihood]
    """What the loss says of the text."""

    inference: ClassVar[frozenset[Inference]] = frozenset()
    """What a model trained so can do by its native means."""

    lookahead: int = 0
    """Tokens at the end of a raw row that are only predicted, never read; neighbouring rows overlap by so many."""

    def special_tokens(self) -> tuple[str, ...]:
        """Special tokens that the tokenizer must have; see `ntp.data.special_tokens`."""
        return ()

    def raw_length(self, sequence_length: int) -> int:
        """How many corpus tokens, lookahead included, make one row of ``sequence_length`` positions."""
        return sequence_length + self.lookahead

    def bind(self, context: Context) -> None:
        """Learn about the run: ids of special tokens, sizes; build own heads. Called once, before anything else."""

    @abstractmethod
    def corrupt(self, row: Row, draw: Draw) -> Example:
        """Make a training example of a row. Pure: equal arguments give equal examples.

        Args:
            row: at most ``raw_length`` tokens; a corpus may end, and so may a document, after a single one.
            draw: the row's own randomness.

        Returns:
            An example of at most ``sequence_length`` positions; the data module pads.
        """

    def loss(self, model: Scorer, batch: Batch) -> LossTerms:
        """Summed loss of a micro-batch. The default is the weighted cross-entropy of all targets.

        The head runs only where there is a target, so that masked LM pays for 15% of it.
        """
        hidden_BLD = model(
            batch.tokens,
            attention=batch.attention,
            order=batch.order,
            segments=batch.segments,
            private=batch.private,
            positions=batch.positions,
        )
        hidden_ND, targets_N = hidden_BLD.flatten(0, 1), batch.targets.flatten()
        if batch.target_index is not None:
            hidden_ND, targets_N = hidden_ND[batch.target_index], targets_N[batch.target_index]
        nll_N = model.token_nll(hidden_ND, targets_N)
        if batch.weights is not None:
            weights_N = batch.weights.flatten()
            nll_N = nll_N * (weights_N if batch.target_index is None else weights_N[batch.target_index])
        return LossTerms(sum=nll_N.sum(), count=batch.target_count, bytes=batch.target_bytes)
