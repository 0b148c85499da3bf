"""What came of baselines, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ntp.baselines.fitting import BaselineResults
from ntp.evaluation.exams.result import Result
from ntp.evaluation.printing import said
from ntp.tracking.describe import short
from ntp.tracking.results import MARKS


def print_baselines(baselines: Sequence[BaselineResults], missing: Mapping[str, str], console: Console) -> None:
    """One line a baseline, one column an exam; then what each is, and why it has no number.

    Args:
        baselines: at least one.
        missing: why others are not here, by name.
        console: where.
    """
    units = _units(baselines)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("baseline", no_wrap=True)
    for exam, unit in units.items():
        table.add_column(f"{exam}\n[dim]{unit}[/dim]" if unit else exam, justify="right")
    for title in ("fitted in", "text read", "parameters"):
        table.add_column(title, justify="right")
    for one in baselines:
        by_exam = {stored.result.exam: stored.result for stored in one.results}
        cells = [_cell(by_exam.get(exam)) for exam in units]
        table.add_row(Text(one.name), *cells, f"{one.seconds:.1f} s", short(one.bytes, "B"), f"{one.parameters:,}")
    console.print(table, highlight=False)
    console.print()
    for one in baselines:
        console.print(Text.assemble((one.name, "bold"), f": {one.description}"), highlight=False)
        notes = [*one.notes, *(_refusal(stored.result) for stored in one.results if stored.result.refusal)]
        for stored in one.results:
            notes += [f"{stored.result.exam}: {line}" for line in (*stored.result.caveats, *stored.result.notes)]
        for note in notes:
            console.print(Text(f"  {note}", style="dim"), highlight=False)
    for name, problem in missing.items():
        console.print(Text.assemble((name, "bold"), (f" is not here: {problem}", "dim")), highlight=False)


def _units(baselines: Sequence[BaselineResults]) -> dict[str, str]:
    """The unit of each exam's first measure; empty where nobody has one."""
    units: dict[str, str] = {}
    for one in baselines:
        for stored in one.results:
            primary = stored.result.primary
            unit = stored.result.measures[primary].unit if primary else ""
            units[stored.result.exam] = units.get(stored.result.exam) or unit
    return units


def _cell(result: Result | None) -> str:
    if result is None or result.primary is None:
        return "–"
    return said(result.measures[result.primary], MARKS[result.likelihood])


def _refusal(result: Result) -> str:
    return f"{result.exam} not taken: {result.refusal}"
