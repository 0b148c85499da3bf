"""What difference a sweep could detect, by what earlier runs say of how much numbers vary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import special

from ntp.comparison.arms import Arm
from ntp.comparison.equal_cost import choose_results
from ntp.comparison.matrix import Row, build_column, of_both
from ntp.comparison.power import POWER, Spread, detectable
from ntp.comparison.statistics import LEVEL, Better, Difference, Sample, by_document, compare
from ntp.comparison.variation import Variation
from ntp.config.errors import ConfigError
from ntp.config.nearest import suggestion

SEEDS = (1, 2, 3, 5, 8)
_MANY = 10**9
_CENTRAL = 0.9
_FEW = 10  # degrees of freedom: with fewer, a deviation may be off by half


@dataclass(frozen=True)
class Detectable:
    """The smallest difference that is found with the power asked for.

    Attributes:
        seeds: of each arm.
        difference: with the documents asked for; infinite where none is found.
        at_best: with any number of documents.
    """

    seeds: int
    difference: float
    at_best: float


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep could tell.

    Attributes:
        exam, measure, unit: of the numbers.
        value: what the runs have reached, the mean of all arms.
        documents: that the sweep would be asked about.
        deviation: between seeds of one arm; None where it is not known.
        deviation_low, deviation_high: interval of the deviation at 90%; of two seeds it is wide.
        rows: for some numbers of seeds; none where nothing is known of seeds.
        spread: of a difference of two arms; None likewise.
        pairs: what the runs themselves say of each two arms, by their names.
        notes: what is not known, and what has been assumed, one line each.
    """

    exam: str
    measure: str
    unit: str
    value: float
    documents: int
    deviation: float | None
    deviation_low: float
    deviation_high: float
    rows: tuple[Detectable, ...]
    spread: Spread | None
    pairs: Mapping[tuple[str, str], Difference]
    notes: tuple[str, ...]


def plan_sweep(
    arms: Sequence[Arm],
    *,
    exam: str = "continue",
    measure: str | None = None,
    seeds: int = 3,
    documents: int | None = None,
    level: float = LEVEL,
    wanted: float = POWER,
) -> SweepPlan:
    """What a sweep of such arms could detect.

    The variance of a future difference is taken from pairs of arms that have the same seeds, two at least. Where there
    is no such pair, it is twice that of one arm: seeds are then taken to have nothing in common between arms.

    Args:
        arms: runs that differ by their seed only, each.
        exam: that they have taken.
        measure: of the exam; None for the one that tables show.
        seeds: of each arm of the sweep.
        documents: of the exam of the sweep; None for as many as the runs were asked about.
        level: of the intervals.
        wanted: power.

    Raises:
        ConfigError: no run has taken the exam, or it has no such measure, or nothing of it can be better or worse.
    """
    chosen = choose_results(arms)
    rows = [Row(arm.name, False, chosen.results[arm.name], arm.seeds) for arm in arms]
    taken = sorted({name for row in rows for results in row.results for name in results})
    if exam not in taken:
        hint = suggestion(exam, taken) or (f"; they have taken {', '.join(taken)}" if taken else "")
        raise ConfigError("exam", f"none of the runs has taken '{exam}'{hint}; ntp evaluate lets them take it")
    column = build_column(exam, rows, measure)
    samples = {name: cell.sample for name, cell in column.cells.items() if cell.ranked and cell.sample is not None}
    known_measures = {name for row in rows for one in row.results if exam in one for name in one[exam].result.measures}
    if measure is not None and measure not in known_measures:
        raise ConfigError("measure", f"'{exam}' has no '{measure}'{suggestion(measure, known_measures)}")
    if not samples:
        reason = next((cell.reason for cell in column.cells.values() if cell.reason), "it has no numbers")
        raise ConfigError("measure" if measure else "exam", f"nothing can be said of '{exam}': {reason}")
    better: Better = "higher" if column.better == "higher" else "lower"
    pairs = {
        names: _compared(samples[names[0]], samples[names[1]], better, level)
        for kind in column.kinds.values()
        for names in combinations([name for name in kind if name in samples], 2)
    }
    known = max(by_document(one)[0].documents for one in samples.values())
    asked = known if documents is None else documents
    repeated = {name: _variation([one]) for name, one in samples.items() if len(one.seeds) > 1}
    notes: list[str] = []
    spread = _spread(pairs, samples, repeated, notes)
    deviation, low, high = _deviation(repeated, samples)
    if deviation is None:
        notes.append(
            "how much a seed matters is not known: each configuration has one run that has taken the exam; "
            "train one of them again with another seed (ntp train ... seed=1) and let it take the exam"
        )
    elif sum(len(samples[name].seeds) - 1 for name in repeated) < _FEW:
        notes.append(f"few seeds: the deviation between them may as well be {low:.2g} or {high:.2g}")
    if documents is not None and documents != known:
        notes.append(f"documents of the sweep are taken to be like the {known} of the exam so far")
    table: list[Detectable] = []
    if spread is not None:
        for number in sorted({*SEEDS, seeds}):
            found, at_best = (detectable(spread, number, each, level, wanted) for each in (asked, _MANY))
            table.append(Detectable(number, found, at_best))
    value = float(np.mean([one.value for one in samples.values()]))
    return SweepPlan(
        exam, column.measure, column.unit, value, asked, deviation, low, high, tuple(table), spread, pairs, tuple(notes)
    )


def _compared(a: Sample, b: Sample, better: Better, level: float) -> Difference:
    a, b, _ = of_both(a, b)
    return compare(a, b, better=better, level=level)


def _variation(samples: Sequence[Sample]) -> Variation:
    tables = [one.influence_SD for one in by_document(*samples)]
    return Variation.of(tables if len(tables) == 1 else [-tables[0], tables[1]])


def _spread(
    pairs: Mapping[tuple[str, str], Difference],
    samples: Mapping[str, Sample],
    repeated: Mapping[str, Variation],
    notes: list[str],
) -> Spread | None:
    """Of a difference, on the average of what is known; None where nothing is known of seeds."""
    paired = [one.spread for one in pairs.values() if one.paired_seeds and one.spread is not None]
    if paired:
        return _mean(paired)
    if not repeated:
        return None
    arms = _mean([one.spread for one in repeated.values()])
    of_documents = [_variation(of_both(samples[a], samples[b])[:2]).spread.documents for a, b in pairs]
    notes.append(
        "no two configurations with numbers of one kind have the same seeds: "
        "seeds are taken to have nothing in common between arms"
    )
    if not of_documents:
        notes.append(
            "how differently two arms answer a document is not known: no two configurations have numbers of one kind; "
            "what can be detected is at best as small as this"
        )
    return Spread(
        seeds=2 * arms.seeds,
        documents=float(np.mean(of_documents)) if of_documents else 0.0,
        interaction=2 * arms.interaction,
    )


def _mean(spreads: Sequence[Spread]) -> Spread:
    parts = np.mean([(one.seeds, one.documents, one.interaction) for one in spreads], axis=0)
    return Spread(float(parts[0]), float(parts[1]), float(parts[2]))


def _deviation(repeated: Mapping[str, Variation], samples: Mapping[str, Sample]) -> tuple[float | None, float, float]:
    """Between the seeds of one arm, pooled over arms, with its interval by chi-square."""
    degrees = sum(len(samples[name].seeds) - 1 for name in repeated)
    if not degrees:
        return None, math.nan, math.nan
    squares = sum(float(np.var(samples[name].values, ddof=1)) * (len(samples[name].seeds) - 1) for name in repeated)
    low, high = (
        math.sqrt(squares / special.chdtri(degrees, tail)) for tail in (0.5 - _CENTRAL / 2, 0.5 + _CENTRAL / 2)
    )
    return math.sqrt(squares / degrees), low, high
