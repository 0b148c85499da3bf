"""Exams of what a run writes: the rest of a text, or what stands between two."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ntp.config.types import Count, PositiveFloat, PositiveInt, PositiveProbability, Probability
from ntp.evaluation.candidate import Candidate
from ntp.evaluation.examinee import Examinee
from ntp.evaluation.exams import text_metrics
from ntp.evaluation.exams.code_metrics import begins_program, complete_statements, is_program, parses
from ntp.evaluation.exams.code_metrics import whole_lines as with_whole_lines
from ntp.evaluation.exams.exam import Document, Exam, ExamRecipe
from ntp.evaluation.exams.infill import Gap, Infill
from ntp.evaluation.exams.judging import check_judge, fingerprint, judge_checkpoint, judge_way, judged, load_judge
from ntp.evaluation.exams.likelihood import Continue, LikelihoodExam
from ntp.evaluation.exams.python_tokens import compiles
from ntp.evaluation.exams.result import Measure, Result
from ntp.evaluation.exams.writing import (
    SAMPLING_OPTIONS,
    Blank,
    Samples,
    Written,
    can_write,
    is_told_length,
    sampling_of,
    write,
)
from ntp.generation.sampling import Sampling
from ntp.tracking.results import MARKS


class Generation(ExamRecipe):
    """Lets a run write, and measures what it has written.

    How it is to choose tokens is a part of the question: other temperatures are other exams. So are other judges.

    Args:
        places: where it is to write.
        samples: of each question.
        greedy, temperature, top_k, top_p: how tokens are chosen; see `ntp.generation.sampling.Sampling`.
        judge: directory of a run that says how likely it finds what was written; None for no judge.
        bert_score_model: directory of an encoder for BERTScore; None for no BERTScore.
        shown: how many samples the result keeps.

    Raises:
        ConfigError: a package is missing, there is no such encoder, or the judge cannot judge: before anything is
            trained.
    """

    between: ClassVar[bool]
    key: ClassVar[str]
    """Where it stands in the config, for messages."""

    def __init__(
        self,
        places: LikelihoodExam,
        samples: int,
        greedy: bool,
        temperature: float,
        top_k: int | None,
        top_p: float | None,
        judge: str | None,
        bert_score_model: str | None,
        shown: int,
    ) -> None:
        super().__init__(places.documents)
        text_metrics.check_installed()
        self.places, self.samples, self.shown = places, samples, shown
        self.sampling = Sampling(greedy=greedy, temperature=temperature, top_k=top_k, top_p=top_p)
        self.judge, self.bert_score_model = judge, bert_score_model
        if bert_score_model is not None:
            text_metrics.check_bert_score(bert_score_model, f"{self.key}.bert_score_model")
        if judge is not None:
            check_judge(judge, f"{self.key}.judge")

    def arguments(self) -> Mapping[str, Any]:
        """Those of the places, and how it is asked."""
        return {**self.places.arguments(), **self._asked}

    @cached_property
    def _asked(self) -> Mapping[str, Any]:
        options = {key: getattr(self.sampling, key) for key in SAMPLING_OPTIONS}
        asked: dict[str, Any] = {"samples": self.samples, "sampling": options}
        if self.judge is not None:
            asked["judge"] = fingerprint(judge_checkpoint(self.judge), f"{self.key}.judge")
        if self.bert_score_model is not None:
            asked["bert_score_model"] = fingerprint(
                Path(self.bert_score_model).expanduser(), f"{self.key}.bert_score_model"
            )
        return asked

    def items(self, document: Document, rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        """Each place, how it is asked, and whether the document is Python that the measures of code can judge."""
        for item in self.places.items(document, rng):
            if self.is_asked(item):
                first, last = item["asked"]
                text = [part.decode("utf-8", "surrogatepass") for part in _cut(document.content, first, last)]
                code = is_program(text[0] + text[1] + text[2]) and self.is_code(text[0], text[1], text[2]) == (
                    True,
                    True,
                )
                yield {**item, "code": code, **self._asked}

    def is_asked(self, item: Mapping[str, Any]) -> bool:
        """Whether a place is one of those to write at."""
        return True

    def wanted(self) -> str:
        """That of the places."""
        return self.places.wanted()

    @abstractmethod
    def is_code(self, before: str, text: str, behind: str) -> tuple[bool, bool]:
        """Whether a text parses, and whether it compiles, where it stands in its document."""

    @abstractmethod
    def compared(self, samples: Samples, references: Sequence[str]) -> dict[str, Measure]:
        """Measures against the real text, the one that tables show first."""

    def grade(self, exam: Exam, examinee: Examinee) -> Result:
        """Let it write, and measure that."""
        if not isinstance(examinee, Candidate):
            return Result.cannot(exam.name, exam.digest, "it writes no text")
        if not can_write(examinee, self.between):
            task = "write between two texts" if self.between else "continue a text"
            return Result.cannot(exam.name, exam.digest, f"its objective has no native means to {task}")
        judge = None if self.judge is None else load_judge(self.judge, examinee, f"{self.key}.judge")
        blanks = [self._blank(exam, item) for item in exam.items]
        asked = exam.items[0]
        written = write(examinee, blanks, asked["samples"], sampling_of(asked["sampling"]))
        if all(one is None for one in written):
            return Result.cannot(exam.name, exam.digest, "every question is longer than a row of the model")
        samples = [() if one is None else one.texts for one in written]
        references = [one.real for one in blanks]
        measures = self.compared(samples, references) | text_metrics.variety(samples)
        measures |= self._code(exam, samples)
        real: dict[str, Any] = {
            name: one.value for name, one in text_metrics.variety([[one] for one in references]).items()
        }
        notes = ["BLEU, chrF and variety of all samples as one corpus are in the details; here are means over samples"]
        if judge is not None:
            found, known = judged(judge, blanks, [*samples]), judged(judge, blanks, [[one] for one in references])
            measures["judge_bits_per_byte"], real["judge_bits_per_byte"] = found, known.value
            mark = MARKS[judge_way(judge).likelihood]
            notes.append(f"judged by {self.judge}, which finds the real text at {mark}{known.value:.4f} bits per byte")
        if self.bert_score_model is not None:
            measures["bert_score"] = text_metrics.bert_score(
                samples, references, self.bert_score_model, str(examinee.device), f"{self.key}.bert_score_model"
            )
        answered = [number for number, one in enumerate(written) if one is not None]
        given = ("left", "right") if self.between else ("left",)
        return Result(
            exam.name,
            exam.digest,
            given=(*given, "length") if is_told_length(examinee, blanks[0]) else given,
            measures=measures,
            documents=[str(item["document"]) for item in exam.items],
            groups=[str(item["group"]) for item in exam.items],
            notes=tuple(notes),
            caveats=tuple(_caveats(written, len(blanks))),
            details={
                "samples": list(_shown(exam, blanks, samples))[: self.shown],
                "corpus": {
                    **text_metrics.corpus_likeness(
                        [samples[number] for number in answered], [references[number] for number in answered]
                    ),
                    **text_metrics.corpus_variety([text for one in samples for text in one]),
                },
                "real": {**real, "corpus": text_metrics.corpus_variety(references)},
                "ended": sum(one.ended for one in written if one) / sum(len(one) for one in samples),
            },
        )

    def _blank(self, exam: Exam, item: Mapping[str, Any]) -> Blank:
        document, (begin, end), (first, last) = item["document"], item["window"], item["asked"]
        before, real = exam.text(document, begin, first), exam.text(document, first, last)
        return Blank(before, real, exam.text(document, last, end) if self.between else None)

    def _code(self, exam: Exam, samples: Samples) -> dict[str, Measure]:
        """Of the questions whose real text passes; none where there is no such question."""
        if not any(item["code"] for item in exam.items):
            return {}
        sums, counts = np.zeros((2, len(exam.items))), np.zeros(len(exam.items))
        for number, (item, texts) in enumerate(zip(exam.items, samples, strict=True)):
            if item["code"]:
                before, _, behind = (
                    one.decode("utf-8", "surrogatepass")
                    for one in _cut(exam.documents[item["document"]].content, *item["asked"])
                )
                counts[number] = len(texts)
                sums[:, number] = np.sum([self.is_code(before, text, behind) for text in texts], axis=0)
        return {
            name: Measure(values, counts.copy(), None, "", "higher")
            for name, values in zip(("parses", "compiles"), sums, strict=True)
        }


class Continuations(Generation):
    """Writes on from the first part of a window; the questions are those of `ntp.evaluation.exams.likelihood.Continue`
    about the rest.

    Args:
        documents, windows, window_bytes, given: see `ntp.evaluation.exams.likelihood.Continue`.
        samples, greedy, temperature, top_k, top_p, judge, bert_score_model, shown: see `Generation`.
    """

    between = False
    key = "evaluation.exams.continuations"

    def __init__(
        self,
        documents: PositiveInt | None = 64,
        windows: PositiveInt = 1,
        window_bytes: PositiveInt = 512,
        given: Probability = 0.5,
        samples: PositiveInt = 1,
        greedy: bool = False,
        temperature: PositiveFloat = 1.0,
        top_k: PositiveInt | None = None,
        top_p: PositiveProbability | None = None,
        judge: str | None = None,
        bert_score_model: str | None = None,
        shown: Count = 8,
    ) -> None:
        places = Continue(documents, windows, window_bytes, given)
        super().__init__(places, samples, greedy, temperature, top_k, top_p, judge, bert_score_model, shown)

    def is_asked(self, item: Mapping[str, Any]) -> bool:
        """The rest, not the whole."""
        return bool(item["group"] == "rest")

    def is_code(self, before: str, text: str, behind: str) -> tuple[bool, bool]:
        """Of all from the beginning of the document to the last whole line of the text.

        It parses if it is the beginning of a program (`begins_program`). It compiles if it parses and its longest
        beginning that is a program, which must hold something of the text, compiles.
        """
        told = with_whole_lines(before, text)
        if not begins_program(told):
            return False, False
        complete = complete_statements(told, len(before))
        return True, complete is not None and compiles(complete)

    def compared(self, samples: Samples, references: Sequence[str]) -> dict[str, Measure]:
        """chrF, BLEU and ROUGE-L."""
        return text_metrics.likeness(samples, references)


class Infillings(Generation):
    """Writes what stands between two texts; the questions are those of `ntp.evaluation.exams.infill.Infill`.

    Args:
        documents, windows, window_bytes, gaps: see `ntp.evaluation.exams.infill.Infill`.
        samples, greedy, temperature, top_k, top_p, judge, bert_score_model, shown: see `Generation`.
    """

    between = True
    key = "evaluation.exams.infillings"

    def __init__(
        self,
        documents: PositiveInt | None = 64,
        windows: PositiveInt = 1,
        window_bytes: PositiveInt = 512,
        gaps: Sequence[Gap] = ("single_line",),
        samples: PositiveInt = 1,
        greedy: bool = False,
        temperature: PositiveFloat = 1.0,
        top_k: PositiveInt | None = None,
        top_p: PositiveProbability | None = None,
        judge: str | None = None,
        bert_score_model: str | None = None,
        shown: Count = 8,
    ) -> None:
        places = Infill(documents, windows, window_bytes, gaps)
        super().__init__(places, samples, greedy, temperature, top_k, top_p, judge, bert_score_model, shown)

    def is_code(self, before: str, text: str, behind: str) -> tuple[bool, bool]:
        """Of the whole document with the text in its place."""
        whole = before + text + behind
        return parses(whole), compiles(whole)

    def compared(self, samples: Samples, references: Sequence[str]) -> dict[str, Measure]:
        """Edit similarity and exact match, then chrF, BLEU and ROUGE-L."""
        return text_metrics.agreement(samples, references) | text_metrics.likeness(samples, references)


def _cut(content: bytes, first: int, last: int) -> tuple[bytes, bytes, bytes]:
    return content[:first], content[first:last], content[last:]


def _caveats(written: Sequence[Written | None], questions: int) -> Iterator[str]:
    if missing := sum(one is None for one in written):
        yield f"{missing} of {questions} questions are longer than a row and are left out"
    if shortened := sum(one is not None and one.shortened for one in written):
        yield f"{shortened} of {questions} questions were answered with less context, or room, than there is"


def _shown(exam: Exam, blanks: Sequence[Blank], samples: Samples) -> Iterator[Mapping[str, Any]]:
    for item, blank, texts in zip(exam.items, blanks, samples, strict=True):
        for text in texts:
            yield {
                "document": item["document"],
                "asked": item["asked"],
                "prefix": blank.before,
                "suffix": blank.behind,
                "reference": blank.real,
                "sample": text,
            }
