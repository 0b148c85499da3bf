"""Weights of a mixture, as functions of the part of the run that is spent.

Legend: C components.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from ntp.config.errors import ConfigError
from ntp.config.nearest import suggestion
from ntp.config.types import NonNegativeFloat, Probability

Weight = NonNegativeFloat | list[tuple[Probability, NonNegativeFloat]]
"""A number, or knots [progress, weight] of a piecewise linear function of the part of the run that is spent."""


class Weights:
    """Piecewise linear functions of the part of the run that is spent.

    Args:
        names: of the components.
        weights: of each.

    Attributes:
        constant: whether none of them changes.

    Raises:
        ConfigError: a weight is missing, superfluous or negative, knots go backwards, or all weights are 0 somewhere.
    """

    def __init__(self, names: Sequence[str], weights: Mapping[str, Weight] | None) -> None:
        given = dict.fromkeys(names, 1.0) if weights is None else dict(weights)
        for name in given:
            if name not in names:
                raise ConfigError(
                    f"objective.weights.{name}", f"there is no component of this name{suggestion(name, names)}"
                )
        for name in names:
            if name not in given:
                raise ConfigError(f"objective.weights.{name}", "needs a value, as every component does; 0 means never")
        self._knots = [_knots(f"objective.weights.{name}", given[name]) for name in names]
        self.constant = all(len(set(values)) == 1 for _, values in self._knots)
        self._places = sorted({0.0, 1.0}.union(*(places for places, _ in self._knots)))
        for place in self._places:
            if not self.at(place).any():
                raise ConfigError(
                    "objective.weights",
                    f"all are 0 when {place:.4g} of the run is spent; one must be more than 0 at any time",
                )

    def at(self, progress: float) -> np.ndarray:
        """[C] float64."""
        return np.array([_interpolate(progress, places, values) for places, values in self._knots])

    def mean(self) -> np.ndarray:
        """[C] float64, the mean over the run of each weight's share of their sum; sums to one."""
        nodes, masses = np.polynomial.legendre.leggauss(32)
        mean_C = np.zeros(len(self._knots))
        for begin, end in pairwise(self._places):
            for node, mass in zip((nodes + 1) / 2, masses / 2, strict=True):
                weights_C = self.at(begin + (end - begin) * node)
                mean_C += (end - begin) * mass * weights_C / weights_C.sum()
        return mean_C / mean_C.sum()


def _knots(key: str, weight: Weight) -> tuple[list[float], list[float]]:
    """Places and values."""
    knots = weight if isinstance(weight, list) else [(0.0, weight)]
    if not knots:
        raise ConfigError(key, "needs at least one knot [progress, weight]")
    for (earlier, _), (later, _) in pairwise(knots):
        if later < earlier:
            raise ConfigError(
                key, f"the knot at {later} stands behind that at {earlier}; knots go from 0 to 1 in order"
            )
    return [place for place, _ in knots], [value for _, value in knots]


def _interpolate(progress: float, places: list[float], values: list[float]) -> float:
    behind = bisect_right(places, progress)
    if behind in (0, len(places)):
        return values[max(0, behind - 1)]
    begin, end = places[behind - 1], places[behind]
    return values[behind - 1] + (values[behind] - values[behind - 1]) * (progress - begin) / (end - begin)
