"""Questions for the objectives that answer any, and what the predictions of an answer depend on.

Legend: N tokens that are asked for, E passes, K strata of a pass, T predictions of all rows together, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import torch

from ntp.data.collate import collate
from ntp.data.example import IGNORE, Draw, Example
from ntp.objectives.base import Objective
from ntp.objectives.question import Question, QuestionKind, Way
from ntp.testing.bench import Bench, Subject
from ntp.testing.errors import Broken, NotApplicable
from ntp.testing.perturbation import Recorder

STRATA = 8
"""Draws of a pass: as many as there are strata, each of which is drawn once."""

_SIZES = ((6, 4, 5), (4, 3, 3), (3, 2, 2), (2, 2, 1), (1, 1, 1))
"""Tokens before, asked for and behind, from the usual to what fits into the shortest rows."""


@dataclass(frozen=True)
class Asked:
    """Who answers a kind of question, and how.

    Attributes:
        subject: a model, and the objective that answers: of a mixture one of its components.
        kind: of question.
        way: what that objective says of its answers.
        question: of distinct ids, all of them text.
    """

    subject: Subject
    kind: QuestionKind
    way: Way
    question: Question

    def __str__(self) -> str:
        return f"a question to {self.kind.replace('_', ' ')} of {len(self.question.target)} tokens"

    @property
    def objective(self) -> Objective:
        """Who answers."""
        return self.subject.objective

    def answer(self, draw: Draw, question: Question | None = None) -> Example:
        """The row of a question, of this one if no other is given."""
        return self.objective.score(self.question if question is None else question, draw)

    def draws(self, passes: int) -> list[Draw]:
        """[E * K], as an evaluation makes them; one where nothing is drawn."""
        if not self.way.drawn:
            return [Draw(0, 0, 0, (0, 1), evaluation=True)]
        return [
            Draw(0, number, place, (place, STRATA), evaluation=True)
            for number in range(passes)
            for place in range(STRATA)
        ]


def asked(bench: Bench, subject: Subject) -> Iterator[Asked]:
    """A question of every kind that an objective answers.

    Raises:
        NotApplicable: it answers none, or rows are too short for any.
    """
    kinds: tuple[QuestionKind, ...] = get_args(QuestionKind)
    answering = {kind: subject.objective.respondent(kind) for kind in kinds}
    answering = {kind: part for kind, part in answering.items() if kind in part.ways}
    if not answering:
        raise NotApplicable("it answers no questions")
    fitting = False
    for kind, part in answering.items():
        for before, target, after in _SIZES:
            question = question_of(bench, kind, before, target, after)
            if question is not None and part.score_length(question) <= bench.sequence_length:
                fitting = True
                yield Asked(replace(subject, objective=part), kind, part.ways[kind], question)
                break
    if not fitting:
        raise NotApplicable(f"no question fits into a row of {bench.sequence_length} positions")


def question_of(bench: Bench, kind: QuestionKind, before: int, target: int, after: int) -> Question | None:
    """A question of so many tokens, of which none stands twice; None if there are too few. Only gaps have an after."""
    after = after if kind in ("infill", "cloze") else 0
    ids = bench.tokenizer.text_ids
    if len(ids) < before + target + after:
        return None
    chosen = np.random.default_rng(before).permutation(ids)[: before + target + after].astype(np.int64)
    parts = np.split(chosen, [before, before + target])
    return Question(kind, *parts)


def another(bench: Bench, ids: np.ndarray) -> np.ndarray:
    """For each id of text another that is text."""
    text_ids = np.sort(bench.tokenizer.text_ids)
    if len(text_ids) < 2:
        raise NotApplicable("the tokenizer has a single id that is text")
    return text_ids[(np.searchsorted(text_ids, ids) + 1) % len(text_ids)].astype(np.int64)


def owners(example: Example, question: Question) -> np.ndarray:
    """[T] which of the tokens that are asked for each target of a row is, -1 for any other."""
    place = {token: index for index, token in enumerate(question.target.tolist())}
    return np.array([place.get(one, -1) for one in example.targets[example.targets != IGNORE].tolist()], dtype=np.int64)


def weights_of(example: Example) -> np.ndarray:
    """[T] float64, those of its targets."""
    trained = example.targets != IGNORE
    return np.ones(int(trained.sum())) if example.weights is None else example.weights[trained].astype(np.float64)


def states(bench: Bench, one: Asked, examples: Sequence[Example]) -> list[np.ndarray]:
    """For each row [T, D] float32, what its targets are predicted from.

    Raises:
        NotApplicable: the loss asks the model's head for something else than the targets.
    """
    tokenizer, length = bench.tokenizer, max(map(len, examples))
    batch = collate(examples, length, one.objective.attention, tokenizer.token_bytes, tokenizer.padding)
    recorder = Recorder(one.subject.model)
    with torch.no_grad():
        one.objective.nll(recorder, batch)
    if len(recorder.predictions) != 1 or len(recorder.predictions[0][0]) != batch.target_count:
        raise NotApplicable("nll asks the model's head for something else than the targets")
    ends = np.cumsum([row.targets for row in batch.tallies])[:-1]
    return np.split(recorder.predictions[0][0].numpy(), ends)


def moved(
    bench: Bench, one: Asked, bases: Sequence[Example], variants: Sequence[Example], noise: float
) -> list[np.ndarray]:
    """For each row [T] bool, whether what predicts its targets differs between two batches.

    Args:
        bench: of the rows.
        one: who made them.
        bases, variants: row by row with equally many targets. Where their forms are equal too, equal rows give equal
            numbers to the last bit.
        noise: difference, relative to the size of hidden states, that is due to rounding.
    """
    before, after = states(bench, one, bases), states(bench, one, variants)
    scale = float(np.sqrt(np.mean(np.square(np.concatenate(before))))) or 1.0
    return [np.abs(new - old).max(1) / scale > noise for old, new in zip(before, after, strict=True)]


def same_form(one: Asked, base: Example, variant: Example, what: str) -> None:
    """Check that two rows ask for as much, at the same places.

    Raises:
        Broken: they don't.
    """
    if len(base) != len(variant) or not np.array_equal(base.targets == IGNORE, variant.targets == IGNORE):
        problem = f"{one}: with {what}, other positions of the row are targets"
        raise Broken(problem, "score: what is hidden, and where, must follow from numbers of tokens and from the draw")
