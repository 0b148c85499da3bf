"""Figures for a paper: curves, exams and reliability, as SVG and PNG. They need matplotlib, and can be read in grey."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ntp.comparison.assemble import Comparison
from ntp.comparison.curves import AXES
from ntp.comparison.details import reliability_curves
from ntp.comparison.drawing import curve_data, exam_data

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#5b3fa0", "#444444")
"""Okabe and Ito's, told apart with any kind of colour vision; the yellow is darker, to be seen on white."""

_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_KINDS = {"exact": "", "bound": " (≤ bound)", "pseudo": " (~ pseudo)", "none": ""}
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "ntp",
}
_DOTS_PER_INCH = 200


def write_figures(comparison: Comparison, folder: Path) -> list[Path]:
    """Draw what there is to draw, each figure as ``.svg`` and ``.png``, over older ones.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: the folder can't be written.
    """
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for name, figure in _figures(comparison):
            for suffix, metadata in ((".svg", {"Date": None}), (".png", {})):
                path = folder / f"{re.sub(r'[^A-Za-z0-9_]+', '_', name)}{suffix}"
                figure.savefig(path, dpi=_DOTS_PER_INCH, metadata=metadata)
                written.append(path)
    return written


def _figures(comparison: Comparison) -> Iterator[tuple[str, Figure]]:
    axis = comparison.axis or "tokens"
    for metric, by_axis in curve_data(comparison).items():
        if axis in by_axis and any(len(line["x"]) > 1 for line in by_axis[axis]):
            yield f"curve_{metric}", _curves(by_axis[axis], metric, axis, [arm.name for arm in comparison.arms])
    for column in comparison.columns:
        data = exam_data(comparison, column)
        if data["points"]:
            yield f"exam_{column.exam}", _exam(data, [row.name for row in comparison.rows])
        curves = reliability_curves(comparison, column)
        if curves:
            yield f"reliability_{column.exam}", _reliability(curves, [row.name for row in comparison.rows])


def _new(width: float, height: float) -> tuple[Figure, Any]:
    """A figure that no window belongs to, so that none stays in memory."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _curves(lines: Sequence[dict[str, Any]], metric: str, axis: str, names: Sequence[str]) -> Figure:
    figure, axes = _new(5.2, 3.4)
    for line in lines:
        index = names.index(line["arm"])
        color = COLORS[index % len(COLORS)]
        label = f"{line['arm']}{' ' + line['mark'] if line['mark'] else ''}"
        dash = _DASHES[index % len(_DASHES)]
        axes.plot(line["x"], line["mean"], color=color, linestyle=dash, label=label, linewidth=1.5)
        if line["seeds"] > 1:
            axes.fill_between(line["x"], line["low"], line["high"], color=color, alpha=0.15, linewidth=0)
    several = max(line["seeds"] for line in lines) > 1
    axes.set_xlabel(AXES[axis].title)
    axes.set_ylabel(metric.replace("_", " "))
    axes.set_title(f"{metric}{': mean and range of seeds' if several else ''}", fontsize=9, loc="left")
    axes.legend()
    return figure


def _exam(data: dict[str, Any], names: Sequence[str]) -> Figure:
    points = data["points"]
    figure, axes = _new(5.2, 0.9 + 0.36 * len(points))
    for place, point in enumerate(points):
        index = names.index(point["row"])
        errors = [[max(0.0, point["value"] - point["low"])], [max(0.0, point["high"] - point["value"])]]
        color = "#777777" if point["baseline"] else COLORS[index % len(COLORS)]
        axes.errorbar(
            point["value"], place, xerr=errors, fmt=_MARKERS[index % len(_MARKERS)], color=color, capsize=3, zorder=3
        )
        axes.scatter(point["seeds"], [place] * len(point["seeds"]), color=color, s=8, alpha=0.5, zorder=2)
    axes.set_yticks(range(len(points)), [f"{point['row']}{_KINDS[point['kind']]}" for point in points])
    axes.set_ylim(len(points) - 0.5, -0.5)
    arrow = {"lower": ", lower is better", "higher": ", higher is better"}.get(data["better"] or "", "")
    axes.set_xlabel(f"{data['unit'] or 'share'}{arrow}")
    axes.set_title(f"{data['title']}: 95 % intervals", fontsize=9, loc="left")
    return figure


def _reliability(curves: Sequence[dict[str, Any]], names: Sequence[str]) -> Figure:
    figure, axes = _new(3.8, 3.8)
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=":", label="as right as sure")
    for curve in (one for one in curves if one["state"] == "before"):
        index = names.index(curve["row"])
        axes.plot(
            [one["confidence"] for one in curve["bins"]],
            [one["accuracy"] for one in curve["bins"]],
            color=COLORS[index % len(COLORS)],
            linestyle=_DASHES[index % len(_DASHES)],
            marker=_MARKERS[index % len(_MARKERS)],
            markersize=4,
            label=curve["row"],
        )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy", aspect="equal")
    axes.set_title("reliability", fontsize=9, loc="left")
    axes.legend()
    return figure
