"""Curves of a run: any metric of its ``metrics.jsonl`` against any column of its ledger."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from ntp.config.errors import ConfigError
from ntp.config.nearest import suggestion


@dataclass(frozen=True)
class Axis:
    """A column of the ledger.

    Attributes:
        metric: under which ``metrics.jsonl`` has it.
        unit: that takes a prefix, such as ``FLOPs``; empty where things are counted.
        title: for people.
    """

    metric: str
    unit: str
    title: str


AXES: Mapping[str, Axis] = {
    "steps": Axis("progress/step", "", "optimizer steps"),
    "rows": Axis("progress/rows", "", "rows read"),
    "tokens": Axis("progress/tokens", "", "tokens read"),
    "targets": Axis("progress/targets", "", "targets trained"),
    "bytes": Axis("progress/bytes", "B", "bytes of text read"),
    "flops": Axis("progress/flops", "FLOPs", "floating-point operations"),
    "seconds": Axis("progress/seconds", "s", "seconds"),
}


@dataclass(frozen=True)
class Curve:
    """Values of a metric, by the amount that had been spent.

    Attributes:
        metric: its name in ``metrics.jsonl``.
        axis: of `AXES`.
        amounts: [N] strictly increasing, positive.
        values: [N] finite.
    """

    metric: str
    axis: str
    amounts: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.amounts)


def curve(lines: Iterable[Mapping[str, Any]], metric: str, axis: str = "tokens") -> Curve:
    """The curve that some lines of metrics hold.

    Where several lines have one amount, the first counts: the validation at the end of a run is on other rows than
    those before it, and stands behind the one on the same rows.

    Args:
        lines: in the order of the file.
        metric: such as ``val/bits_per_byte`` or ``exam/continue/bits_per_byte``.
        axis: of `AXES`.

    Returns:
        No points where nothing was logged, or the run is older than the column of the ledger.

    Raises:
        ConfigError: there is no such axis.
    """
    column = find_axis(axis).metric
    amounts: list[float] = []
    values: list[float] = []
    for line in lines:
        amount, value = line.get(column), line.get(metric)
        if _is_finite(amount) and _is_finite(value) and amount > (amounts[-1] if amounts else 0):
            amounts.append(amount)
            values.append(value)
    return Curve(metric, axis, np.array(amounts, float), np.array(values, float))


def metrics_in(lines: Iterable[Mapping[str, Any]], prefix: str = "") -> list[str]:
    """Names of all metrics with a number in some line, in the order in which they come."""
    return list(
        dict.fromkeys(
            name for line in lines for name, value in line.items() if name.startswith(prefix) and _is_finite(value)
        )
    )


def find_axis(name: str, key: str = "axis") -> Axis:
    """The column of the ledger that a user names.

    Raises:
        ConfigError: it has none of this name.
    """
    if name not in AXES:
        hint = suggestion(name, AXES) or f"; it has {', '.join(AXES)}"
        raise ConfigError(key, f"there is no '{name}' in the ledger{hint}")
    return AXES[name]


def _is_finite(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
