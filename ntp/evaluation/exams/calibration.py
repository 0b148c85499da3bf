"""Is a model as often right as it is sure, and where does it lose?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ntp.config.types import PositiveInt
from ntp.evaluation.candidate import Candidate
from ntp.evaluation.examinee import Examinee, TextQuestion
from ntp.evaluation.exams.characters import words
from ntp.evaluation.exams.exam import Document, Exam, ExamRecipe
from ntp.evaluation.exams.likelihood import cut_windows, text_question
from ntp.evaluation.exams.result import Measure, Result
from ntp.evaluation.frequency import Frequencies, token_frequencies
from ntp.evaluation.predictions import Predictions, has_predictions, predict, preferred_kind
from ntp.evaluation.reliability import (
    BINS,
    Reliability,
    best_temperature,
    broken_down,
    measure,
    reliability,
    temperature_measure,
)
from ntp.objectives.question import QuestionKind

_GAPS: tuple[QuestionKind, ...] = ("cloze", "infill")


class Calibration(ExamRecipe):
    """How sure a model is of the likeliest token, against how often that is the right one (arXiv 1706.04599).

    Every run is asked for what it predicts: from left to right where it does so exactly, else for tokens of a text in
    a random order, else for words of it. So the predictions of two objectives may be of different things, and only
    those that were given the same are to be compared. Each target counts as in the likelihood: over the orders in which
    hidden tokens could be revealed, every step counts once.

    The loss is divided by one temperature, found on half of the documents and tried on the other, and the other way
    round, so that all documents are tried and none is among those that its temperature is from (section 4.2).

    Measures:
        ``ece``: expected calibration error, the mean distance between confidence and accuracy in 15 bins of equal
            width; ``equal_mass/ece`` in bins of equal weight. It depends on the bins, and noise makes it larger.
        ``scaled/ece``: with the temperature.
        ``temperature``: the best one, of all documents; below 1 for a model that is not sure enough.
        ``nll``, ``scaled/nll``: nats per token, without and with it.
        ``brier``, ``scaled/brier``: squared distance of all probabilities from the truth (Brier 1950), 0 to 2.
        ``accuracy``: how often the likeliest token is the right one.
        ``rare/nll``: of the rarest tokens, which together make up a tenth of the training text.

    Details: ``reliability`` (``before`` and ``after`` the temperature: ``curve``, ``ece`` and its bootstrap
    ``interval`` over documents), and the losses ``by_frequency`` of the token, ``by_position`` in the row and
    ``by_document_length`` in bytes; see `ntp.evaluation.reliability.broken_down`.

    Args:
        documents: how many are asked about.
        windows: of each document, at most.
        window_bytes: about the length of a window. One that is longer than a row is read piece by piece.
        words: how many words of a window are asked for where nothing else can be; they do not overlap.
    """

    def __init__(
        self,
        documents: PositiveInt | None = 64,
        windows: PositiveInt = 1,
        window_bytes: PositiveInt = 1024,
        words: PositiveInt = 16,
    ) -> None:
        super().__init__(documents)
        self.windows, self.window_bytes, self.words = windows, window_bytes, words

    def arguments(self) -> Mapping[str, Any]:
        """All of them."""
        names = ("documents", "windows", "window_bytes", "words")
        return {name: getattr(self, name) for name in names}

    def items(self, document: Document, rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        """Windows, each with places of words."""
        for begin, end in cut_windows(document.content, self.windows, self.window_bytes, rng):
            places = list(words(document.content[begin:end]))
            chosen = np.sort(rng.permutation(len(places))[: self.words])
            asked = [[begin + places[one][0], begin + places[one][1]] for one in chosen]
            yield {"document": document.sha256, "window": [begin, end], "words": asked}

    def grade(self, exam: Exam, examinee: Examinee) -> Result:
        """Everything that is known of its predictions."""
        if not isinstance(examinee, Candidate):
            return Result.cannot(exam.name, exam.digest, "it tells likelihoods of texts, not of each token")
        kind = preferred_kind(examinee, ("any_order", "cloze", "continue", "infill"))
        if kind is None:
            return Result.cannot(exam.name, exam.digest, "it has no native means to predict tokens of a text")
        part = examinee.objective.respondent(kind)
        if not has_predictions(part):
            return Result.cannot(exam.name, exam.digest, "its likelihoods are not those of the model's own head")
        way = part.ways[kind]
        asked = [(number, one) for number, item in enumerate(exam.items) for one in _questions(exam, item, kind)]
        questions = [examinee.encode(one) for _, one in asked]
        found = predict(examinee, part, questions, examinee.draws if way.drawn else 1)
        if not len(found):
            return Result.cannot(exam.name, exam.digest, "every question is longer than a row of the model")
        if not found.finite:
            return Result.cannot(exam.name, exam.digest, "its predictions are not finite")
        found = found.renumbered(np.array([number for number, _ in asked]))

        names = [str(item["document"]) for item in exam.items]
        numbers = {name: number for number, name in enumerate(sorted(set(names)))}
        document = np.array([numbers[name] for name in names])[found.question]
        temperature = best_temperature(found)
        scaled = _out_of_fold(found, document)
        texts = (exam.text(name, 0, len(one.content)) for name, one in exam.documents.items())
        frequencies = token_frequencies(examinee, texts)
        before = reliability(found.confidence(), found.right, found.weight)
        after = None if scaled is None else reliability(_confidence(found, scaled), found.right, found.weight)

        notes, caveats = [f"asked to {_ASKED[kind]}; nll is {_IS[way.likelihood]}"], []
        if found.unanswered:
            caveats.append(f"{len(found.unanswered)} of {len(asked)} questions are longer than a row and are left out")
        if found.shortened:
            caveats.append(f"{found.shortened} of {len(asked)} questions were answered with less context than there is")
        if scaled is None:
            notes.append("all questions are about one document: no temperature can be tried on another")
        notes.append(f"frequencies counted {frequencies.source}")
        lengths = np.array([len(exam.documents[name].content) for name in names])
        return Result(
            exam.name,
            exam.digest,
            given=way.given,
            measures=_measures(found, len(names), before, after, scaled, temperature, frequencies),
            documents=names,
            notes=tuple(notes),
            caveats=tuple(caveats),
            details={
                "asked": kind,
                "likelihood": way.likelihood,
                "temperature": temperature,
                "entropy": float(found.weight @ found.entropy / found.weight.sum()),
                "reliability": _curves(before, after, document),
                "frequencies": frequencies.source,
                **_tables(found, examinee.tokenizer.token_bytes, frequencies, lengths),
            },
        )


_ASKED: dict[QuestionKind, str] = {
    "continue": "predict text from left to right",
    "any_order": "predict hidden tokens from all others",
    "cloze": "predict words from all else",
    "infill": "fill in words",
}
_IS = {"exact": "exact", "bound": "a bound", "pseudo": "no likelihood", "none": "no likelihood"}


def _questions(exam: Exam, item: Mapping[str, Any], kind: QuestionKind) -> Iterator[TextQuestion]:
    for asked in item["words"] if kind in _GAPS else [item["window"]]:
        yield text_question(exam, {**item, "asked": asked}, kind)


def _out_of_fold(found: Predictions, document: np.ndarray) -> np.ndarray | None:
    """[N] the temperature that the other half of the documents would have; None where there is no other half."""
    first = document % 2 == 0
    if first.all() or not first.any():
        return None
    one, other = best_temperature(found.chosen(first)), best_temperature(found.chosen(~first))
    return np.where(first, other, one)


def _confidence(found: Predictions, temperature: np.ndarray) -> np.ndarray:
    return _scaled(found, temperature, "confidence")


def _scaled(found: Predictions, temperature: np.ndarray, what: str) -> np.ndarray:
    """[N] something that depends on the temperature, of which each target has its own."""
    values = np.zeros(len(found))
    for one in np.unique(temperature):
        own = temperature == one
        values[own] = getattr(found.chosen(own), what)(float(one))
    return values


def _measures(
    found: Predictions,
    questions: int,
    before: Reliability,
    after: Reliability | None,
    scaled: np.ndarray | None,
    temperature: float,
    frequencies: Frequencies,
) -> dict[str, Measure]:
    weight = found.weight
    mass = reliability(found.confidence(), found.right, weight, "mass")
    measures = {"ece": measure(before.terms, found, questions)}
    if after is not None:
        measures["scaled/ece"] = measure(after.terms, found, questions)
    measures["equal_mass/ece"] = measure(mass.terms, found, questions)
    measures["temperature"] = temperature_measure(found, questions, temperature)
    measures["nll"] = measure(weight * found.nll(), found, questions, "nats per token")
    measures["brier"] = measure(weight * found.brier(), found, questions)
    if scaled is not None:
        measures["scaled/nll"] = measure(weight * _scaled(found, scaled, "nll"), found, questions, "nats per token")
        measures["scaled/brier"] = measure(weight * _scaled(found, scaled, "brier"), found, questions)
    measures["accuracy"] = measure(weight * found.right, found, questions, better="higher")
    rare = weight * frequencies.rare[found.token]
    if rare.any():
        measures["rare/nll"] = measure(rare * found.nll(), found, questions, "nats per token", weight=rare)
    return measures


def _curves(before: Reliability, after: Reliability | None, document: np.ndarray) -> dict[str, Any]:
    curves = {"before": before} if after is None else {"before": before, "after": after}
    return {
        "bins": BINS,
        **{
            name: {"curve": one.curve, "ece": one.error, "interval": list(one.interval(document))}
            for name, one in curves.items()
        },
    }


def _tables(
    found: Predictions, token_bytes: np.ndarray, frequencies: Frequencies, lengths: np.ndarray
) -> dict[str, list[dict[str, Any]]]:
    octave = np.floor(np.log2(found.position + 1)).astype(np.int64)
    size = np.floor(np.log2(lengths)).astype(np.int64)
    tables = {
        "by_frequency": (frequencies.bucket[found.token], frequencies.labels),
        "by_position": (octave, [{"from": 2**one - 1, "to": 2 ** (one + 1) - 1} for one in range(octave.max() + 1)]),
        "by_document_length": (
            size[found.question],
            [
                {"from": 2**one, "to": 2 ** (one + 1), "documents": int(np.count_nonzero(size == one))}
                for one in range(size.max() + 1)
            ],
        ),
    }
    return {name: broken_down(found, token_bytes, *table) for name, table in tables.items()}
