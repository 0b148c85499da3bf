"""Pass@k: does at least one of k programs that a run has written pass the tests of its problem?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np

from ntp.config.errors import ConfigError
from ntp.config.types import Count, PositiveFloat, PositiveInt, PositiveProbability
from ntp.evaluation.candidate import Candidate
from ntp.evaluation.examinee import Examinee
from ntp.evaluation.exams.exam import Document, Exam, ExamRecipe
from ntp.evaluation.exams.problems import Problem, read_problems
from ntp.evaluation.exams.records import records_digest
from ntp.evaluation.exams.result import Measure, Result
from ntp.evaluation.exams.writing import SAMPLING_OPTIONS, Blank, Written, can_write, is_told_length, sampling_of, write
from ntp.evaluation.sandbox.host import Limits, Verdict, refusal, try_solution
from ntp.evaluation.sharing import shared
from ntp.generation.sampling import Sampling

KEY = "evaluation.exams.pass_at_k"
Isolation = Literal["namespaces", "limits"]


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """The unbiased estimate of the probability that at least one of k samples passes (Chen et al. 2021, arXiv
    2107.03374, equation 1): 1 - C(n - c, k) / C(n, k), as a product that does not overflow.

    Args:
        samples: n, at least k.
        passed: c of them.
        k: at least 1.
    """
    if samples - passed < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(samples - passed + 1, samples + 1)))


class PassAtK(ExamRecipe):
    """Runs the functions that a run has written against the tests of their problems.

    Problems are JSON lines in the format of HumanEval-infilling (Bavarian et al. 2022, arXiv 2207.14255), with
    ``task_id``, ``prompt``, ``suffix``, ``canonical_solution``, ``test`` and ``entry_point``; or of HumanEval, which
    has no ``suffix``. What is to stand before a suffix is infilled, and the rest continued.

    Args:
        path: file, directory or pattern; also compressed (``.gz``, ``.zst``).
        allow_execution: run what was written. Without it there is no exam.
        isolation: what holds the programs: ``namespaces`` of Linux, or only ``limits``; see `ntp.evaluation.sandbox`.
        k: of pass@k; the first one is what tables show.
        samples: n, of each problem.
        tokens: of a sample, at most.
        greedy, temperature, top_k, top_p: how tokens are chosen; see `ntp.generation.sampling.Sampling`.
        cpu_seconds: of the processor that a sample may use. Of time on the clock it has four times as much and five
            seconds more.
        memory_megabytes: that it may use.
        problems: how many, those that come first in the file; None for all.
        shown: how many samples the result keeps.

    Raises:
        ConfigError: running is not allowed, more is asked for than is sampled, or the system cannot hold the programs.
    """

    def __init__(
        self,
        path: str,
        allow_execution: bool = False,
        isolation: Isolation = "namespaces",
        k: Sequence[PositiveInt] = (1,),
        samples: PositiveInt = 20,
        tokens: PositiveInt = 128,
        greedy: bool = False,
        temperature: PositiveFloat = 0.8,
        top_k: PositiveInt | None = None,
        top_p: PositiveProbability | None = 0.95,
        cpu_seconds: PositiveInt = 3,
        memory_megabytes: PositiveInt = 512,
        problems: PositiveInt | None = None,
        shown: Count = 8,
    ) -> None:
        super().__init__(problems)
        if not allow_execution:
            problem = "runs programs that a model has written; if that is what you want, set it to true"
            raise ConfigError(f"{KEY}.allow_execution", problem)
        if not k:
            raise ConfigError(f"{KEY}.k", "names no k")
        if (most := max(k)) > samples:
            raise ConfigError(f"{KEY}.samples", f"{samples} samples say nothing of pass@{most}; take at least {most}")
        if isolation == "namespaces" and (why := refusal()) is not None:
            problem = f"this system gives no namespaces ({why}); 'limits' runs the programs with much less around them"
            raise ConfigError(f"{KEY}.isolation", problem)
        self.path, self.isolation, self.k, self.samples, self.tokens = path, isolation, tuple(k), samples, tokens
        self.sampling = Sampling(greedy=greedy, temperature=temperature, top_k=top_k, top_p=top_p)
        self.limits = Limits(cpu_seconds, memory_megabytes << 20)
        self.shown = shown

    def arguments(self) -> Mapping[str, Any]:
        """The content of the files, and how it is asked."""
        return {"records": records_digest(self.path, f"{KEY}.path"), "problems": self.documents, **self._asked()}

    def _asked(self) -> Mapping[str, Any]:
        options = {key: getattr(self.sampling, key) for key in SAMPLING_OPTIONS}
        return {
            "samples": self.samples,
            "tokens": self.tokens,
            "sampling": options,
            "limits": asdict(self.limits),
            "isolation": self.isolation,
        }

    def make(self, name: str, texts: Iterable[str], source: Mapping[str, Any] | None = None) -> Exam:
        """Of the files; not of held-out documents."""
        documents: dict[str, Document] = {}
        items: list[Mapping[str, Any]] = []
        for problem in read_problems(self.path, f"{KEY}.path"):
            if len(items) == self.documents:
                break
            document = Document.of(problem.to_json())
            documents[document.sha256] = document
            items.append({"document": document.sha256, "task_id": problem.task_id, **self._asked()})
        if not items:
            raise ConfigError(f"{KEY}.path", f"{self.path} holds no problem")
        return Exam(name, documents, items, {"path": self.path, "recipe": self.identity()})

    def items(self, document: Document, rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        """None: what is asked stands in files."""
        yield from ()

    def grade(self, exam: Exam, examinee: Examinee) -> Result:
        """Write, and run."""
        if not isinstance(examinee, Candidate):
            return Result.cannot(exam.name, exam.digest, "it writes no text")
        problems = [Problem.from_json(exam.documents[item["document"]].content) for item in exam.items]
        able = [can_write(examinee, problem.suffix is not None) for problem in problems]
        if not any(able):
            task = "write between two texts" if problems[0].suffix is not None else "continue a text"
            return Result.cannot(exam.name, exam.digest, f"its objective has no native means to {task}")
        broken = self._broken(examinee, problems)
        blanks = {
            number: Blank(one.prompt, one.canonical_solution, one.suffix, self.tokens)
            for number, one in enumerate(problems)
            if able[number] and number not in broken
        }
        if not blanks:
            return Result.cannot(exam.name, exam.digest, "no problem passes its test with its own solution")
        sampling = sampling_of(exam.items[0]["sampling"])
        answers = write(examinee, list(blanks.values()), self.samples, sampling)
        written = dict(zip(blanks, answers, strict=True))
        programs = [
            (number, text)
            for number, one in written.items()
            if one is not None
            for text in map(problems[number].ended, one.texts)
        ]
        verdicts = self._run(examinee, [(problems[number], text) for number, text in programs])
        passed = Counter(number for (number, _), verdict in zip(programs, verdicts, strict=True) if verdict.passed)
        answered = {number for number, _ in programs}
        weights = np.array([float(number in answered) for number in range(len(problems))])
        measures = {
            f"pass_at_{k}": Measure(
                np.array(
                    [pass_at_k(self.samples, passed[one], k) if weights[one] else 0.0 for one in range(len(weights))]
                ),
                weights,
                None,
                "",
                "higher",
            )
            for k in self.k
        }
        first = next(iter(blanks.values()))
        given = ("left",) if first.behind is None else ("left", "right")
        return Result(
            exam.name,
            exam.digest,
            given=(*given, "length") if is_told_length(examinee, first) else given,
            measures=measures,
            documents=[str(item["document"]) for item in exam.items],
            notes=(f"{self.samples} samples of each problem, run with {_HELD[self.isolation]}",),
            caveats=tuple(_caveats(able, broken, written)),
            details={
                "reasons": dict(Counter(verdict.reason for verdict in verdicts).most_common()),
                "passed": {problems[number].task_id: passed[number] for number in sorted(answered)},
                "broken": {problems[number].task_id: verdict.reason for number, verdict in broken.items()},
                "samples": [
                    {
                        "task_id": problems[number].task_id,
                        "prefix": problems[number].prompt,
                        "suffix": problems[number].suffix,
                        "reference": problems[number].canonical_solution,
                        "sample": text,
                        "verdict": verdict.reason,
                    }
                    for (number, text), verdict in zip(programs[: self.shown], verdicts, strict=False)
                ],
            },
        )

    def _broken(self, examinee: Candidate, problems: Sequence[Problem]) -> dict[int, Verdict]:
        """Problems that their own solutions do not pass, by number."""
        verdicts = self._run(examinee, [(one, one.canonical_solution) for one in problems])
        return {number: verdict for number, verdict in enumerate(verdicts) if not verdict.passed}

    def _run(self, examinee: Candidate, programs: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        """The verdicts, shared among processes; what was written twice is run once."""
        different = list(dict.fromkeys(programs))

        def judged(index: int) -> Verdict:
            problem, text = different[index]
            return try_solution(
                problem.program(text),
                reference=problem.program(problem.canonical_solution),
                test=problem.test,
                entry_point=problem.entry_point,
                limits=self.limits,
                namespaces=self.isolation == "namespaces",
            )

        found = dict(zip(different, shared(examinee, len(different), judged), strict=True))
        return [found[program] for program in programs]


def _caveats(
    able: Sequence[bool], broken: Mapping[int, Verdict], written: Mapping[int, Written | None]
) -> Iterator[str]:
    if not all(able):
        yield f"{able.count(False)} of {len(able)} problems are left out: the objective has no means to answer them"
    if broken:
        yield f"{len(broken)} of {len(able)} problems are left out: their own solutions do not pass their tests"
    if missing := sum(one is None for one in written.values()):
        yield f"{missing} of {len(able)} problems are left out: they are longer than a row"
    if shortened := sum(one is not None and one.shortened for one in written.values()):
        yield f"{shortened} of {len(able)} problems were answered with less context, or room, than there is"


_HELD: dict[Isolation, str] = {
    "namespaces": "Linux namespaces around them",
    "limits": "nothing around them but limits and an audit hook",
}
