"""What difference can be found with so many seeds and documents, and how many it would take.

A difference of two arms varies because they would be trained from other seeds, and because other documents would be
asked about. With n seeds of each arm and m documents, and the parts of `Spread`:

    variance of the difference = (seeds + interaction / m) / n + documents / m

Legend: n seeds, m documents.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special

POWER = 0.8
"""How often a difference should be found that is there: the usual convention (Cohen 1988)."""
MOST_SEEDS = 100

_STRATA = {1: (np.arange(400) + 0.5) / 400, 2: (np.arange(24) + 0.5) / 24}
"""Quantiles of the variance between seeds that is averaged over, by the number of samples."""


@dataclass(frozen=True)
class Spread:
    """Where the variance of a difference comes from, in squares of its unit.

    Attributes:
        seeds: of one seed of each arm, on infinitely many documents.
        documents: of one document, trained with infinitely many seeds.
        interaction: of one document and one seed of each arm, beside both; the noise of estimates is part of it.
        samples: independent samples of seeds behind the variance: 2 where both arms have seeds of their own, 1 where
            these are paired or only one arm has any, 0 where nothing was trained.
    """

    seeds: float
    documents: float
    interaction: float
    samples: int = 1


def power(difference: float, spread: Spread, seeds: int, documents: int, level: float = 0.95) -> float:
    """How often a difference of this size is found, by the intervals of `ntp.comparison.statistics`.

    Args:
        difference: the true one.
        spread: of such a difference.
        seeds: of each arm.
        documents: of the exam.
        level: of the interval that must not hold 0.

    Returns:
        A probability: the interval's half width is as random as the variances between seeds that it is made of (each
        a chi-square), and is averaged over. 0 with one seed.
    """
    if spread.samples and seeds < 2:
        return 0.0
    of_documents = spread.documents / documents
    of_seeds = (spread.seeds + spread.interaction / documents) / seeds if spread.samples else 0.0
    half_G = np.array([float(special.ndtri(0.5 + level / 2)) ** 2 * of_documents])
    if of_seeds:
        estimates_G, quantiles_G = _estimated(spread.samples, seeds, level)
        half_G = half_G + of_seeds * estimates_G * quantiles_G**2
    half_G = np.sqrt(half_G)
    deviation = math.sqrt(of_seeds + of_documents)
    if not deviation:
        return float(difference != 0)
    either = special.ndtr((abs(difference) - half_G) / deviation) + special.ndtr(
        (-abs(difference) - half_G) / deviation
    )
    return float(either.mean())


@lru_cache(maxsize=256)
def _estimated(samples: int, seeds: int, level: float) -> tuple[np.ndarray, np.ndarray]:
    """What seeds may say of their variance, as multiples of the truth, and the quantiles of t that go with it.

    Returns:
        Both [G], equally likely. Two samples have a variance each, of equal expectation, and the degrees of freedom
        that follow from them (Welch 1947).
    """
    free = seeds - 1
    one_G = special.chdtri(free, 1 - _STRATA[samples]) / free
    if samples == 1:
        return one_G, np.full(len(one_G), special.stdtrit(free, 0.5 + level / 2))
    a_G, b_G = (grid.ravel() for grid in np.meshgrid(one_G, one_G))
    degrees_G = free * (a_G + b_G) ** 2 / (a_G**2 + b_G**2)
    return (a_G + b_G) / 2, special.stdtrit(degrees_G, 0.5 + level / 2)


def detectable(spread: Spread, seeds: int, documents: int, level: float = 0.95, wanted: float = POWER) -> float:
    """The smallest difference that is found with the wanted power; infinite where none is."""
    if spread.samples and seeds < 2:
        return math.inf
    low, high = 0.0, math.sqrt(spread.seeds + spread.interaction + spread.documents) or 1.0
    while power(high, spread, seeds, documents, level) < wanted:
        high *= 2
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, spread, seeds, documents, level) >= wanted else (middle, high)
    return high


def seeds_needed(
    difference: float, spread: Spread, documents: int, level: float = 0.95, wanted: float = POWER
) -> int | None:
    """How many seeds of each arm find a difference of this size with the wanted power.

    Returns:
        None where more than `MOST_SEEDS` would be needed, or where no number of seeds makes up for the documents.
    """
    if power(difference, spread, MOST_SEEDS, documents, level) < wanted:
        return None
    low, high = 1, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(difference, spread, middle, documents, level) >= wanted else (middle, high)
    return high
