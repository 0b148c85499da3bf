"""Exams whose answers are likelihoods of stretches of text, in bits per byte."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from ntp.config.types import PositiveInt, Probability
from ntp.evaluation.examinee import Examinee, TextQuestion
from ntp.evaluation.exams.characters import between_characters
from ntp.evaluation.exams.exam import Document, Exam, ExamRecipe
from ntp.evaluation.exams.result import Measure, Result
from ntp.objectives.question import QuestionKind

Asked = tuple[str, int, int]
"""The group of a question, and the places of the document, between two characters, where what it asks for begins and
ends."""


class LikelihoodExam(ExamRecipe):
    """Asks for the likelihood of stretches of text: ``asked`` of a ``window``, both in bytes of the document.

    Documents can be long, and models read little of them, so that questions are about windows of documents. Each
    begins and ends at a line of its document if there is one near, and a model takes it for the whole text; only where
    a window ends with its document is the end asked for too.

    Args:
        documents: how many are asked about.
        windows: of each document, at most; they do not overlap.
        window_bytes: about the length of a window.
    """

    kind: ClassVar[QuestionKind]
    main: ClassVar[str | None] = None
    """The group whose number stands for the exam; None for all questions together."""

    def __init__(
        self, documents: PositiveInt | None = 64, windows: PositiveInt = 2, window_bytes: PositiveInt = 512
    ) -> None:
        super().__init__(documents)
        self.windows, self.window_bytes = windows, window_bytes

    def arguments(self) -> Mapping[str, Any]:
        """Those of windows."""
        return {"documents": self.documents, "windows": self.windows, "window_bytes": self.window_bytes}

    def items(self, document: Document, rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        """What is asked of each window."""
        for begin, end in cut_windows(document.content, self.windows, self.window_bytes, rng):
            for group, first, last in self.asked(document.content, begin, end, rng):
                yield {"document": document.sha256, "window": [begin, end], "asked": [first, last], "group": group}

    @abstractmethod
    def asked(self, content: bytes, begin: int, end: int, rng: np.random.Generator) -> Iterable[Asked]:
        """Stretches of a window to be asked for.

        Args:
            content: of the document.
            begin, end: of the window in it, between two characters.
            rng: of this document.
        """

    def grade(self, exam: Exam, examinee: Examinee) -> Result:
        """Bits per byte, over all questions and for each group of them.

        What the tokens of an answer do not tell (capitals, blanks, unknown characters) costs nothing, so that the
        number only looks like a likelihood of the text: it is ``pseudo``, whatever the objective can say of its tokens.
        """
        way = examinee.way(self.kind)
        if way is None:
            return Result.cannot(exam.name, exam.digest, f"it has no native means to {self.kind.replace('_', ' ')}")
        questions = [text_question(exam, item, self.kind) for item in exam.items]
        scores = examinee.score(questions)
        answered = ~np.isnan(scores.nats)
        if not answered.any():
            return Result.cannot(exam.name, exam.digest, "every question is longer than a row of the model")
        bits = np.where(answered, scores.nats, 0.0) / math.log(2)
        weights = np.where(answered, [one.target_bytes for one in questions], 0.0)
        variances = None
        finite = np.isfinite(scores.nats)
        if way.drawn and not np.isnan(scores.variances[finite]).any():
            variances = np.where(answered, scores.variances, 0.0) / math.log(2) ** 2
        groups = [str(item["group"]) for item in exam.items]
        kind, notes, caveats = way.likelihood, [], []
        if lost := int(np.count_nonzero(answered & ~finite)):
            caveats.append(f"{lost} of {len(questions)} answers are not finite")
        if missing := int(np.count_nonzero(~answered)):
            caveats.append(f"{missing} of {len(questions)} questions are longer than a row and are left out")
        if shortened := int(np.count_nonzero(scores.shortened & answered)):
            caveats.append(f"{shortened} of {len(questions)} questions were answered with less context than there is")
        if way.drawn and variances is None:
            notes.append("one estimate of each answer does not tell how sure it is; more draws do")
        if scores.altered is not None and (altered := int(np.count_nonzero(scores.altered & answered))):
            # Whatever tokens do not tell has not been paid for.
            kind = "pseudo"
            caveats.append(f"the tokenizer does not keep all of {altered} of {len(questions)} answers")
        return Result(
            exam.name,
            exam.digest,
            kind,
            way.given,
            bits_per_byte(bits, weights, variances, groups, self.main),
            [str(item["document"]) for item in exam.items],
            groups,
            notes=tuple(notes),
            caveats=tuple(caveats),
        )


def bits_per_byte(
    bits: np.ndarray, weights: np.ndarray, variances: np.ndarray | None, groups: list[str], main: str | None
) -> dict[str, Measure]:
    """Of the main group, or of all questions, and then of each group by its name where there are several."""
    names = list(dict.fromkeys(groups))
    named: dict[str, str | None] = {"bits_per_byte": main}
    named |= {f"{one}/bits_per_byte": one for one in names if one != main and len(names) > 1}
    measures: dict[str, Measure] = {}
    for name, group in named.items():
        own = np.array([group is None or one == group for one in groups])
        measures[name] = Measure(
            np.where(own, bits, 0.0),
            np.where(own, weights, 0.0),
            None if variances is None else np.where(own, variances, 0.0),
            "bits per byte",
            "lower",
        )
    return measures


def text_question(exam: Exam, item: Mapping[str, Any], kind: QuestionKind) -> TextQuestion:
    """An item with a ``window`` of its document, and what is ``asked`` of that, as a question."""
    document, (begin, end), (first, last) = item["document"], item["window"], item["asked"]
    return TextQuestion(
        kind,
        exam.text(document, begin, first),
        exam.text(document, first, last),
        exam.text(document, last, end),
        ends=end == len(exam.documents[document].content),
    )


def cut_windows(content: bytes, count: int, size: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Places of windows that do not overlap, in the order of the text.

    A text that is not longer than one window is one. Others are cut into as many equal parts as windows fit, at most
    ``count``, each with a window at a random place of it. The window begins behind the next end of line and ends
    with one, where that costs no more than a quarter of it.
    """
    if len(content) <= size:
        return [(0, len(content))] if content else []
    parts = max(1, min(count, len(content) // size))
    windows = []
    for part in range(parts):
        low, high = len(content) * part // parts, len(content) * (part + 1) // parts
        begin = low + int(rng.integers(high - low - size + 1)) if high - low > size else low
        end = min(begin + size, high)
        line = content.find(b"\n", begin, begin + size // 4)
        if begin and line >= 0:
            begin = line + 1
        line = content.rfind(b"\n", end - size // 4, end)
        if end < len(content) and line >= 0:
            end = line + 1
        begin, end = between_characters(content, begin), between_characters(content, end)
        if begin < end:
            windows.append((begin, end))
    return windows


class Continue(LikelihoodExam):
    """From left to right: a whole text, and the rest of it given its first part.

    Args:
        documents, windows, window_bytes: see `LikelihoodExam`.
        given: part of the text that the rest is asked with.
    """

    kind = "continue"
    main = "whole"

    def __init__(
        self,
        documents: PositiveInt | None = 64,
        windows: PositiveInt = 2,
        window_bytes: PositiveInt = 512,
        given: Probability = 0.5,
    ) -> None:
        super().__init__(documents, windows, window_bytes)
        self.given = given

    def arguments(self) -> Mapping[str, Any]:
        """Also what part is given."""
        return {**super().arguments(), "given": self.given}

    def asked(self, content: bytes, begin: int, end: int, rng: np.random.Generator) -> Iterator[Asked]:
        """The whole, and the rest."""
        yield "whole", begin, end
        first = between_characters(content, begin + round((end - begin) * self.given))
        if begin < first < end:
            yield "rest", first, end


class AnyOrder(LikelihoodExam):
    """A whole text in a random order of the model's own: an unbiased estimate of a bound on its code length.

    The mean over orders of the code length bounds that of the model's mixture over orders from above (Jensen's
    inequality), and for masked language models and diffusion it is the bound that they are trained on or could be.

    Args:
        documents, windows, window_bytes: see `LikelihoodExam`.
    """

    kind = "any_order"

    def asked(self, content: bytes, begin: int, end: int, rng: np.random.Generator) -> Iterator[Asked]:
        """The whole."""
        yield "whole", begin, end
