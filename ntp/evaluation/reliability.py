"""Is a model as often right as it is sure? Calibration errors, the temperature that mends them, and their uncertainty.

Both numbers are no ratios of sums over questions, as measures are. Each is written as one whose value is exact and
whose terms are its derivatives by the weights of the questions: so a bootstrap of the terms is, to first order, one of
the number itself (the infinitesimal jackknife; Efron 1982, The Jackknife, the Bootstrap and Other Resampling Plans,
chapter 6).

Legend: N targets, Q questions, M bins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ntp.evaluation.drawing import variance_of_mean
from ntp.evaluation.exams.result import Measure
from ntp.evaluation.predictions import COLDEST, HOTTEST, Predictions, interpolated

BINS = 15
"""As in Guo et al. 2017, arXiv 1706.04599, section 5."""


@dataclass(frozen=True)
class Reliability:
    """How sure a model is and how often it is right, in bins of how sure it is.

    Attributes:
        bin: [N] int64, the bin of each target.
        gap: [N] float64, weighted: right (1 or 0) less the confidence.
        weight: [N] float64.
        curve: of each bin that has something in it ``from``, ``to``, ``confidence``, ``accuracy`` and ``tokens``.
    """

    bin: np.ndarray
    gap: np.ndarray
    weight: np.ndarray
    curve: list[dict[str, float]]

    @property
    def terms(self) -> np.ndarray:
        """[N] whose sum over that of the weights is the expected calibration error.

        The error is the sum over bins of the size of the bin's sum of gaps. The derivative of a size is its sign: each
        gap counts with the sign of the sum of its bin.
        """
        signs = np.sign(np.bincount(self.bin, weights=self.gap))
        terms: np.ndarray = self.gap * signs[self.bin]
        return terms

    @property
    def error(self) -> float:
        """The expected calibration error."""
        return float(self.terms.sum() / self.weight.sum())

    def interval(self, document: np.ndarray, resamples: int = 1000, level: float = 0.95) -> tuple[float, float]:
        """Percentile bootstrap over documents of the error itself, with the bins as they are.

        The error of a resample is larger in the mean than that of the sample: what is noise adds to sizes. Where the
        error is hardly more than noise, the interval begins with it.

        Args:
            document: [N] int64, of each target.
            resamples: how many.
            level: how often the interval would hold the error.
        """
        documents, bins = int(document.max()) + 1, int(self.bin.max()) + 1
        gaps = np.bincount(document * bins + self.bin, weights=self.gap, minlength=documents * bins)
        weights = np.bincount(document, weights=self.weight, minlength=documents)
        rng = np.random.default_rng(0)
        times = rng.multinomial(documents, np.full(documents, 1 / documents), size=resamples)
        with np.errstate(invalid="ignore"):  # a resample of documents without any target
            errors = np.abs(times @ gaps.reshape(documents, bins)).sum(1) / (times @ weights)
        low, high = np.nanquantile(errors, [(1 - level) / 2, (1 + level) / 2])
        return min(float(low), self.error), float(high)


def reliability(
    confidence: np.ndarray, right: np.ndarray, weight: np.ndarray, spacing: Literal["width", "mass"] = "width"
) -> Reliability:
    """Put predictions into bins of equal width of confidence (arXiv 1706.04599, section 2), or of equal weight.

    Args:
        confidence: [N] probability of the likeliest token.
        right: [N] bool, whether that is the target.
        weight: [N], how much each counts.
        spacing: bins of equal ``mass`` follow where predictions are (Nguyen & O'Connor 2015, arXiv 1508.05154); equal
            confidences stay together, so that there may be fewer of them.
    """
    edges = np.linspace(0, 1, BINS + 1)
    if spacing == "mass":
        order = np.argsort(confidence, kind="stable")
        reached = np.cumsum(weight[order])
        places = np.searchsorted(reached, reached[-1] * edges[1:-1], side="left")
        edges = np.concatenate([[0.0], np.unique(confidence[order][np.minimum(places, len(order) - 1)]), [1.0]])
    bins = np.searchsorted(edges[1:-1], confidence, side="left")
    tokens, sure, correct = (
        np.bincount(bins, weights=values, minlength=len(edges) - 1)
        for values in (weight, weight * confidence, weight * right)
    )
    curve = [
        {
            "from": float(edges[one]),
            "to": float(edges[one + 1]),
            "confidence": float(sure[one] / tokens[one]),
            "accuracy": float(correct[one] / tokens[one]),
            "tokens": float(tokens[one]),
        }
        for one in np.flatnonzero(tokens)
    ]
    return Reliability(bins, weight * (right - confidence), weight, curve)


def best_temperature(predictions: Predictions) -> float:
    """The temperature of the least loss (arXiv 1706.04599, section 4.2); 1 where all are equal.

    The loss is convex in 1/T: its slope changes sign once, and is halved in on. A temperature that is not better than
    the ends of the range is one of them.
    """
    normalizers, slopes = (predictions.weight @ one for one in (predictions.normalizers, predictions.slopes))
    gap = float(predictions.weight @ predictions.gap)

    def slope(temperature: float) -> float:
        """Of the loss, by the logarithm of 1/T."""
        return float(interpolated(normalizers, slopes, temperature, 1)) + gap / temperature

    total = float(predictions.weight.sum())
    if not total or all(abs(slope(one)) < 1e-7 * total for one in (COLDEST, 1.0, HOTTEST)):
        return 1.0
    if slope(HOTTEST) >= 0:
        return HOTTEST
    if slope(COLDEST) <= 0:
        return COLDEST
    cold, hot = math.log(COLDEST), math.log(HOTTEST)
    while hot - cold > 1e-9:
        middle = (cold + hot) / 2
        cold, hot = (cold, middle) if slope(math.exp(middle)) < 0 else (middle, hot)
    return math.exp((cold + hot) / 2)


def temperature_measure(predictions: Predictions, questions: int, temperature: float) -> Measure:
    """The best temperature as a ratio of sums: each question's slope of the loss, against its curvature.

    Args:
        predictions: by which the temperature is the best.
        questions: Q.
        temperature: of `best_temperature`.
    """
    first = interpolated(predictions.normalizers, predictions.slopes, temperature, 1) + predictions.gap / temperature
    second = interpolated(predictions.normalizers, predictions.slopes, temperature, 2) + predictions.gap / temperature
    # By T instead of ln(1/T): the loss is convex in 1/T, of which second - first is the curvature.
    slope, curvature = -predictions.weight * first / temperature, predictions.weight * (second - first) / temperature**2
    weights = np.maximum(per_question(curvature, predictions, questions), 0.0)
    if not weights.sum():
        weights = per_question(predictions.weight, predictions, questions)
    rate = slope.sum() / weights.sum()
    # The slopes sum to zero where the least loss is within the range; at its ends they are made to.
    sums = temperature * weights - (per_question(slope, predictions, questions) - rate * weights)
    return Measure(sums, weights, _variances(slope, predictions, questions))


def measure(
    terms: np.ndarray,
    predictions: Predictions,
    questions: int,
    unit: str = "",
    better: Literal["lower", "higher"] | None = "lower",
    weight: np.ndarray | None = None,
) -> Measure:
    """A mean over targets.

    Args:
        terms: [N], each times its weight.
        predictions: of the same targets.
        questions: Q.
        unit, better: see `Measure`.
        weight: [N] instead of that of the targets.
    """
    weight = predictions.weight if weight is None else weight
    value = terms.sum() / weight.sum() if weight.sum() else 0.0
    return Measure(
        per_question(terms, predictions, questions),
        per_question(weight, predictions, questions),
        _variances(terms - value * weight, predictions, questions),
        unit,
        better,
    )


def per_question(values: np.ndarray, predictions: Predictions, questions: int) -> np.ndarray:
    """[Q], sums of [N]."""
    return np.bincount(predictions.question, weights=values, minlength=questions)


def _variances(residuals: np.ndarray, predictions: Predictions, questions: int) -> np.ndarray | None:
    """[Q], of sums of a question as the mean of its draws; None where there is only one.

    The residuals of a ratio tell its variance, since weights are drawn too.
    """
    draws = predictions.draws
    if draws < 2:
        return None
    place = predictions.question * draws + predictions.draw
    each = np.bincount(place, weights=draws * residuals, minlength=questions * draws).reshape(questions, draws)
    return variance_of_mean(each)


def broken_down(
    predictions: Predictions, token_bytes: np.ndarray, bucket: np.ndarray, labels: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Losses of buckets of targets, whose sums are that of the whole.

    Args:
        predictions: any.
        token_bytes: [V] of the tokenizer.
        bucket: [N] int64.
        labels: what each bucket is.

    Returns:
        For each bucket with a target its label; ``tokens``, ``bytes`` and ``nats``, weighted; and of its targets
        ``nats_per_token``, ``bits_per_byte`` (None where there is no text), ``accuracy`` and ``confidence``.
    """
    weight = predictions.weight
    columns = {
        "tokens": weight,
        "bytes": weight * token_bytes[predictions.token],
        "nats": weight * predictions.nll(),
        "right": weight * predictions.right,
        "sure": weight * predictions.confidence(),
    }
    sums = {
        name: np.bincount(bucket, weights=values, minlength=len(labels)).tolist() for name, values in columns.items()
    }
    table = []
    for number, label in enumerate(labels):
        tokens, size, nats, right, sure = (sums[name][number] for name in columns)
        if tokens:
            table.append(
                {
                    **label,
                    "tokens": tokens,
                    "bytes": size,
                    "nats": nats,
                    "nats_per_token": nats / tokens,
                    "bits_per_byte": nats / math.log(2) / size if size else None,
                    "accuracy": right / tokens,
                    "confidence": sure / tokens,
                }
            )
    return table
