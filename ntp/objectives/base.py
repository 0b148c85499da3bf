"""What an objective is: a corruption of rows, and a loss.

Nothing outside an objective's own file knows its name. The data module calls `corrupt`, the Lightning module calls
`loss` and divides once, and everything else reads the class facts `attention`, `likelihood` and `inference`.

Legend: L positions of a row, B rows, N targets, D width, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Set
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from torch import Tensor, nn

from ntp.data.example import Attention, Batch, Draw, Example, Row
from ntp.data.tokenizers import Tokenizer
from ntp.objectives.query import Decode, Query

Likelihood = Literal["exact", "bound", "pseudo", "none"]
"""What the loss says of the text that it speaks for: its negative log-likelihood (given what was read), an upper bound
of it, something that looks like one, or nothing."""

Inference = Literal["continue", "infill"]


@dataclass(frozen=True)
class Context:
    """What an objective may know of the run it is part of.

    Attributes:
        sequence_length: positions of a row.
        tokenizer: of the run.
        width: D, channels of the model's hidden states.
        make_stack: (layers, width) to blocks like the model's own, with fresh weights, for objectives with layers of
            their own; a width of None is the model's. See `ntp.models.base.LanguageModel.make_stack`.
        named: layers that are built within ``with context.named(name)`` have weights that are a function of the run's
            seed and this name, whatever else the objective or the model has. Names may be nested. What is built outside
            is drawn one after the other, and so is everything where there is no run.
    """

    sequence_length: int
    tokenizer: Tokenizer
    width: int
    make_stack: Callable[[int, int | None], nn.Module]
    named: Callable[[str], AbstractContextManager[object]] = nullcontext

    @property
    def vocabulary_size(self) -> int:
        """Ids that the tokenizer has."""
        return self.tokenizer.vocabulary_size

    @property
    def special_ids(self) -> dict[str, int]:
        """Id of each special token that the tokenizer has, by its text."""
        return self.tokenizer.special_tokens


class Scorer(Protocol):
    """What an objective may ask of a model; see `ntp.models.base.LanguageModel`."""

    def __call__(
        self,
        tokens: Tensor,
        /,
        *,
        attention: Attention,
        order: Tensor | None = None,
        segments: Tensor | None = None,
        private: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Hidden states [B, L, D] after the last norm."""
        ...

    def embed(self, tokens: Tensor, positions: Tensor | None = None, /) -> Tensor:
        """What the first block reads, [B, L, D]."""
        ...

    def logits(self, hidden: Tensor, /) -> Tensor:
        """Scores [..., V] float32 of hidden states [..., D]."""
        ...

    def token_nll(self, hidden: Tensor, targets: Tensor, /, *, excluded: int | None = None) -> Tensor:
        """Negative log-likelihood in nats, float32 [N], of targets [N] at hidden states [N, D].

        ``excluded`` is an id of probability 0.
        """
        ...

    def forward_flops(self, length: int, targets: int, /) -> int:
        """Matrix FLOPs of one row of ``length`` positions, ``targets`` of which go through the head."""
        ...


@dataclass
class LossTerms:
    """Sums and counts, never means: only the Lightning module divides, by the count over all ranks and micro-batches.

    Attributes:
        sum: scalar float32, connected to the graph even without any target.
        count: what to divide by. A Python number where the host knows it, so that no step waits for the device.
        bytes: UTF-8 bytes of the text that the likelihood is about, for bits per byte; 0 where there is none.
        metrics: further (sum, count) pairs by name; logged as ``train/<name>`` and ``val/<name>``.
        nats: the likelihood of those bytes, where the loss is more than that; absent means ``sum``.
    """

    sum: Tensor
    count: int | Tensor
    bytes: int | Tensor
    metrics: dict[str, tuple[Tensor, int | Tensor]] = field(default_factory=dict)
    nats: Tensor | None = None


@dataclass
class TargetNll:
    """Every target of a batch with its loss.

    Attributes:
        nll: [N] float32, nats, not weighted.
        targets: [N] int64.
        index: [N] int64, where in the flattened [B * L] they are.
        weights: [N] float32, or None for 1.
    """

    nll: Tensor
    targets: Tensor
    index: Tensor | None
    weights: Tensor | None

    @property
    def weighted(self) -> Tensor:
        """[N] float32."""
        return self.nll if self.weights is None else self.nll * self.weights


def target_nll(model: Scorer, batch: Batch, *, excluded: int | None = None) -> TargetNll:
    """Cross-entropy of every target. The head runs only where there is one, so that masked LM pays for 15% of it.

    Args:
        model: any.
        batch: any; a batch without targets gives empty tensors that are still connected to the graph.
        excluded: an id of probability 0.
    """
    hidden_BLD = model(
        batch.tokens,
        attention=batch.attention,
        order=batch.order,
        segments=batch.segments,
        private=batch.private,
        positions=batch.positions,
    )
    hidden_ND, targets_N, index = hidden_BLD.flatten(0, 1), batch.targets.flatten(), batch.target_index
    weights_N = None if batch.weights is None else batch.weights.flatten()
    if index is not None:
        hidden_ND, targets_N = hidden_ND[index], targets_N[index]
        weights_N = None if weights_N is None else weights_N[index]
    return TargetNll(model.token_nll(hidden_ND, targets_N, excluded=excluded), targets_N, index, weights_N)


class Objective(nn.Module, ABC):
    """Base class of all objectives: subclass it, and write one YAML file that names the subclass as ``_target_``.

    An objective is a Module because some own heads. `corrupt` runs in the processes that load data and may use only
    numpy, its arguments and what `bind` stored.
    """

    attention: Attention
    """The cheapest kernel that obeys the rule of visibility for rows of this objective."""

    likelihood: Likelihood
    """What the loss says of the text."""

    inference: Set[Inference] = frozenset()
    """What a model trained so can do by its native means; `query` says how."""

    forms: tuple[str, ...] = ()
    """Names of the ways in which it can be asked to infill, the preferred one first; none if there is only one."""

    lookahead: int = 0
    """Tokens at the end of a raw row that are only predicted, never read; neighbouring rows overlap by so many."""

    shows_some_targets: bool = False
    """Whether a part of the trained positions reads its own target on purpose, like the tenth of the selected tokens
    that BERT leaves as they are. The conformance kit refuses it in all others."""

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

    @property
    def attentions(self) -> Set[Attention]:
        """All kinds of attention that the model must serve: more than one for a mixture."""
        return {self.attention}

    def loss(self, model: Scorer, batch: Batch) -> LossTerms:
        """Summed loss of a micro-batch. The default is the weighted cross-entropy of all targets."""
        nll = target_nll(model, batch)
        return LossTerms(nll.weighted.sum(), batch.count, batch.target_bytes, self.metrics(batch, nll))

    def metrics(self, batch: Batch, nll: TargetNll) -> dict[str, tuple[Tensor, int | Tensor]]:
        """Further (sum, count) pairs by name, from the losses that the default `loss` has computed anyway."""
        return {}

    def forward_flops(self, model: Scorer, length: int, targets: int) -> int:
        """Matrix FLOPs of the loss of one row; more than the model's where the objective has layers of its own."""
        return model.forward_flops(length, targets)

    def training_flops(self, model: Scorer, batch: Batch) -> int:
        """Matrix FLOPs of the forward and backward passes of a micro-batch: three times the forward.

        The backward pass of a matrix product is two products of its size, one for each factor (Kaplan et al. 2020,
        section 2.1).
        """
        length = batch.tokens.shape[1]
        rows = Counter(row.targets for row in batch.tallies)
        return 3 * sum(count * self.forward_flops(model, length, targets) for targets, count in rows.items())

    def restore(self, example: Example) -> np.ndarray | None:
        """Tokens whose text the example was made of, from its beginning on; None where that is not claimed.

        The conformance kit compares them with the text of the row.
        """
        return None

    def promises(self, row: Row, example: Example) -> dict[str, tuple[float, float]]:
        """Statistics of one example with the values expected of them, by name, such as how much of it is hidden.

        The conformance kit compares the means of both over many draws.

        Args:
            row: what the example was made of.
            example: what `corrupt` made.

        Returns:
            For each name what was observed and its expectation, given the row.
        """
        return {}

    def query(self, prefix: np.ndarray, suffix: np.ndarray | None, length: int, form: str | None = None) -> Query:
        """How to ask a model trained so for a continuation of ``prefix``, or for what stands before ``suffix``.

        Called only for what `inference` names. The default asks a causal model to write on.

        Args:
            prefix: [P] ids, the end-of-text token before the document first.
            suffix: [S] ids; None to continue.
            length: tokens to write: at most, or exactly for objectives that need to know.
            form: one of `forms`; None for the first.
        """
        return Decode(prefix)
