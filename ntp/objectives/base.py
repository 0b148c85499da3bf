"""What an objective is: a corruption of rows, and a loss.

Nothing outside an objective's own file knows its name. The data module calls `corrupt`, the Lightning module calls
`loss` and divides once, and everything else reads the class facts `attention`, `likelihood` and `inference`.

Legend: L positions of a row, B rows, N targets, D width, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Set
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from torch import Tensor, nn

from ntp.data.example import IGNORE, Attention, Batch, Draw, Example, Row, Tally
from ntp.data.tokenizers import Tokenizer
from ntp.objectives.query import Decode, Query
from ntp.objectives.question import Likelihood, Question, QuestionKind, Way

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

    def row_flops(self, length: int, row: Tally, /) -> int:
        """Matrix FLOPs of a row of a batch, which is ``length`` positions with padding."""
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


@dataclass
class TargetStates:
    """Every target of a batch with the hidden state that predicts it.

    Attributes:
        hidden: [N, D].
        targets: [N] int64.
        index: [N] int64, where in the flattened [B * L] they are; None where every position has one.
        weights: [N] float32, or None for 1.
    """

    hidden: Tensor
    targets: Tensor
    index: Tensor | None
    weights: Tensor | None


def forward(model: Scorer, batch: Batch) -> Tensor:
    """The last hidden states of a batch, [B, L, D]."""
    return model(
        batch.tokens,
        attention=batch.attention,
        order=batch.order,
        segments=batch.segments,
        private=batch.private,
        positions=batch.positions,
    )


def target_states(model: Scorer, batch: Batch) -> TargetStates:
    """One forward, and what of it the targets need."""
    hidden_BLD = forward(model, batch)
    hidden_ND, targets_N, index = hidden_BLD.flatten(0, 1), batch.targets.flatten(), batch.target_index
    weights_N = None if batch.weights is None else batch.weights.flatten()
    if index is not None:
        hidden_ND, targets_N = hidden_ND[index], targets_N[index]
        weights_N = None if weights_N is None else weights_N[index]
    return TargetStates(hidden_ND, targets_N, index, weights_N)


def target_nll(model: Scorer, batch: Batch, *, excluded: int | None = None) -> TargetNll:
    """Cross-entropy of every target. The head runs only where there is one, so that masked LM pays for 15% of it.

    Args:
        model: any.
        batch: any; a batch without targets gives empty tensors that are still connected to the graph.
        excluded: an id of probability 0.
    """
    states = target_states(model, batch)
    nll_N = model.token_nll(states.hidden, states.targets, excluded=excluded)
    return TargetNll(nll_N, states.targets, states.index, states.weights)


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

    ways: Mapping[QuestionKind, Way] = {}
    """How it answers each kind of question of an exam; a kind that is missing is one that it cannot answer, or leaves
    to its `respondent`."""

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

    @property
    def excluded(self) -> int | None:
        """An id that is never predicted: its probability is 0, and the others sum to one. None if there is none."""
        return None

    def loss(self, model: Scorer, batch: Batch) -> LossTerms:
        """Summed loss of a micro-batch. The default is the weighted cross-entropy of all targets."""
        nll = self.nll(model, batch)
        return LossTerms(nll.weighted.sum(), batch.count, batch.target_bytes, self.metrics(batch, nll))

    def nll(self, model: Scorer, batch: Batch) -> TargetNll:
        """Cross-entropy of every target by the model's own head."""
        return target_nll(model, batch, excluded=self.excluded)

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
        shapes = [(row.targets, row.sources, row.decoded) for row in batch.tallies]
        alike = dict(zip(shapes, batch.tallies, strict=True))
        total = 0
        for shape, count in Counter(shapes).items():
            own = self.forward_flops(model, length, shape[0]) - model.forward_flops(length, shape[0])
            total += count * (own + model.row_flops(length, alike[shape]))
        return 3 * total

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

    def respondent(self, kind: QuestionKind) -> Objective:
        """Which objective answers questions of a kind: this one, or a component of it."""
        return self

    @property
    def reader(self) -> Objective:
        """Which objective reads a text of which nothing is asked: this one, or a component of it."""
        return self

    def read(self, tokens: np.ndarray) -> Example:
        """The row in which a text is read as it is, nothing hidden and nothing predicted, for its hidden states.

        The default lets every position see what ``attention`` lets it see of a text that is given: what stands before
        where that is causal, and else the whole text.

        Args:
            tokens: [L] ids.

        Returns:
            L positions, the tokens in their order.
        """
        nothing = np.zeros(len(tokens), dtype=np.int64)
        return Example(tokens=tokens, targets=nothing + IGNORE, order=nothing)

    def score(self, question: Question, draw: Draw) -> Example:
        """The row whose loss answers a question of a kind that `ways` names.

        Each target counts its weight; their sum is the negative log-likelihood of ``question.target``, or an unbiased
        estimate of it where the way is ``drawn``. Targets that are special tokens may come on top: signs by which an
        answer ends must be paid for. The row is not longer than `score_length` says. Pure, like `corrupt`. The loss is
        that of `nll`.

        Args:
            question: in tokens of the run.
            draw: the randomness of this estimate; ``draw.stratum`` is its place among those of the same question.
        """
        raise NotImplementedError(f"{type(self).__name__} answers no questions")

    def score_length(self, question: Question) -> int:
        """Positions that the row of a question takes, at most. It never shrinks where a part of the question grows."""
        return len(question.before) + len(question.target) + len(question.after)
