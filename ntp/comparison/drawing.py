"""The numbers behind the figures, of the report and of a paper alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ntp.comparison.arms import Arm
from ntp.comparison.assemble import Comparison
from ntp.comparison.curves import AXES, Curve, curve, metrics_in
from ntp.comparison.matching import value_at
from ntp.comparison.matrix import Column
from ntp.tracking.results import MARKS, STANDARD_ERROR

_POINTS = 240
_FIRST = ("val/bits_per_byte", "val/loss", "train/loss")
_GRID = 60


def drawn_metrics(arms: Sequence[Arm]) -> list[str]:
    """Metrics with a curve: validation, exams and the training loss, the most telling first."""
    names = dict.fromkeys(
        name
        for arm in arms
        for run in arm.runs
        for name in metrics_in(run.lines)
        if name.startswith(("val/", "exam", "train/loss")) and not name.endswith(STANDARD_ERROR)
    )
    first = [name for name in _FIRST if name in names]
    return [*first, *sorted(name for name in names if name not in first and not name.startswith("train/"))]


def seed_curves(arm: Arm, metric: str, axis: str) -> list[Curve]:
    """One a run; empty ones where a run has not measured it."""
    return [_thinned(curve(run.lines, metric, axis)) for run in arm.runs]


def band(curves: Sequence[Curve]) -> dict[str, list[float]] | None:
    """Mean, smallest and largest value over seeds, where all of them have been measured.

    Returns:
        ``x``, ``mean``, ``low`` and ``high``; None where there is nothing to draw.
    """
    whole = [one for one in curves if len(one)]
    if not whole or len(whole) < len(curves):
        return None
    low = max(float(one.amounts[0]) for one in whole)
    high = min(float(one.amounts[-1]) for one in whole)
    if low > high:
        return None
    grid = np.unique(np.concatenate([one.amounts for one in whole] + [[low, high]]))
    grid = grid[(grid >= low) & (grid <= high)]
    if len(grid) > _GRID:
        grid = np.unique(np.geomspace(low, high, _GRID).clip(low, high))
    values = np.array([[value_at(one, float(at)) for at in grid] for one in whole])
    parts = {"x": grid, "mean": values.mean(0), "low": values.min(0), "high": values.max(0)}
    return {name: [float(f"{value:.6g}") for value in part] for name, part in parts.items()}


def curve_data(comparison: Comparison) -> dict[str, Any]:
    """By metric and axis, the band and the seeds of each arm."""
    found: dict[str, Any] = {}
    for metric in drawn_metrics(comparison.arms):
        by_axis: dict[str, Any] = {}
        for axis in AXES:
            lines = []
            for arm in comparison.arms:
                curves = seed_curves(arm, metric, axis)
                own = band(curves)
                if own is not None:
                    mark = MARKS.get(kind_of(arm, metric), "").strip()
                    lines.append({"arm": arm.name, "mark": mark, "seeds": len(curves), **own})
            if lines:
                by_axis[axis] = lines
        if by_axis:
            found[metric] = by_axis
    return found


def kind_of(arm: Arm, metric: str) -> str:
    """The kind of likelihood that a metric is of an arm's runs; ``none`` where it is none."""
    summary = arm.runs[0].summary
    if metric.startswith("exam/"):
        return str(summary.get(f"exam/{metric.split('/')[1]}/likelihood", "none"))
    if metric.startswith("val/") and metric.rpartition("/")[2] in ("bits_per_byte", "bits_per_token", "perplexity"):
        return str(summary.get("likelihood", "none"))
    return "none"


def exam_data(comparison: Comparison, column: Column) -> dict[str, Any]:
    """Numbers and intervals of an exam, and those of each seed."""
    points = []
    for row in comparison.rows:
        cell = column.cells[row.name]
        if cell.estimate is None or cell.sample is None or not np.isfinite(cell.estimate.value):
            continue
        points.append(
            {
                "row": row.name,
                "baseline": row.baseline,
                "kind": cell.kind[0],
                "text": cell.text,
                "value": cell.estimate.value,
                "low": cell.estimate.low,
                "high": cell.estimate.high,
                "seeds": [float(value) for value in cell.sample.values] if len(cell.sample.seeds) > 1 else [],
            }
        )
    about = {"exam": column.exam, "title": comparison.title(column), "unit": column.unit, "better": column.better}
    return about | {"points": points}


def _thinned(one: Curve) -> Curve:
    if len(one) <= _POINTS:
        return one
    kept = np.unique(np.linspace(0, len(one) - 1, _POINTS).round().astype(int))
    return Curve(one.metric, one.axis, one.amounts[kept], one.values[kept])
