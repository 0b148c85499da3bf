"""Arms at equal cost: what each had reached when it had spent the same amount.

Between two measurements a curve is taken to be linear in the logarithm of the amount. Losses fall about as a small
power of what is spent (Kaplan et al. 2020, section 3), which is nearly straight in the logarithm between neighbouring
points and far from it in the amount itself. Nothing is extrapolated: an amount that a run has not reached, or that lies
before its first measurement, has no value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ntp.comparison.curves import Curve
from ntp.evaluation.exams.result import Measure

_ROUNDING = 1e-9  # relative: amounts that are as near are equal


def value_at(curve: Curve, at: float) -> float:
    """The curve's value at an amount that it covers, linear in the logarithm of the amount between two points.

    Raises:
        ValueError: it does not cover the amount.
    """
    (low, high), share = _around(curve.amounts, at)
    return float((1 - share) * curve.values[low] + share * curve.values[high])


def measure_at(amounts: Sequence[float], measures: Sequence[Measure], at: float) -> Measure:
    """An exam's measure at an amount between two steps at which it was taken, question by question.

    So differences at equal cost have intervals over seeds and documents, as any others. A question that was not
    answered at both steps weighs nothing.

    Args:
        amounts: [N] strictly increasing, that had been spent.
        measures: [N] of the same questions.
        at: an amount that they cover.

    Raises:
        ValueError: they do not cover it, or are not of the same questions.
    """
    (low, high), share = _around(np.asarray(amounts, float), at)
    first, second = measures[low], measures[high]
    if first.sums.shape != second.sums.shape:
        raise ValueError("the measures are not of the same questions")

    def between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (1 - share) * a + share * b

    variances = None
    if first.variances is not None and second.variances is not None:
        # Both were estimated with the same draws, so that their errors may be one error.
        variances = between(np.sqrt(first.variances), np.sqrt(second.variances)) ** 2
    answered = (first.weights > 0) & (second.weights > 0)
    sums, weights = (
        np.where(answered, between(a, b), 0.0) for a, b in ((first.sums, second.sums), (first.weights, second.weights))
    )
    if variances is not None:
        variances = np.where(answered, variances, 0.0)
    return Measure(sums, weights, variances, first.unit, first.better)


def _around(amounts_N: np.ndarray, at: float) -> tuple[tuple[int, int], float]:
    """The points before and behind an amount, and where between them it lies, in [0, 1]."""
    margin = _ROUNDING * at
    if not len(amounts_N) or at < amounts_N[0] - margin or at > amounts_N[-1] + margin:
        raise ValueError(f"{at} is not between the first and the last amount")
    at = float(np.clip(at, amounts_N[0], amounts_N[-1]))
    high = int(np.searchsorted(amounts_N, at))
    if amounts_N[high] == at:
        return (high, high), 0.0
    low = high - 1
    return (low, high), math.log(at / amounts_N[low]) / math.log(amounts_N[high] / amounts_N[low])
