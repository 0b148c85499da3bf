"""An explanation as a web page: one file, which opens without a network, in light and dark, on a screen or a phone."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from ntp import __version__
from ntp.explain.explanation import ExplainedRow, Explanation, Position
from ntp.explain.measures import Measure, measures
from ntp.explain.pieces import Kind, Piece

DRAWN = 512
"""Positions of the picture at most; a longer row's page would be megabytes."""

SHOWN_PADDING = 2

MEANINGS: dict[Kind, str] = {
    "mask": "a hidden token",
    "sentinel": "the place of a removed span",
    "marker": "a sign of the row's layout or mode",
    "end": "the end of a document",
    "padding": "fills the row; seen by no text",
}


@dataclass(frozen=True)
class _Drawing:
    """What the page needs of a row beside the row itself; the paths are in units of one position."""

    positions: Sequence[Position]
    hidden: int
    breaks: frozenset[int]
    private: bool
    key: Sequence[tuple[Piece, str]]
    size: int
    omitted: int
    sees: str
    trained: str
    lines: str
    bounds: str
    rule: dict[str, list[Any]]
    measures: Sequence[Measure]
    mean_seen: float


def page(explanation: Explanation) -> str:
    """The whole page.

    Args:
        explanation: of any objective.
    """
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    template = environment.from_string(resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    return template.render(
        it=explanation,
        rows=[(row, _draw(row)) for row in explanation.rows],
        end=Piece("end", "end", "the end of a document"),
        version=__version__,
    )


def _draw(row: ExplainedRow) -> _Drawing:
    shown = [*row.used, *row.positions[len(row.used) :][:SHOWN_PADDING]]
    size = min(len(shown), DRAWN)
    has_target = np.array([one.predicts is not None for one in shown[:size]], dtype=bool)[:, None]
    sees = row.sees[:size, :size]
    breaks = [
        index
        for index in range(1, len(shown))
        if shown[index].segment != shown[index - 1].segment and not shown[index].is_padding
    ]
    kinds = {one.kind: one for position in shown for one in (position.reads, position.predicts) if one}
    return _Drawing(
        positions=shown,
        hidden=len(row.positions) - len(shown),
        breaks=frozenset(breaks),
        private=any(one.private for one in shown),
        key=[(kinds[kind], meaning) for kind, meaning in MEANINGS.items() if kind in kinds],
        size=size,
        omitted=len(shown) - size,
        sees=path(sees & ~has_target),
        trained=path(sees & has_target),
        lines="".join(f"M{k} 0V{size}M0 {k}H{size}" for k in range(1, size)),
        bounds="".join(f"M{k} 0V{size}M0 {k}H{size}" for k in breaks if k < size),
        rule={
            "order": [one.order for one in shown],
            "segments": [one.segment for one in shown],
            "private": [one.private for one in shown],
            "reads": [one.reads.plain for one in shown],
            "predicts": [one.predicts.plain if one.predicts else None for one in shown],
        },
        measures=measures(row.counts, row.sample),
        mean_seen=float(np.mean([one.sees for one in row.used])) if row.used else 0.0,
    )


def path(cells: np.ndarray) -> str:
    """The true entries of a matrix as an SVG path: runs along a row, joined with equal ones of the next rows.

    Args:
        cells: [L, L] bool.
    """
    drawn = []
    open_runs: dict[tuple[int, int], int] = {}
    for line, entries in enumerate([*cells, np.zeros(cells.shape[1], dtype=bool)]):
        edges = np.flatnonzero(np.diff(entries.astype(np.int8), prepend=0, append=0)).tolist()
        runs = set(zip(edges[::2], edges[1::2], strict=True))
        for run in [one for one in open_runs if one not in runs]:
            top = open_runs.pop(run)
            drawn.append(f"M{run[0]} {top}H{run[1]}V{line}H{run[0]}z")
        for run in runs:
            open_runs.setdefault(run, line)
    return "".join(drawn)
