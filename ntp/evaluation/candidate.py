"""A trained run that takes an exam: questions become rows of its objective, and their losses become answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import numpy as np
import torch

from ntp.data.collate import collate
from ntp.data.example import Batch, Draw, Example
from ntp.data.store import TokenStore
from ntp.data.tokenizers import Tokenizer
from ntp.evaluation.drawing import draw_keys, stratum, variance_of_mean
from ntp.evaluation.encoding import altered, encode
from ntp.evaluation.examinee import Examinee, Scores, TextQuestion
from ntp.evaluation.fitting import fitted
from ntp.evaluation.sharing import shared
from ntp.generation.mode import evaluating
from ntp.models.base import LanguageModel
from ntp.objectives.base import Objective
from ntp.objectives.question import Question, QuestionKind, Way

T = TypeVar("T")

_PADDED_TO = 16  # the rows of a batch are padded to a multiple of this: kernels like it, and it is little padding


@dataclass(frozen=True)
class AskedRow:
    """One row of the answer to a question.

    Attributes:
        question: its number.
        draw: which of several estimates it belongs to.
        example: the row.
    """

    question: int
    draw: int
    example: Example


@dataclass
class Candidate(Examinee):
    """A model with the objective that it was trained under.

    What it answers does not depend on the batch size but for rounding, nor on what else is asked: the draws of a
    question follow from the seed and from what it says. Two exams that ask the same whole texts have the same batches
    of them, which the model reads once.

    Attributes:
        model, objective, tokenizer: of a run, on ``device``. The weights stay what they are: answers are remembered.
        isolated: whether training kept documents apart. Otherwise each was read behind the end-of-text token of the one
            before, and so are the documents of questions.
        room: positions of a row; that of training, unless the exam is about longer ones.
        draws: estimates of an answer that is drawn.
        seed: of the draws.
        batch_size: rows at a time.
        precision: arithmetic, by Lightning's names.
        device: where.
        process, processes: which of how many that share the work; all must be asked the same.
        gather: one object of every process, in their order.
        training_text: what the run learned from, where it is at hand.
        untrained: makes the model as it was before training, on ``device``, where that can be had.
    """

    model: LanguageModel
    objective: Objective
    tokenizer: Tokenizer
    isolated: bool
    room: int
    draws: int = 8
    seed: int = 0
    batch_size: int = 16
    precision: str = "32-true"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    process: int = 0
    processes: int = 1
    gather: Callable[[Any], list[Any]] = lambda value: [value]
    training_text: TokenStore | None = None
    untrained: Callable[[], LanguageModel] | None = None
    _known: dict[tuple[Objective, bytes], list[float]] = field(default_factory=dict, init=False, repr=False)
    """Of each batch that has been read for a likelihood, the losses of its rows, by who answered and what was read."""

    def way(self, kind: QuestionKind) -> Way | None:
        """That of the objective, or of the component that answers for it."""
        return self.objective.respondent(kind).ways.get(kind)

    def encode(self, question: TextQuestion) -> Question:
        """A question in the run's tokens."""
        return encode(question, self.tokenizer, begins=not self.isolated)

    def score(self, questions: Sequence[TextQuestion]) -> Scores:
        """Answer questions of kinds that it can answer, in their order.

        Raises:
            ValueError: it cannot answer one of them.
        """
        count = len(questions)
        scores = Scores(
            nats=np.full(count, np.nan),
            variances=np.zeros(count),
            tokens=np.zeros(count, dtype=np.int64),
            shortened=np.zeros(count, dtype=bool),
            altered=altered(questions, self.tokenizer),
        )
        estimates: dict[int, np.ndarray] = {}
        keys = draw_keys([self.encode(one.like or one) for one in questions])
        for kind, numbers in _alike(questions):
            part = self.objective.respondent(kind)
            way = part.ways.get(kind)
            if way is None:
                raise ValueError(f"this run's objective answers no question of the kind {kind}")
            draws = self.draws if way.drawn else 1
            rows: list[AskedRow] = []
            for number in numbers:
                whole = self.encode(questions[number])
                scores.tokens[number] = len(whole.target)
                pieces = fitted(whole, part.score_length, self.room)
                scores.shortened[number] = pieces != [whole]
                if pieces and len(whole.target):
                    estimates[number] = np.zeros(draws)
                    rows += self.rows(part, number, keys[number], pieces, draws)
            for row, nats in self.read(part, rows, _nats, self._known):
                estimates[row.question][row.draw] += nats
            for number in numbers:
                if number in estimates:
                    mean = estimates[number].mean()
                    if not np.isfinite(mean):
                        scores.nats[number], scores.variances[number] = np.inf, np.nan
                        continue
                    scores.nats[number] = mean
                    scores.variances[number] = variance_of_mean(estimates[number]) if way.drawn else 0.0
        return scores

    def rows(
        self, part: Objective, number: int, key: int, pieces: Sequence[Question], draws: int
    ) -> Iterator[AskedRow]:
        """The rows that answer a question.

        Args:
            part: that answers questions of this kind.
            number: of the question among all that are asked.
            key: decides its draws; see `ntp.evaluation.drawing.draw_keys`.
            pieces: what is asked for, in parts that fit.
            draws: estimates of each.
        """
        for index, piece in enumerate(pieces):
            for repetition in range(draws):
                draw = Draw(self.seed, key, repetition, stratum(repetition, draws), evaluation=True)
                yield AskedRow(number, repetition, part.score(piece, draw.child(index)))

    def read(
        self,
        part: Objective,
        rows: Sequence[AskedRow],
        look: Callable[[Objective, LanguageModel, Batch], Sequence[T]],
        known: dict[tuple[Objective, bytes], list[T]] | None = None,
    ) -> Iterator[tuple[AskedRow, T]]:
        """Let the model read rows, and take from each what is looked for. The processes share the work.

        Rows that are equal are read once: of a gap of one token, all draws are.

        Args:
            part: that made the rows.
            rows: in any order.
            look: gives for a batch, on the device, one object for each of its rows, on the host. It may see nothing of
                a row but its example.
            known: what the same look has found in batches before; takes what it finds in others. A batch is known as a
                whole or not at all, since what is found in a row depends on the other rows by rounding.

        Returns:
            The rows with what was found, those of about equal length together. Equal rows share one object.
        """
        alike: dict[bytes, list[AskedRow]] = {}
        for row in sorted(rows, key=lambda row: (len(row.example), row.question, row.draw)):
            alike.setdefault(_digest(row.example), []).append(row)
        groups = list(alike.items())
        batches: dict[tuple[Objective, bytes], list[list[AskedRow]]] = {}
        for begin in range(0, len(groups), self.batch_size):
            batch = groups[begin : begin + self.batch_size]
            batches[part, b"".join(digest for digest, _ in batch)] = [same for _, same in batch]
        known = {} if known is None else known
        unread = [key for key in batches if key not in known]

        def found(number: int) -> list[T]:
            return list(self._look(part, [same[0].example for same in batches[unread[number]]], look))

        with evaluating(self.model, self.objective):
            known.update(zip(unread, shared(self, len(unread), found), strict=True))
        for key, read in batches.items():
            for same, one in zip(read, known[key], strict=True):
                for row in same:
                    yield row, one

    @torch.inference_mode()
    def _look(
        self, part: Objective, examples: list[Example], look: Callable[[Objective, LanguageModel, Batch], Sequence[T]]
    ) -> Sequence[T]:
        length = _padded(max(map(len, examples)))
        if self.model.context_length is not None:
            length = min(length, self.model.context_length)
        batch = collate(examples, length, part.attention, self.tokenizer.token_bytes, self.tokenizer.padding)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16-mixed"):
            return look(part, self.model, batch.to(self.device))


def _nats(part: Objective, model: LanguageModel, batch: Batch) -> Sequence[float]:
    """[B], the weighted loss of each row."""
    weighted = part.nll(model, batch).weighted.double().cpu().numpy()
    sums: list[float] = np.bincount(batch.target_rows, weights=weighted, minlength=batch.rows).tolist()
    return sums


def _digest(example: Example) -> bytes:
    """Equal for equal examples."""
    digest = hashlib.blake2b(digest_size=16)
    _feed(digest, example)
    return digest.digest()


def _feed(digest: Any, value: Any) -> None:
    if isinstance(value, np.ndarray):
        digest.update(f"{value.dtype.str} {value.shape} ".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Example):
        for one in fields(value):
            _feed(digest, getattr(value, one.name))
    elif isinstance(value, Mapping):
        digest.update(f"{len(value)} ".encode())
        for key, one in sorted(value.items()):
            digest.update(f"{key!r} ".encode())
            _feed(digest, one)
    else:
        digest.update(f"{value!r} ".encode())


def _padded(length: int) -> int:
    return -(-length // _PADDED_TO) * _PADDED_TO


def _alike(questions: Sequence[TextQuestion]) -> Iterator[tuple[QuestionKind, list[int]]]:
    """The numbers of questions of each kind, whole texts apart from others.

    Whole texts are what exams of different kinds have in common, and are to be in the same batches there.
    """
    kinds: dict[tuple[QuestionKind, bool], list[int]] = {}
    for number, one in enumerate(questions):
        kinds.setdefault((one.kind, not one.before and not one.after), []).append(number)
    yield from ((kind, numbers) for (kind, _), numbers in kinds.items())
