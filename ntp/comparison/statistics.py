"""How sure a number is, and whether a difference of two is real.

An exam's number would be another one had the run been trained from another seed, and had other documents been asked
about. Both are random, and they cross: every seed answers every document.

- Documents are many. They are resampled with replacement, whole documents at a time and the same for all seeds and both
  arms (paired, clustered bootstrap: Efron and Tibshirani 1993; Koehn 2004). Deviations are widened for few documents
  (Hesterberg 2015).
- Seeds are few. Resampling two or five of them gives intervals that are much too narrow, so that their level of the
  hierarchy follows Student's t with their own variance instead: the interval is that of the sum of a bootstrapped
  deviation of the documents and a t-distributed one of the seeds.
- What varies from seed to seed within a document (the noise of estimates is part of it) is in both variances. It is
  counted once, among the seeds: the documents' deviations are narrowed by its share, which the two-way analysis of
  variance gives.

Ratios are linearised around the number (delta method) wherever seeds are concerned. docs/statistics.md has the
measured coverage.

Legend: S seeds, Q questions, D documents, B resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import special

from ntp.comparison.power import MOST_SEEDS, Spread, seeds_needed
from ntp.comparison.variation import ByDocument, Variation, document_deviations, interval, p_value, resampled

RESAMPLES = 2000
LEVEL = 0.95
_FEW_DOCUMENTS = 20

Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class Sample:
    """What several seeds of one arm made of one exam. The number is ``sum(sums) / sum(weights)``.

    Attributes:
        sums: [S, Q] float64.
        weights: [S, Q] float64, not negative.
        variances: [S, Q] float64 of the sums as estimates; None where they are exact.
        documents: [Q] code of the document of each question; equal codes, equal documents, in all samples of an exam.
        seeds: of the S rows. Empty for what has no seed and is the same every time, such as a compressor: S is 1.
    """

    sums: np.ndarray
    weights: np.ndarray
    variances: np.ndarray | None
    documents: np.ndarray
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        shape = (max(1, len(self.seeds)), len(self.documents))
        for name in ("sums", "weights", "variances"):
            array = getattr(self, name)
            if array is not None and np.shape(array) != shape:
                raise ValueError(
                    f"{name} has shape {np.shape(array)}; {shape} is one row a seed, one column a question"
                )

    @property
    def value(self) -> float:
        """NaN without any weight."""
        total = float(self.weights.sum())
        return float(self.sums.sum()) / total if total else math.nan

    @property
    def values(self) -> np.ndarray:
        """[S] The number of each seed."""
        weights_S = self.weights.sum(1)
        return np.divide(self.sums.sum(1), weights_S, out=np.full(len(weights_S), np.nan), where=weights_S > 0)

    @property
    def noise(self) -> float:
        """Standard error of the number as an estimate of what these weights have on these questions; 0 if exact."""
        total = float(self.weights.sum())
        return math.sqrt(float(self.variances.sum())) / total if self.variances is not None and total else 0.0


@dataclass(frozen=True)
class Estimate:
    """A number and how sure it is.

    Attributes:
        value: the ratio over all seeds and questions.
        standard_deviation: between seeds; None for fewer than two.
        low, high: interval; with one seed, over documents alone.
        seeds, documents: how many.
        noise: standard error of the estimates in it, which is part of the interval; 0 where they are exact.
        caveats: one line each.
    """

    value: float
    standard_deviation: float | None
    low: float
    high: float
    seeds: int
    documents: int
    noise: float = 0.0
    caveats: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """By how much the second of two is better than the first.

    Attributes:
        value: in the unit of the measure; positive where the second is better.
        low, high: its interval. With one seed, of these two runs only, over documents.
        half_width: half the width of the interval.
        p_value: how often two equal arms differ as much; 1 where that can't be known.
        resolved: whether the arms differ, at the level asked for.
        seeds_needed: seeds of each arm that would find a difference of this size four times in five. None where it is
            not known, or where no number up to 100 does.
        paired_seeds: whether equal seeds were compared with each other.
        single: whether the first and the second have been trained from a single seed.
        spread: where the variance comes from; None with one seed.
        documents: how many both were asked about.
        caveats: one line each.
    """

    value: float
    low: float
    high: float
    half_width: float
    p_value: float
    resolved: bool
    seeds_needed: int | None
    paired_seeds: bool
    single: tuple[bool, bool]
    spread: Spread | None
    documents: int
    caveats: tuple[str, ...] = ()

    @property
    def one_seed(self) -> bool:
        """Whether a single seed stands for one of them, so that nothing is known about how they were trained."""
        return any(self.single)


def estimate(sample: Sample, *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0) -> Estimate:
    """A number with its interval over seeds and documents.

    Args:
        sample: of one arm.
        resamples: of the documents.
        level: of the interval.
        seed: of the resampling.

    Returns:
        NaN where nothing has weight.
    """
    (arm,) = by_document(sample)
    seeds, documents = len(sample.seeds), arm.documents
    variation = Variation.of([arm.influence_SD])
    values_B = arm.ratios(resampled(documents, resamples, seed))
    deviations_B = document_deviations(values_B, arm.value, documents, level)
    if seeds > 1:
        deviations_B = deviations_B * variation.narrowing
    low, high = interval(arm.value + deviations_B, variation.seed_error, variation.degrees, level)
    if seeds < 2 and documents == 1:
        low, high = _of_noise(arm.value, sample.noise, level)
    deviation = float(np.std(sample.values, ddof=1)) if seeds > 1 else None
    return Estimate(arm.value, deviation, low, high, seeds, documents, sample.noise, _caveats([sample], documents))


def compare(
    a: Sample,
    b: Sample,
    *,
    better: Better = "lower",
    pair_seeds: bool = True,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Difference:
    """By how much ``b`` is better than ``a``, and whether it is.

    Args:
        a: of one arm.
        b: of another, on the same questions.
        better: which direction is good.
        pair_seeds: whether runs of equal seeds are compared with each other where both arms have the same seeds; else
            the arms are independent samples (Welch 1947).
        resamples: of the documents.
        level: of the interval.
        seed: of the resampling.

    Raises:
        ValueError: they are not about the same questions.
    """
    if not np.array_equal(a.documents, b.documents):
        raise ValueError("the two samples are not about the same questions")
    sign = -1.0 if better == "lower" else 1.0
    arm_a, arm_b = by_document(a, b)
    documents = arm_a.documents
    paired = pair_seeds and _same_seeds(a.seeds, b.seeds)
    if paired:
        arm_b = arm_b.take(seeds=[b.seeds.index(one) for one in a.seeds])
        tables = [sign * (arm_b.influence_SD - arm_a.influence_SD)]
    else:
        tables = [-sign * arm_a.influence_SD, sign * arm_b.influence_SD]
    variation, single = Variation.of(tables), (len(a.seeds) == 1, len(b.seeds) == 1)
    one_seed = any(single)
    # What one seed of one arm says of the variance between seeds is not what is missing for the other's.
    error = 0.0 if one_seed else variation.seed_error
    value = sign * (arm_b.value - arm_a.value)
    counts_BD = resampled(documents, resamples, seed)
    values_B = sign * (arm_b.ratios(counts_BD) - arm_a.ratios(counts_BD))
    deviations_B = document_deviations(values_B, value, documents, level)
    points_B = value + deviations_B * (1.0 if one_seed else variation.narrowing)
    low, high = interval(points_B, error, variation.degrees, level)
    if one_seed and documents == 1:
        low, high = _of_noise(value, math.hypot(a.noise, b.noise), level)
    chance = 1.0 if one_seed else p_value(points_B, error, variation.degrees)
    spread = None if one_seed or not documents else variation.spread
    return Difference(
        value=value,
        low=low,
        high=high,
        half_width=(high - low) / 2,
        p_value=chance,
        resolved=chance < 1 - level,
        seeds_needed=seeds_needed(value, spread, documents, level) if spread and spread.samples else None,
        paired_seeds=paired,
        single=single,
        spread=spread,
        documents=documents,
        caveats=_caveats([a, b], documents),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted for how many there are (Holm 1979): testing each at a level errs anywhere at most at that level."""
    order = sorted(range(len(p_values)), key=lambda one: p_values[one])
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, one in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[one]))
        adjusted[one] = largest
    return adjusted


def adjusted(differences: Sequence[Difference], level: float = LEVEL) -> list[Difference]:
    """The differences of one table with p-values by `holm`, resolved only where these say so.

    Differences that one seed can't decide take no part.
    """
    decided = [one for one in differences if not one.one_seed]
    chances = iter(holm([one.p_value for one in decided]))
    return [
        one if one.one_seed else replace(one, p_value=(chance := next(chances)), resolved=chance < 1 - level)
        for one in differences
    ]


def verdict(difference: Difference, names: tuple[str, str], unit: str = "") -> str:
    """In words, such as "B better than A by 0.021 ± 0.006 bits per byte".

    Args:
        difference: what `compare` made of them.
        names: of the first and the second.
        unit: of the measure; empty for none.
    """
    first, second = names
    amount = f"{plus_minus(abs(difference.value), difference.half_width)}{unit and ' ' + unit}"
    if math.isnan(difference.value):
        return "not resolved: nothing was answered by both"
    if not difference.value and not difference.half_width:
        return "not resolved: the same number on every document"
    if difference.one_seed:
        whose = "each" if all(difference.single) else f"of {first if difference.single[0] else second}"
        return f"not resolved: one seed {whose} (these runs differ by {amount})"
    if difference.resolved:
        winner, loser = (second, first) if difference.value > 0 else (first, second)
        return f"{winner} better than {loser} by {amount}"
    if difference.spread is not None and not difference.spread.samples:
        return f"not resolved: would need more documents than {difference.documents} (differ by {amount})"
    if difference.seeds_needed is None:
        return f"not resolved: would need more than {MOST_SEEDS} seeds, or more documents (differ by {amount})"
    return f"not resolved: would need about {difference.seeds_needed} seeds (differ by {amount})"


def plus_minus(value: float, half_width: float) -> str:
    """Both with the digits that the half width has a say in: two where it begins with 1 or 2, else one."""
    if not math.isfinite(half_width) or half_width <= 0:
        return f"{value:.4g}"
    exponent = math.floor(math.log10(half_width))
    digits = max(0, (1 if half_width / 10**exponent < 2.95 else 0) - exponent)
    return f"{value:.{digits}f} ± {half_width:.{digits}f}"


def by_document(*samples: Sample) -> list[ByDocument]:
    """By document, without documents that weigh nothing in all of them."""
    arms = [ByDocument.of(one.sums, one.weights, one.documents) for one in samples]
    weighs_D = np.sum([arm.weights_SD.sum(0) for arm in arms], axis=0) > 0
    return [arm.take(documents=weighs_D) for arm in arms]


def _same_seeds(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return len(a) > 1 and len(set(a)) == len(a) and sorted(a) == sorted(b)


def _of_noise(value: float, noise: float, level: float) -> tuple[float, float]:
    """The interval of an estimate about one run and one document."""
    half = noise * float(special.ndtri(0.5 + level / 2))
    return value - half, value + half


def _caveats(samples: Sequence[Sample], documents: int) -> tuple[str, ...]:
    found = []
    fewest = min((len(one.seeds) for one in samples if one.seeds), default=0)
    if fewest == 1:
        found.append("one seed: the interval is of these runs on other documents, not of other seeds")
    elif 1 < fewest < 5:
        found.append(f"{fewest} seeds: their interval takes them for normally distributed, and is wide")
    if documents == 1:
        found.append("one document: nothing is known of others")
    elif documents < _FEW_DOCUMENTS:
        found.append(f"{documents} documents: what they say of others is rough")
    if len(samples) == 2 and not np.allclose(samples[0].weights.mean(0), samples[1].weights.mean(0)):
        found.append("the two weigh the questions differently")
    return tuple(found)
