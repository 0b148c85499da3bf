"""What came of an exam: numbers with their kind, question by question, so that runs can be compared in pairs."""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ntp.objectives.question import Likelihood
from ntp.tracking.run_directory import json_safe

RESULTS = "exams"
"""Folder of a run directory."""


@dataclass(frozen=True)
class Measure:
    """A number that is a ratio of two sums over questions, such as bits over bytes, or right answers over answers.

    Attributes:
        sums: [Q] float64.
        weights: [Q] float64, not negative.
        variances: [Q] float64, of the sums as estimates; None where they are exact.
        unit: such as ``bits per byte``; empty for a share of 1.
        better: which direction is good; None where there is no such thing.
    """

    sums: np.ndarray
    weights: np.ndarray
    variances: np.ndarray | None = None
    unit: str = ""
    better: Literal["lower", "higher"] | None = None

    def arrays(self) -> list[np.ndarray]:
        """Those that there are."""
        return [one for one in (self.sums, self.weights, self.variances) if one is not None]

    @property
    def value(self) -> float:
        """NaN without any weight."""
        total = float(self.weights.sum())
        return float(self.sums.sum()) / total if total else math.nan

    @property
    def standard_error(self) -> float | None:
        """Of the value as an estimate of this exam's; how another exam would differ is not in it. None if exact."""
        total = float(self.weights.sum())
        if self.variances is None or not total:
            return None
        return math.sqrt(float(self.variances.sum())) / total


@dataclass(frozen=True)
class Result:
    """What one examinee made of one exam.

    Attributes:
        exam: its name.
        digest: of its content: equal digests mean equal questions.
        likelihood: the kind of the numbers; ``none`` where they are no likelihoods.
        given: what each answer was told.
        measures: by name; the first is the one that tables show.
        documents: [Q] the document of each question.
        groups: [Q] the kind of each question, where the exam has several; None otherwise.
        refusal: why there are no numbers; None where there are.
        notes: what happened and what was found beside: one line each. No number is read otherwise for it.
        caveats: what changes how the numbers may be read, such as questions that are left out: one line each. Tables
            show them below the number.
        details: curves, tables and samples for a report, as JSON.
    """

    exam: str
    digest: str
    likelihood: Likelihood = "none"
    given: tuple[str, ...] = ()
    measures: Mapping[str, Measure] = field(default_factory=dict)
    documents: Sequence[str] = ()
    groups: Sequence[str] | None = None
    refusal: str | None = None
    notes: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def primary(self) -> str | None:
        """Name of the measure that tables show."""
        return next(iter(self.measures), None)

    def to_json(self) -> dict[str, Any]:
        """As plain containers."""
        plain = asdict(self) | {"measures": {}, "documents": list(self.documents)}
        for name, one in self.measures.items():
            arrays = {key: getattr(one, key) for key in ("sums", "weights", "variances")}
            plain["measures"][name] = {
                **{key: None if array is None else np.asarray(array, float).tolist() for key, array in arrays.items()},
                "unit": one.unit,
                "better": one.better,
                "value": one.value,
                "standard_error": one.standard_error,
            }
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Result:
        """What `to_json` made.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        measures = {
            name: Measure(
                np.asarray(one["sums"], float),
                np.asarray(one["weights"], float),
                None if one["variances"] is None else np.asarray(one["variances"], float),
                one["unit"],
                one["better"],
            )
            for name, one in plain["measures"].items()
        }
        if any(array.shape != (len(plain["documents"]),) for one in measures.values() for array in one.arrays()):
            raise ValueError("there are not as many numbers as questions")
        known = {
            key: plain[key] for key in ("exam", "digest", "likelihood", "documents", "groups", "refusal", "details")
        }
        return cls(
            **known,
            measures=measures,
            given=tuple(plain["given"]),
            notes=tuple(plain["notes"]),
            caveats=tuple(plain.get("caveats", ())),  # results of earlier versions have none
        )

    @classmethod
    def cannot(cls, exam: str, digest: str, reason: str) -> Result:
        """Somebody can't take the exam."""
        return cls(exam, digest, refusal=reason)


@dataclass(frozen=True)
class StoredResult:
    """A result as it is kept in a run directory.

    Attributes:
        result: what came of the exam.
        step: optimizer steps that the weights had seen.
        identity: of what else decides the numbers: precision, draws, seed.
        seconds: that it took.
    """

    result: Result
    step: int
    identity: Mapping[str, Any]
    seconds: float

    def write(self, run: Path) -> Path:
        """Keep it under ``exams/``; a result of the same exam at the same step is replaced.

        Raises:
            OSError: the directory can't be written.
        """
        folder = run / RESULTS
        folder.mkdir(exist_ok=True)
        path = folder / f"{self.result.exam}-{self.result.digest[:8]}-{self.step}.json"
        plain = {"step": self.step, "identity": dict(self.identity), "seconds": self.seconds} | self.result.to_json()
        # Of its own name: several processes may keep results of the same exam, as baselines do in a shared cache.
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
        try:
            temporary.write_text(json.dumps(json_safe(plain)), encoding="utf-8")
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return path


def read_results(run: Path, damaged: list[str] | None = None) -> list[StoredResult]:
    """All results in a run directory, the oldest step first; files that can't be read are left out.

    Args:
        run: the directory.
        damaged: takes a line for each file that is left out.
    """
    found = []
    for path in sorted((run / RESULTS).glob("*.json")):
        try:
            found.append(_read(path))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if damaged is not None:
                damaged.append(f"{path} can't be read and is left out ({type(error).__name__}: {error})")
    return sorted(found, key=lambda one: one.step)


def forget_results(run: Path, step: int) -> None:
    """Remove the results of steps behind one that a run goes on from."""
    for path in (run / RESULTS).glob("*.json"):
        *_, number = path.stem.rpartition("-")
        if number.isdecimal() and int(number) > step:
            path.unlink(missing_ok=True)


def _read(path: Path) -> StoredResult:
    plain = json.loads(path.read_text(encoding="utf-8"))
    return StoredResult(Result.from_json(plain), int(plain["step"]), plain["identity"], float(plain["seconds"]))
