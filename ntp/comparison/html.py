"""A comparison as a web page: one file that opens without a network, in light and dark, on screens and on paper."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ntp import __version__
from ntp.comparison.assemble import Comparison
from ntp.comparison.curves import AXES
from ntp.comparison.details import Sample, bucket_tables, reliability_curves, samples
from ntp.comparison.drawing import curve_data, exam_data, kind_of
from ntp.comparison.footnotes import legend, matrix_notes
from ntp.comparison.matrix import Column
from ntp.comparison.sheets import (
    Sheet,
    baselines_sheet,
    detail_sheets,
    differing_sheet,
    equal_sheet,
    ledger_sheet,
    matrix_sheet,
    not_empty,
    numbers_sheet,
    pairs_sheet,
    runs_sheet,
)
from ntp.comparison.tables import plain
from ntp.comparison.terminal import summary, verdicts

_DIGITS = 6
# An address as a string of the script's. Comments keep theirs: licences name their authors there.
_ADDRESS = re.compile(r"""(["'`])https?://(?!www\.w3\.org/)[^"'`\\\s]*""")


@dataclass(frozen=True)
class _Details:
    """What the page shows of an exam beside its numbers."""

    column: Column
    sheets: list[Sheet]
    figures: list[str]
    samples: list[Sample]


def page(comparison: Comparison) -> str:
    """The whole page.

    Args:
        comparison: of any runs.
    """
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    template = environment.from_string(resources.files(__package__).joinpath("report.html").read_text(encoding="utf-8"))
    notes = matrix_notes(comparison)
    data = figures(comparison)
    details = [_details(comparison, column, data) for column in comparison.columns]
    caveats: dict[str, list[str]] = {}
    for column in comparison.columns:
        for pair in column.pairs:
            for caveat in pair.difference.caveats:
                caveats.setdefault(caveat, []).append(f"{pair.first} and {pair.second} on {column.title}")
        for row, cell in column.cells.items():
            for caveat in cell.estimate.caveats if cell.estimate else ():
                caveats.setdefault(caveat, []).append(f"{row} on {column.title}")
    return template.render(
        it=comparison,
        summary=summary(comparison),
        matrix=matrix_sheet(comparison, notes),
        footnotes=[(mark, note) for note, mark in notes.marks.items()],
        legend=legend(comparison),
        verdicts=verdicts(comparison),
        pairs=pairs_sheet(comparison),
        ledger=ledger_sheet(comparison),
        numbers=numbers_sheet(comparison, comparison.columns, "numbers", "All numbers of the matrix"),
        further=numbers_sheet(comparison, comparison.further, "further", "Further measures of the exams"),
        differing=differing_sheet(comparison),
        equal=equal_sheet(comparison),
        runs=runs_sheet(comparison),
        baselines=baselines_sheet(comparison),
        details=[one for one in details if one.sheets or one.figures or one.samples],
        written=[(arm.name, run) for arm in comparison.arms for run in arm.runs[:1] if run.sample],
        caveats=caveats,
        exams=data["exams"],
        metrics=list(data["curves"]),
        axes={name: axis.title for name, axis in AXES.items()},
        data=as_script(data),
        plotly=Markup(plotly_script()),
        version=__version__,
        time=datetime.now(UTC).isoformat(timespec="minutes").replace("+00:00", " UTC").replace("T", " "),
    )


def figures(comparison: Comparison) -> dict[str, Any]:
    """The numbers that the page's script draws."""
    curves = curve_data(comparison)
    return {
        "rows": [row.name for row in comparison.rows],
        "axes": {name: {"title": axis.title, "unit": axis.unit} for name, axis in AXES.items()},
        "curves": curves,
        "likelihoods": [name for name in curves if any(kind_of(arm, name) != "none" for arm in comparison.arms)],
        "exams": [one for column in comparison.columns if (one := exam_data(comparison, column))["points"]],
        "reliability": {
            column.exam: found for column in comparison.columns if (found := reliability_curves(comparison, column))
        },
        "buckets": {
            f"{column.exam}/{name}": lines
            for column in comparison.columns
            for name, lines in bucket_tables(comparison, column).items()
        },
    }


def _details(comparison: Comparison, column: Column, data: dict[str, Any]) -> _Details:
    drawn = ["reliability"] if column.exam in data["reliability"] else []
    drawn += [name.split("/", 1)[1] for name in data["buckets"] if name.split("/", 1)[0] == column.exam]
    return _Details(column, not_empty(detail_sheets(comparison, column)), drawn, samples(comparison, column))


def as_script(data: Any) -> Markup:
    """JSON that stands in a script element of a page: no text in it can end the element."""
    text = json.dumps(_rounded(plain(data)), ensure_ascii=False, separators=(",", ":"))
    for sign, code in (
        ("&", "\\u0026"),
        ("<", "\\u003c"),
        (">", "\\u003e"),
        ("\u2028", "\\u2028"),
        ("\u2029", "\\u2029"),
    ):
        text = text.replace(sign, code)
    return Markup(text)


@lru_cache(maxsize=1)
def plotly_script() -> str:
    """plotly.js without the addresses that it would ask for maps, fonts and editors."""
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    script: str = _ADDRESS.sub(r"\1about:blank", get_plotlyjs())
    return script


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
