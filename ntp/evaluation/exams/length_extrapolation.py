"""Does a model still predict where a row is longer than any that it was trained on?

Legend: L positions of a row of training.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from ntp.config.errors import ConfigError
from ntp.config.types import PositiveInt
from ntp.data.collate import restart
from ntp.data.example import IGNORE, Draw, Example, Row
from ntp.evaluation.candidate import Candidate
from ntp.evaluation.examinee import Examinee
from ntp.evaluation.exams.characters import between_characters
from ntp.evaluation.exams.exam import Document, Exam, ExamRecipe
from ntp.evaluation.exams.likelihood import text_question
from ntp.evaluation.exams.result import Measure, Result
from ntp.evaluation.predictions import Predictions, has_predictions, predict, preferred_kind
from ntp.evaluation.reliability import broken_down, measure
from ntp.objectives.base import Objective
from ntp.objectives.question import Question, QuestionKind

_STEPS = 4  # of the curve, in a trained length
_TRIED = 8  # rows of training, some of which may be shorter than others


class LengthExtrapolation(ExamRecipe):
    """Bits per byte of text that stands further into a row than training ever went (Press et al. 2022, section 2).

    Documents are read from their beginning on, in rows that reach 1, 2, 4 ... times as far as the L positions of
    training, by whatever positional encoding the model has. A model whose learned positions end where the rows of
    training did can't take the exam. The same text is also read in rows of the trained length, piece by piece, each
    given up to half a row of what stands before it: what longer rows should gain on, and what a user would do instead.

    All numbers are of the same documents: those that fill the longest row. How many those are, and which bytes stand
    at which position, depends on the tokenizer and on L, so that runs which share both compare best. A run whose
    longest row is a shorter one than the factors ask for says so in what it was given, and is ranked against no other.
    Only tokens of text count, and no signs by which an answer ends, of which the pieces have more.

    Measures, in bits per byte:
        ``bits_per_byte``: beyond the trained length, in rows longer than it; each range of positions in the shortest
            row that holds it.
        ``1x/bits_per_byte``, ``2x/...``, ``4x/...``: positions 0 to L in a row of L, L to 2L in one of 2L, 2L to 4L in
            one of 4L.
        ``pieces/bits_per_byte``: of the text of the first measure, in rows of the trained length.
        ``excess``: the first less that: what reading on costs. Above 0 the model does not extrapolate. Only where the
            likelihood is exact: a difference of two bounds is none.

    Details: ``curves``, for each factor the losses by position, four steps to a trained length; see
    `ntp.evaluation.reliability.broken_down`.

    Args:
        documents: how many are asked about.
        window_bytes: of each document, from its beginning, at most; as long as the longest row of any run, or longer.
        least_bytes: documents that are shorter are not asked about.
        factors: lengths of rows, in trained lengths, growing; the first is 1.

    Raises:
        ConfigError: the factors are others.
    """

    def __init__(
        self,
        documents: PositiveInt | None = 16,
        window_bytes: PositiveInt = 16384,
        least_bytes: PositiveInt = 2048,
        factors: tuple[PositiveInt, ...] = (1, 2, 4),
    ) -> None:
        super().__init__(documents)
        if len(factors) < 2 or factors[0] != 1 or any(one >= other for one, other in pairwise(factors)):
            problem = f"{list(factors)} do not grow from 1 on; such as [1, 2, 4]"
            raise ConfigError("evaluation.exams.length_extrapolation.factors", problem)
        self.window_bytes, self.least_bytes, self.factors = window_bytes, least_bytes, tuple(factors)

    def arguments(self) -> Mapping[str, Any]:
        """Also the factors: which positions are asked about."""
        names = ("documents", "window_bytes", "least_bytes")
        return {name: getattr(self, name) for name in names} | {"factors": list(self.factors)}

    def wanted(self) -> str:
        """The least that a document must have."""
        return f"none has {self.least_bytes} bytes (least_bytes)"

    def items(self, document: Document, rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        """The beginning of a document."""
        content = document.content
        if len(content) >= self.least_bytes:
            end = between_characters(content, min(len(content), self.window_bytes))
            yield {"document": document.sha256, "window": [0, end], "factors": list(self.factors)}

    def grade(self, exam: Exam, examinee: Examinee) -> Result:
        """Losses by position, in rows of growing length."""
        if not isinstance(examinee, Candidate):
            return Result.cannot(exam.name, exam.digest, "it reads no rows, so that none is longer than in training")
        kind = preferred_kind(examinee, ("any_order", "continue"))
        if kind is None:
            return Result.cannot(exam.name, exam.digest, "it has no native means to read a text from its beginning")
        part = examinee.objective.respondent(kind)
        if not has_predictions(part):
            return Result.cannot(exam.name, exam.digest, "its likelihoods are not those of the model's own head")
        reader = _Reader(examinee, part, kind)
        texts = [examinee.encode(text_question(exam, {**item, "asked": item["window"]}, kind)) for item in exam.items]
        trained, longest = reader.trained_positions(texts), examinee.model.context_length
        cuts = {factor: [reader.cut(text, factor * trained) for text in texts] for factor in self.factors}
        factors, caveats = list(self.factors), []
        for factor in self.factors[1:]:
            whole = [one for one in cuts[factor] if one is not None]
            limit = f"a row of {factor} times {trained} positions"
            if not whole:
                reason = f"no document of the exam fills {limit}"
            elif longest is not None and max(map(part.score_length, whole)) > longest:
                reason = f"{limit} is longer than the model can read: its learned positions end at {longest}"
            else:
                continue
            factors = factors[: factors.index(factor)]
            if len(factors) == 1:
                return Result.cannot(exam.name, exam.digest, reason)
            caveats.append(reason)
            break
        chosen = [number for number, one in enumerate(cuts[factors[-1]]) if one is not None]
        asked = {factor: [one for number in chosen if (one := cuts[factor][number])] for factor in factors}
        caveats.append(f"{len(chosen)} of {len(texts)} documents fill a row of {factors[-1]} times {trained} positions")
        if not examinee.tokenizer.lossless:
            caveats.append("bytes of a position are those of its token in other texts: this tokenizer changes text")

        way = part.ways[kind]
        rows = _Rows(examinee, part, trained, asked, examinee.draws if way.drawn else 1)
        if not rows.finite:
            return Result.cannot(exam.name, exam.digest, "its predictions are not finite")
        return Result(
            exam.name,
            exam.digest,
            way.likelihood,
            # A number that reaches less far is of other positions, and not to be ranked against it.
            (*way.given, f"rows of {factors[-1]}x"),
            rows.measures(way.likelihood == "exact"),
            [str(exam.items[number]["document"]) for number in chosen],
            caveats=tuple(caveats),
            details={"asked": kind, "trained_length": trained, "factors": factors, "curves": rows.curves()},
        )


class _Reader:
    """How far into a row a text reaches.

    Positions are what the positional encoding sees, which is what a model may or may not have seen in training. Rows
    that hold a text twice, or queries beside it, are longer than their positions go.

    Args:
        candidate: a run.
        part: of its objective, which answers.
        kind: of the questions.
    """

    def __init__(self, candidate: Candidate, part: Objective, kind: QuestionKind) -> None:
        self.candidate, self.part, self.drawn = candidate, part, part.ways[kind].drawn
        self.no_text = [IGNORE, *candidate.tokenizer.special_ids]

    def trained_positions(self, texts: Sequence[Question]) -> int:
        """L: how many positions the rows of training have, going by some that are made of these texts."""
        size = self.part.raw_length(self.candidate.room)
        tokens = np.resize(np.concatenate([text.target for text in texts]), size)
        row = Row(tokens, np.zeros(size, dtype=np.int64), self.candidate.tokenizer.token_bytes[tokens])
        examples = [self.part.corrupt(row, self._draw(number)) for number in range(_TRIED)]
        return 1 + max(int(_positions(one).max()) for one in examples)

    def cut(self, text: Question, end: int) -> Question | None:
        """As much of a text as is predicted at positions before this one; None where it does not reach them all."""
        sizes = range(1, len(text.target) + 1)
        size = bisect_left(sizes, end, key=lambda size: self._reach(_first(text, size)))
        cut = _first(text, max(1, size))
        return cut if size < len(text.target) or self._reach(cut) == end - 1 else None

    def _reach(self, question: Question) -> int:
        """The last position at which text is predicted."""
        example = self.part.score(question, self._draw(0))
        positions = _positions(example)
        if not self.drawn:  # of what is drawn the last token need not be a target
            positions = positions[~np.isin(example.targets, self.no_text)]
        return int(positions.max(initial=-1))

    def _draw(self, number: int) -> Draw:
        return Draw(self.candidate.seed, 0, number, (0, 1), evaluation=True)


class _Rows:
    """What a model says in rows of growing length.

    Args:
        candidate: a run.
        part: of its objective, which answers.
        trained: L.
        asked: by factor, the beginning of each text that reaches so far.
        draws: estimates of each.
    """

    def __init__(
        self, candidate: Candidate, part: Objective, trained: int, asked: dict[int, list[Question]], draws: int
    ) -> None:
        self.trained, self.factors = trained, list(asked)
        self.token_bytes = candidate.tokenizer.token_bytes
        self.said: list[Predictions] = []
        for questions in asked.values():
            longer = replace(candidate, room=max(map(part.score_length, questions)))
            self.said.append(_of_text(predict(longer, part, questions, draws), longer))
        shortest, longest = asked[self.factors[0]], asked[self.factors[-1]]
        self.count = len(longest)
        beyond = [_behind(text, len(first.target)) for text, first in zip(longest, shortest, strict=True)]
        self.pieces = _of_text(predict(candidate, part, beyond, draws), candidate)

    @property
    def finite(self) -> bool:
        """Whether all that it says is numbers."""
        return all(one.finite for one in (*self.said, self.pieces))

    def measures(self, exact: bool) -> dict[str, Measure]:
        """By name."""
        parts = []
        for (low, high), said in zip(pairwise([0, *self.factors]), self.said, strict=True):
            parts.append(said.chosen((said.position >= low * self.trained) & (said.position < high * self.trained)))
        beyond, pieces = self._bits(Predictions.joined(parts[1:])), self._bits(self.pieces)
        measures = {"bits_per_byte": beyond}
        measures |= {
            f"{factor}x/bits_per_byte": self._bits(one) for factor, one in zip(self.factors, parts, strict=True)
        }
        measures["pieces/bits_per_byte"] = pieces
        if exact:
            measures["excess"] = replace(beyond, sums=beyond.sums - pieces.sums)
        return measures

    def _bits(self, said: Predictions) -> Measure:
        size = said.weight * self.token_bytes[said.token]
        return measure(said.weight * said.nll() / math.log(2), said, self.count, "bits per byte", weight=size)

    def curves(self) -> list[dict[str, Any]]:
        """For each factor the losses by position."""
        step = max(1, self.trained // _STEPS)
        curves = []
        for factor, said in zip(self.factors, self.said, strict=True):
            bucket = said.position // step
            labels = [{"from": step * one, "to": step * (one + 1)} for one in range(int(bucket.max()) + 1)]
            curves.append({"factor": factor, "curve": broken_down(said, self.token_bytes, bucket, labels)})
        return curves


def _of_text(said: Predictions, candidate: Candidate) -> Predictions:
    return said.chosen(~np.isin(said.token, list(candidate.tokenizer.special_ids)))


def _positions(example: Example) -> np.ndarray:
    if example.positions is not None:
        return example.positions
    return np.arange(len(example)) if example.segments is None else restart(example.segments)


def _first(text: Question, size: int) -> Question:
    return replace(text, target=text.target[:size])


def _behind(text: Question, begin: int) -> Question:
    """What is asked for behind the first tokens, given these."""
    before = np.concatenate([text.before, text.target[:begin]])
    return replace(text, before=before, target=text.target[begin:])
