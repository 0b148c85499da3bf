"""Numbers of rounds, in which everything was measured once, one after the other."""

from statistics import median
from typing import TypedDict


class Spread(TypedDict):
    """A median and how far the rounds were from it."""

    median: float
    min: float
    max: float


def spread(values: list[float]) -> Spread:
    """Of the rounds."""
    return {"median": median(values), "min": min(values), "max": max(values)}


def ratios(values: list[float], base: list[float]) -> Spread:
    """Of two things measured in the same rounds: of each round's ratio, since neighbours in time share the noise."""
    return spread([value / other for value, other in zip(values, base, strict=True)])


def show(value: Spread, form: str) -> str:
    """A median with its range."""
    return f"{value['median']:{form}} ({value['min']:{form}} .. {value['max']:{form}})"
