"""What makes a number vary: seeds, documents, and what is between the two.

Legend: S seeds, D documents, B resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, special

from ntp.comparison.power import Spread

_ROUNDING = 1e-12


@dataclass(frozen=True)
class ByDocument:
    """Sums and weights of one arm by document.

    Attributes:
        sums_SD, weights_SD: of the questions of each document.
    """

    sums_SD: np.ndarray
    weights_SD: np.ndarray

    @classmethod
    def of(cls, sums_SQ: np.ndarray, weights_SQ: np.ndarray, documents_Q: np.ndarray) -> ByDocument:
        """Add up the questions of each document."""
        count = int(documents_Q.max(initial=-1)) + 1

        def by_document(values_SQ: np.ndarray) -> np.ndarray:
            return np.array([np.bincount(documents_Q, values_Q, count) for values_Q in values_SQ])

        return cls(by_document(sums_SQ), by_document(weights_SQ))

    def take(
        self, seeds: Sequence[int] | slice = slice(None), documents: np.ndarray | slice = slice(None)
    ) -> ByDocument:
        """Of some seeds in the order given, or some documents."""
        return ByDocument(self.sums_SD[seeds][:, documents], self.weights_SD[seeds][:, documents])

    @property
    def documents(self) -> int:
        """How many."""
        return self.sums_SD.shape[1]

    @property
    def value(self) -> float:
        """The ratio over everything; NaN without weight."""
        total = float(self.weights_SD.sum())
        return float(self.sums_SD.sum()) / total if total else math.nan

    def ratios(self, counts_BD: np.ndarray) -> np.ndarray:
        """[B] The value had each document been asked about so many times."""
        sums_B, weights_B = counts_BD @ self.sums_SD.sum(0), counts_BD @ self.weights_SD.sum(0)
        return np.divide(sums_B, weights_B, out=np.full(len(sums_B), np.nan), where=weights_B > 0)

    @property
    def influence_SD(self) -> np.ndarray:
        """By how much each seed's answers on each document move that seed's number off the value (delta method)."""
        a_seed = float(self.weights_SD.sum()) / len(self.weights_SD)
        return (self.sums_SD - self.value * self.weights_SD) / a_seed if a_seed else np.zeros_like(self.sums_SD)


@dataclass(frozen=True)
class Variation:
    """Of a number, or of a difference.

    Attributes:
        spread: where the variance comes from.
        seed_error: standard error that comes of the seeds, with what varies by seed within documents.
        degrees: of freedom of that standard error (Satterthwaite 1946).
        narrowing: by which the documents' deviations shrink, so that what is in both variances counts once.
    """

    spread: Spread
    seed_error: float
    degrees: float
    narrowing: float

    @classmethod
    def of(cls, tables: Sequence[np.ndarray]) -> Variation:
        """Two-way analysis of variance without replication (Searle, Casella and McCulloch 1992).

        Args:
            tables: [S, D] each, influences on the number. Tables are independent samples of seeds that answered
                about the same documents; one of a single row has no variance between seeds.
        """
        documents = tables[0].shape[1]
        if not documents:
            return cls(Spread(0.0, 0.0, 0.0, 0), 0.0, math.inf, 0.0)
        free = max(1, documents - 1)
        seeds = interaction = shared = error = squares = 0.0
        samples = 0
        for table_SD in tables:
            count = len(table_SD)
            if count < 2:
                continue
            samples += 1
            totals_S = table_SD.sum(1)
            rest_SD = table_SD - totals_S[:, None] / documents - table_SD.mean(0) + table_SD.mean()
            between = float(totals_S.var(ddof=1))
            inside = documents * float((rest_SD**2).sum()) / ((count - 1) * free)
            if between <= _ROUNDING * inside:
                # Numbers that are counted, such as accuracies, may be equal by chance, which makes nothing sure.
                between = inside
            seeds += max(0.0, between - inside)
            interaction += inside * documents
            shared += inside / count
            error += between / count
            squares += (between / count) ** 2 / (count - 1)
        means_D = np.sum([table_SD.mean(0) for table_SD in tables], axis=0)
        of_documents = documents / free * float(((means_D - means_D.mean()) ** 2).sum())
        alone = max(0.0, of_documents - shared)
        return cls(
            Spread(seeds, alone * documents, interaction, samples),
            math.sqrt(error),
            error**2 / squares if squares else math.inf,
            math.sqrt(alone / of_documents) if of_documents else 0.0,
        )


def document_deviations(values_B: np.ndarray, value: float, documents: int, level: float) -> np.ndarray:
    """Deviations of bootstrapped values, as wide as the t-interval of so few documents is (Hesterberg 2015).

    Args:
        values_B: bootstrapped; NaN where a resample has no weight, which is left out.
        value: of the documents as they are.
        documents: how many were resampled.
        level: of the interval that they are to be right for.
    """
    deviations_B = values_B[np.isfinite(values_B)] - value
    if documents < 2:
        return deviations_B
    tail = 0.5 + level / 2
    few = special.stdtrit(documents - 1, tail) / special.ndtri(tail) * math.sqrt(documents / (documents - 1))
    return deviations_B * few


def interval(points_B: np.ndarray, scale: float, degrees: float, level: float) -> tuple[float, float]:
    """Quantiles of a bootstrapped number plus ``scale`` times a t-distributed one; NaN without points."""
    if not len(points_B):
        return math.nan, math.nan
    tails = (0.5 - level / 2, 0.5 + level / 2)
    if not scale:
        low, high = np.quantile(points_B, tails)
        return float(low), float(high)
    ends = []
    for tail in tails:
        off = scale * special.stdtrit(degrees, tail)
        least, most = points_B.min() + off, points_B.max() + off
        # The ends are quantiles themselves where all points are equal, but for rounding.
        margin = 1e-9 * (abs(off) + abs(least) + abs(most))
        ends.append(
            optimize.brentq(
                lambda x, tail=tail: special.stdtr(degrees, (x - points_B) / scale).mean() - tail,
                least - margin,
                most + margin,
            )
        )
    return ends[0], ends[1]


def p_value(points_B: np.ndarray, scale: float, degrees: float) -> float:
    """Two-sided: 1 minus the largest level whose interval does not hold 0; 1 without points."""
    if not len(points_B):
        return 1.0
    if scale:
        below = float(special.stdtr(degrees, -points_B / scale).mean())
        above = float(special.stdtr(degrees, points_B / scale).mean())
        return min(1.0, 2 * min(below, above))
    at_least = min(int((points_B <= 0).sum()), int((points_B >= 0).sum()))
    return min(1.0, 2 * (at_least + 1) / (len(points_B) + 1))


@lru_cache(maxsize=2)
def resampled(documents: int, resamples: int, seed: int) -> np.ndarray:
    """[B, D] How often each document is drawn, with replacement; the same for everybody who asks for the same."""
    if not documents:
        return np.zeros((resamples, 0))
    drawn_BD = np.random.default_rng(seed).integers(documents, size=(resamples, documents))
    drawn_BD += documents * np.arange(resamples)[:, None]
    counts_BD = np.bincount(drawn_BD.ravel(), minlength=resamples * documents).reshape(resamples, documents)
    counts_BD = counts_BD.astype(np.float64)
    counts_BD.setflags(write=False)
    return counts_BD
