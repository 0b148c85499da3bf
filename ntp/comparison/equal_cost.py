"""Which result of an exam speaks for a run: that at its end, or what it would have been at an equal cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ntp.comparison.arms import Arm
from ntp.comparison.collect import ComparedRun
from ntp.comparison.curves import AXES, find_axis
from ntp.comparison.ledger import amount_of, cost_of, counted, rows_of_a_step
from ntp.comparison.matching import measure_at
from ntp.config.errors import ConfigError
from ntp.evaluation.exams.result import StoredResult

TOLERANCE = 0.01
"""Relative: a budget ends at a whole step, so that equal budgets are nearly equal amounts."""


@dataclass
class Chosen:
    """Results of arms.

    Attributes:
        results: by arm, one dictionary a run, by exam.
        gaps: why an arm has no result of an exam, by arm and exam.
        amount: at which; None at the end of each run.
        notes: one line each.
    """

    results: dict[str, list[dict[str, StoredResult]]]
    gaps: dict[str, dict[str, str]] = field(default_factory=dict)
    amount: float | None = None
    notes: list[str] = field(default_factory=list)


def choose_results(arms: Sequence[Arm], axis: str | None = None) -> Chosen:
    """The results that speak for the runs of some arms.

    Args:
        arms: at least one.
        axis: of `ntp.comparison.curves.AXES`: results at the largest amount that all runs have reached, in between two
            times that an exam was taken where it is. None for those of the last step; a result of another step, where
            there is none of the last, has a caveat that says so.

    Raises:
        ConfigError: there is no such axis, or a run has not counted it.
    """
    digests = common_digests([run for arm in arms for run in arm.runs])
    if axis is None:
        return Chosen({arm.name: [_last(run, digests) for run in arm.runs] for arm in arms})
    find_axis(axis, "match")
    ends = {run.name: cost_of(run, axis) for arm in arms for run in arm.runs}
    for name, end in ends.items():
        if end is None:
            raise ConfigError("match", f"{name} has not counted its {AXES[axis].title}")
    amount = min(end for end in ends.values() if end is not None)
    chosen = Chosen({}, {}, amount)
    for arm in arms:
        gaps = chosen.gaps.setdefault(arm.name, {})
        chosen.results[arm.name] = [_at(run, digests, axis, amount, gaps) for run in arm.runs]
        longest = max(ends[run.name] or 0.0 for run in arm.runs)
        if longest > amount * (1 + TOLERANCE):
            chosen.notes.append(
                f"{arm.name} is read at {amount / longest:.0%} of its run, before its learning rate was at its end: "
                "a run of that length may have come further"
            )
    return chosen


def common_digests(runs: Sequence[ComparedRun]) -> dict[str, str]:
    """By exam, the content that most runs have been asked; of equally many, that with the most questions."""
    counts: dict[str, Counter[str]] = {}
    questions: dict[str, int] = {}
    for run in runs:
        for exam, digest in {(one.result.exam, one.result.digest) for one in run.results}:
            counts.setdefault(exam, Counter())[digest] += 1
        for one in run.results:
            questions[one.result.digest] = max(questions.get(one.result.digest, 0), len(one.result.documents))
    return {
        exam: max(found, key=lambda digest: (found[digest], questions[digest], digest))
        for exam, found in sorted(counts.items())
    }


def several_contents(runs: Sequence[ComparedRun], exams: Collection[str]) -> list[str]:
    """A line for each of some exams that a run has been asked in more than one version."""
    common = common_digests(runs)
    found: dict[str, set[str]] = {}
    for run in runs:
        own: dict[str, set[str]] = {}
        for one in run.results:
            own.setdefault(one.result.exam, set()).add(one.result.digest)
        for exam, digests in own.items():
            if exam in exams and len(digests) > 1:
                found.setdefault(exam, set()).update(digests)
    return [
        f"{exam}: runs have taken {len(digests)} different exams of this name; compared is {common[exam][:8]}, which "
        "most have taken or, of equally many, has the most questions"
        for exam, digests in sorted(found.items())
    ]


def _own(run: ComparedRun, digests: Mapping[str, str]) -> dict[str, list[StoredResult]]:
    """Results by exam, of the common digest where there are any, the oldest step first."""
    found: dict[str, list[StoredResult]] = {}
    for one in run.results:
        found.setdefault(one.result.exam, []).append(one)
    for exam, results in found.items():
        common = [one for one in results if one.result.digest == digests[exam]]
        last = results[-1].result.digest
        found[exam] = common or [one for one in results if one.result.digest == last]
    return found


def _last(run: ComparedRun, digests: Mapping[str, str]) -> dict[str, StoredResult]:
    """Those of the step at which the run ended; where there is none of an exam, the newest, which then says so."""
    return {exam: _at_the_end(run, results) for exam, results in _own(run, digests).items()}


def _at_the_end(run: ComparedRun, results: Sequence[StoredResult]) -> StoredResult:
    last = next((one for one in results if of_the_end(run, one)), results[-1])
    if of_the_end(run, last):
        return last
    caveat = f"{run.name}: the result is of step {last.step:,}, the run has done {run.step:,}"
    return replace(last, result=replace(last.result, caveats=(*last.result.caveats, caveat)))


def of_the_end(run: ComparedRun, one: StoredResult) -> bool:
    """Whether a result is of all the steps of a run, as is one that no step changes, and any where none are counted."""
    return one.result.refusal is not None or run.step in (0, one.step)


def _at(
    run: ComparedRun, digests: Mapping[str, str], axis: str, amount: float, gaps: dict[str, str]
) -> dict[str, StoredResult]:
    spent = amounts_by_step(run, axis)
    found = {}
    for exam, results in _own(run, digests).items():
        known = [(spent[one.step], one) for one in results if one.step in spent]
        near = [(abs(at - amount), one) for at, one in known if abs(at - amount) <= TOLERANCE * amount]
        if results[-1].result.refusal is not None:
            found[exam] = results[-1]
        elif near:
            found[exam] = min(near, key=lambda pair: pair[0])[1]
        elif len(known) > 1 and known[0][0] < amount < known[-1][0]:
            between = _between(known, amount)
            if between is None:
                gaps[exam] = "was asked about other documents before the equal amount than behind it"
            else:
                found[exam] = between
        else:
            when = ", ".join(counted(at, axis) for at, _ in known) or "an amount that is not known"
            gaps[exam] = f"has taken it at {when}, not at {counted(amount, axis)}"
    return found


def _between(known: Sequence[tuple[float, StoredResult]], amount: float) -> StoredResult | None:
    """Question by question, linear in the logarithm of the amount; None where the two were about other questions."""
    behind = next(index for index, (at, _) in enumerate(known) if at >= amount)
    (from_, before), (to, after) = known[behind - 1 : behind + 1]
    first, second = before.result, after.result
    if list(first.documents) != list(second.documents):
        return None
    measures = {
        name: measure_at([from_, to], [first.measures[name], one], amount)
        for name, one in second.measures.items()
        if name in first.measures
    }
    note = f"read between steps {before.step:,} and {after.step:,}; other notes and details are of step {after.step:,}"
    return replace(after, result=replace(second, measures=measures, notes=(*second.notes, note)))


def amounts_by_step(run: ComparedRun, axis: str) -> dict[int, float]:
    """What had been spent at every step that ``metrics.jsonl`` has a line of."""
    rows = rows_of_a_step(run)
    return {
        int(line["progress/step"]): amount
        for line in run.lines
        if line.get("progress/step") and (amount := amount_of(line, axis, rows)) is not None
    }
