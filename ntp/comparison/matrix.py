"""The matrix of rows (arms and baselines) and exams: what each number is, and which may be ranked against which."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from ntp.comparison.statistics import (
    Better,
    Difference,
    Estimate,
    Sample,
    adjusted,
    compare,
    estimate,
    plus_minus,
    verdict,
)
from ntp.evaluation.exams.result import Measure, Result, StoredResult
from ntp.objectives.question import Likelihood
from ntp.tracking.results import MARKS

Question = tuple[str, str, int]
"""Its document, its group, and how many of both stand before it in the exam."""

Kind = tuple[Likelihood, tuple[str, ...]]
"""Likelihood and what an answer was given: only numbers that are equal in both are ranked."""


@dataclass
class Row:
    """Who took the exams.

    Attributes:
        name: of an arm or a baseline.
        baseline: whether it is one.
        results: of each run, by exam; of a baseline's one.
        seeds: of the runs; empty for what has no seed.
        gaps: why it has no result of an exam, by exam, where that is known.
        costs: of a baseline, what fitting it has cost, by names of `ntp.comparison.ledger.COSTS`.
        description: of a baseline, one line.
    """

    name: str
    baseline: bool
    results: list[dict[str, StoredResult]]
    seeds: tuple[int, ...]
    gaps: Mapping[str, str] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    description: str = ""


@dataclass
class Cell:
    """What a row made of an exam.

    Attributes:
        estimate: the number, where there is one.
        sample: what it was made of.
        kind: of the number.
        results: that it was made of, one a seed.
        reason: why there is no number, or why this one is not ranked; None where there is nothing to say.
        notes: what else is known of the number, one line each.
        caveats: what changes how the number may be read, one line each.
        best: whether it is resolved to be the best of its kind.
    """

    estimate: Estimate | None = None
    sample: Sample | None = None
    kind: Kind = ("none", ())
    results: list[StoredResult] = field(default_factory=list)
    reason: str | None = None
    notes: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    best: bool = False

    @property
    def ranked(self) -> bool:
        """Whether it takes part in comparisons."""
        return self.estimate is not None and self.reason is None and math.isfinite(self.estimate.value)

    @property
    def remarks(self) -> str:
        """All that is said of it, in a line."""
        return "; ".join(filter(None, [self.reason, *self.caveats, *self.notes]))

    @property
    def text(self) -> str:
        """``≤ 2.12 ± 0.03``; a dash where there is nothing."""
        if self.estimate is None or not math.isfinite(self.estimate.value):
            return "—"
        half = (self.estimate.high - self.estimate.low) / 2
        return f"{MARKS[self.kind[0]]}{plus_minus(self.estimate.value, half)}"


@dataclass
class Pair:
    """Two rows of one kind, compared on one exam.

    Attributes:
        first, second: their names.
        difference: by how much the second is better, with p-values by Holm over all pairs of the kind.
        verdict: in words.
        shown: whether it belongs into the short list: the best arm of a kind, or the reference, against another.
    """

    first: str
    second: str
    difference: Difference
    verdict: str
    shown: bool


@dataclass
class Column:
    """One exam.

    Attributes:
        exam, digest: which. The digest is that of most rows.
        measure: the one that is shown.
        unit, better: of the measure.
        cells: by the name of the row, in the order of rows.
        pairs: of rows that may be compared.
        kinds: rows of each kind of number that is in the column.
        mixed: why its rows must not be ranked, which is that their numbers are not all about the same questions; None
            where they are.
    """

    exam: str
    digest: str
    measure: str
    unit: str
    better: Better | None
    cells: dict[str, Cell]
    pairs: list[Pair] = field(default_factory=list)
    mixed: str | None = None

    @property
    def kinds(self) -> dict[Kind, list[str]]:
        """Names of the rows of each kind that can be ranked."""
        found: dict[Kind, list[str]] = {}
        for name, cell in self.cells.items():
            if cell.ranked:
                found.setdefault(cell.kind, []).append(name)
        return found

    @property
    def title(self) -> str:
        """Exam and measure."""
        said = self.measure.replace("_", " ")
        return self.exam.replace("_", " ") if said == self.unit else f"{self.exam.replace('_', ' ')}: {said}"


def build_column(exam: str, rows: Sequence[Row], measure: str | None = None) -> Column:
    """The numbers of one exam, not yet compared.

    Args:
        exam: its name.
        rows: in the order of the table; at least one has a result.
        measure: which; None for the one that tables show.
    """
    stored = [results[exam] for row in rows for results in row.results if exam in results]
    # Ties go to the digest that comes first in the table.
    digest = Counter(one.result.digest for one in stored).most_common(1)[0][0]
    answered = [one.result for one in stored if one.result.measures]
    of_digest = [one for one in answered if one.digest == digest] or answered
    chosen = measure or next((one.primary for one in of_digest if one.primary), None) or "—"
    example = next((one.measures[chosen] for one in of_digest if chosen in one.measures), None)
    asked: dict[str, set[Question]] = {}
    for one in stored:
        asked.setdefault(one.result.digest, set()).update(questions_of(one.result))
    questions = {name: sorted(found) for name, found in asked.items()}
    column = Column(
        exam,
        digest,
        chosen,
        example.unit if example else "",
        example.better if example else None,
        {row.name: _cell(row, exam, digest, chosen, questions) for row in rows},
    )
    others = len({one.result.digest for one in stored}) - 1
    if others:
        column.mixed = f"{exam}: the rows have taken {others + 1} different exams of this name"
    return column


def _cell(row: Row, exam: str, digest: str, measure: str, questions: Mapping[str, Sequence[Question]]) -> Cell:
    own = [(index, results[exam]) for index, results in enumerate(row.results) if exam in results]
    if not own:
        return Cell(reason=row.gaps.get(exam, "has not taken this exam"))
    same = [(index, one) for index, one in own if one.result.digest == digest]
    reason = None
    if not same:
        other = own[0][1].result.digest
        same, reason = own, f"took another exam of this name ({other[:8]}, the others {digest[:8]})"
        same = [(index, one) for index, one in own if one.result.digest == other]
    elif len(same) < len(own):
        reason = "some of its runs took another exam of this name"
    stored = [one for _, one in same]
    refusal = next((one.result.refusal for one in stored if one.result.refusal), None)
    measures = [(index, one.result.measures[measure]) for index, one in same if measure in one.result.measures]
    if not measures:
        return Cell(results=stored, reason=refusal or f"has no {measure.replace('_', ' ')}")
    result = stored[0].result
    kind: Kind = (result.likelihood, tuple(sorted(result.given)))
    if any((one.result.likelihood, tuple(sorted(one.result.given))) != kind for one in stored):
        return Cell(results=stored, reason="its runs answered in different ways")
    count, whole = len(measures), len(row.results)
    caveats = [f"{count} of its {whole} runs {'has' if count == 1 else 'have'} taken it"] if count < whole else []
    caveats += dict.fromkeys(caveat for one in stored for caveat in one.result.caveats)
    notes = dict.fromkeys(note for one in stored for note in one.result.notes)
    seeds = tuple(row.seeds[index] for index, _ in measures) if row.seeds else ()
    answers = [
        (one.result.measures[measure], questions_of(one.result)) for one in stored if measure in one.result.measures
    ]
    sample = sample_of(answers, questions.get(result.digest, ()), seeds)
    found = estimate(sample)
    if not math.isfinite(found.value):
        reason = reason or _without_a_number(sample)
    return Cell(found, sample, kind, stored, reason, tuple(notes), tuple(caveats))


def _without_a_number(sample: Sample) -> str:
    if not sample.weights.any():
        return "has answered none of the questions"
    which = [seed for seed, value in zip(sample.seeds, sample.values, strict=False) if not math.isfinite(value)]
    if not 0 < len(which) < len(sample.seeds):
        return "its number is not finite"
    return f"the number of seed {', '.join(map(str, which))} is not finite"


def questions_of(result: Result) -> list[Question]:
    """The questions of a result, so that equal questions of results of one digest are equal."""
    groups = result.groups if result.groups is not None else [""] * len(result.documents)
    before: Counter[tuple[str, str]] = Counter()
    found = []
    for place in zip(result.documents, groups, strict=True):
        found.append((*place, before[place]))
        before[place] += 1
    return found


def sample_of(
    answers: Sequence[tuple[Measure, Sequence[Question]]], questions: Sequence[Question], seeds: tuple[int, ...]
) -> Sample:
    """Of the runs of one row. A question that a run was not asked, as where an exam depends on what a run can read,
    weighs nothing.

    Args:
        answers: of each run, with its questions.
        questions: of the column, each once.
        seeds: of the runs; empty for what has no seed.
    """
    places = {one: index for index, one in enumerate(questions)}

    def placed(values: np.ndarray, own: Sequence[Question]) -> np.ndarray:
        row = np.zeros(len(questions))
        row[[places[one] for one in own]] = values
        return row

    noisy = any(one.variances is not None for one, _ in answers)
    variances = [
        np.zeros(len(questions)) if one.variances is None else placed(one.variances, own) for one, own in answers
    ]
    _, codes = np.unique(np.array([document for document, *_ in questions], dtype=str), return_inverse=True)
    return Sample(
        np.array([placed(one.sums, own) for one, own in answers]),
        np.array([placed(one.weights, own) for one, own in answers]),
        np.array(variances) if noisy else None,
        codes.reshape(-1),
        seeds,
    )


def of_both(a: Sample, b: Sample) -> tuple[Sample, Sample, str | None]:
    """Two samples about the questions that all runs of both have answered, and a line if these are not all."""
    answered = [(one.weights > 0) for one in (a, b)]
    common = answered[0].all(0) & answered[1].all(0)
    any_ = answered[0].any(0) | answered[1].any(0)
    if (common == any_).all():
        return a, b, None

    def part(one: Sample) -> Sample:
        variances = None if one.variances is None else np.where(common, one.variances, 0.0)
        return replace(
            one, sums=np.where(common, one.sums, 0.0), weights=np.where(common, one.weights, 0.0), variances=variances
        )

    return part(a), part(b), f"compared on the {common.sum()} of {any_.sum()} questions that all their runs answered"


def rank(column: Column, rows: Sequence[Row], reference: str | None = None) -> None:
    """Compare the rows of each kind in pairs, and mark the best one where it is better than each of the others.

    Two baselines are not compared with each other, unless one of them is the best.

    Args:
        column: to be completed.
        rows: of the matrix.
        reference: against which verdicts are told; None for the best arm of each kind.
    """
    if column.better is None:
        return
    for names in column.kinds.values():
        if len(names) > 1:
            column.pairs += _pairs(column, names, {row.name for row in rows if row.baseline}, reference)


def _pairs(column: Column, names: Sequence[str], baselines: Set[str], reference: str | None) -> list[Pair]:
    sign = 1.0 if column.better == "lower" else -1.0
    samples: Mapping[str, Sample] = {name: column.cells[name].sample for name in names}  # type: ignore[misc]
    best = min(names, key=lambda name: sign * samples[name].value)
    arms = [name for name in names if name not in baselines]
    leading = min(arms or names, key=lambda name: sign * samples[name].value)
    against = reference if reference in names else leading
    couples = [pair for pair in combinations(names, 2) if best in pair or not baselines >= set(pair)]
    # The one that verdicts are told against stands first, so that the other is better or worse than it.
    couples = [(b, a) if b == against else (a, b) for a, b in couples]
    assert column.better is not None
    differences = adjusted([_compared(samples[a], samples[b], column.better) for a, b in couples])
    won = [
        one.resolved and (one.value > 0) == (b == best)
        for (a, b), one in zip(couples, differences, strict=True)
        if best in (a, b)
    ]
    column.cells[best].best = all(won)
    return [
        Pair(a, b, one, verdict(one, (a, b), column.unit), against in (a, b) and not baselines >= {a, b})
        for (a, b), one in zip(couples, differences, strict=True)
    ]


def _compared(a: Sample, b: Sample, better: Better) -> Difference:
    a, b, caveat = of_both(a, b)
    difference = compare(a, b, better=better)
    return difference if caveat is None else replace(difference, caveats=(*difference.caveats, caveat))


def circumstances_of(column: Column) -> list[str]:
    """A line for each way in which the numbers of a column were not made alike."""
    lines = []
    for name in ("draws", "precision"):
        values: dict[str, list[str]] = {}
        for row, cell in column.cells.items():
            drawn = cell.kind[0] != "exact" and any(
                one.variances is not None for stored in cell.results for one in stored.result.measures.values()
            )
            if name == "draws" and not drawn:
                continue
            for stored in cell.results:
                if name in stored.identity:
                    values.setdefault(str(stored.identity[name]), []).append(row)
        if len(values) > 1:
            said = "; ".join(f"{value} ({', '.join(dict.fromkeys(rows))})" for value, rows in values.items())
            lines.append(f"{column.exam}: taken with different {name}: {said}")
    return lines
