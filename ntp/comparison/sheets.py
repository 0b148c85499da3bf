"""The tables of the report, each of which can also be had as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ntp.comparison.arms import equal_settings
from ntp.comparison.assemble import Comparison
from ntp.comparison.details import flat_tables
from ntp.comparison.footnotes import Footnotes
from ntp.comparison.ledger import COSTS
from ntp.comparison.matrix import Cell, Column, Kind
from ntp.comparison.naming import ABSENT
from ntp.tracking.results import MARKS

KINDS = {"exact": "exact", "bound": "upper bound", "pseudo": "pseudo", "none": "no likelihood"}


@dataclass(frozen=True)
class Entry:
    """One entry of a table.

    Attributes:
        text: as a person reads it.
        value: as a program does; None for the text.
        role: ``best``, ``good``, ``gap``, or nothing.
        marks: of footnotes.
    """

    text: str
    value: Any = None
    role: str = ""
    marks: str = ""

    @property
    def is_number(self) -> bool:
        """Whether it stands at the right."""
        return isinstance(self.value, int | float) and not isinstance(self.value, bool)


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes:
        name: of its file.
        title: for people.
        header: of its columns; the first column names the rows.
        rows: entries, or plain text for what needs no more.
    """

    name: str
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Entry]]

    def is_numeric(self, column: int) -> bool:
        """Whether a column stands at the right."""
        entries = [row[column] for row in self.rows]
        return any(one.is_number for one in entries) and all(one.is_number or one.role == "gap" for one in entries)

    @property
    def csv(self) -> str:
        """With values where there are any. What a spreadsheet would take for a formula gets an apostrophe."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.header)
        for row in self.rows:
            writer.writerow([_harmless(one.text) if one.value is None else one.value for one in row])
        return text.getvalue()

    @property
    def link(self) -> str:
        """The CSV as an address that needs neither a server nor a script."""
        return "data:text/csv;charset=utf-8," + quote(self.csv)


def matrix_sheet(comparison: Comparison, notes: Footnotes) -> Sheet:
    """Rows and exams."""
    header = [""]
    for column in comparison.columns:
        arrow = {"lower": " ↓", "higher": " ↑"}.get(column.better or "", "")
        header.append(f"{comparison.title(column)}{arrow}{f' ({column.unit})' if column.unit else ''}")
    rows = [
        [
            Entry(row.name),
            *(_of_cell(column.cells[row.name], notes.of(column, row.name)) for column in comparison.columns),
        ]
        for row in comparison.rows
    ]
    return Sheet("matrix", "Arms and exams", header, rows)


def _of_cell(cell: Cell, marks: str) -> Entry:
    if cell.estimate is None or math.isnan(cell.estimate.value):
        return Entry(cell.text, role="gap", marks=marks)
    return Entry(cell.text, cell.estimate.value, "best" if cell.best else "", marks)


def numbers_sheet(comparison: Comparison, columns: Sequence[Column], name: str, title: str) -> Sheet:
    """Every number with its interval, its spread over seeds, its kind and what it was given."""
    header = [
        "",
        "exam",
        "measure",
        "value",
        "low",
        "high",
        "sd of seeds",
        "seeds",
        "documents",
        "kind",
        "given",
        "note",
    ]
    rows = []
    for column in columns:
        for row in comparison.rows:
            cell = column.cells[row.name]
            note = cell.remarks
            start = [Entry(row.name), Entry(column.exam), Entry(_measured(column))]
            found = cell.estimate
            if found is None:
                rows.append([*start, *(Entry(ABSENT, "", "gap") for _ in range(8)), Entry(note)])
                continue
            rows.append(
                [
                    *start,
                    Entry(f"{MARKS[cell.kind[0]]}{_number(found.value)}", found.value, "best" if cell.best else ""),
                    *(_entry(value) for value in (found.low, found.high, found.standard_deviation)),
                    Entry(str(found.seeds), found.seeds),
                    Entry(str(found.documents), found.documents),
                    Entry(KINDS[cell.kind[0]]),
                    Entry(", ".join(cell.kind[1]) or "nothing"),
                    Entry(note),
                ]
            )
    return Sheet(name, title, header, rows)


def pairs_sheet(comparison: Comparison) -> Sheet:
    """Every two rows that may be compared."""
    header = ["exam", "of", "against", "verdict", "better by", "low", "high", "p (Holm)", "seeds needed", "kind"]
    rows = []
    for column in comparison.columns:
        for pair in column.pairs:
            one = pair.difference
            rows.append(
                [
                    Entry(comparison.title(column)),
                    Entry(pair.second),
                    Entry(pair.first),
                    Entry(pair.verdict, role="good" if one.resolved else ""),
                    *(_entry(value) for value in (one.value, one.low, one.high)),
                    Entry("—" if one.one_seed else _number(one.p_value), None if one.one_seed else one.p_value),
                    _entry(one.seeds_needed),
                    Entry(said_kind(column.cells[pair.first].kind)),
                ]
            )
    return Sheet("pairs", "All pairs that may be compared", header, rows)


def ledger_sheet(comparison: Comparison) -> Sheet:
    """What each row has cost."""
    names = comparison.counted
    rows = []
    for row in comparison.rows:
        found = comparison.ledger[row.name]
        entries = [Entry(found[name].text(name), found[name].mean) for name in names]
        rows.append([Entry(row.name), *(one if one.is_number else Entry("—", "", "gap") for one in entries)])
    return Sheet("ledger", "Cost ledger", ["", *(COSTS[name] for name in names)], rows)


def baselines_sheet(comparison: Comparison) -> Sheet:
    """What the baselines are."""
    rows = [[Entry(row.name), Entry(row.description)] for row in comparison.rows if row.baseline]
    return Sheet("baselines", "Baselines", ["", "what it is"], rows)


def differing_sheet(comparison: Comparison) -> Sheet:
    """Configuration and circumstances that set the arms apart."""
    names = [arm.name for arm in comparison.arms]
    rows = [[Entry(key), *(Entry(arm.settings[key]) for arm in comparison.arms)] for key in comparison.differing]
    rows += [
        [Entry(fact.name), *(Entry(fact.values[name]) for name in names)] for fact in comparison.facts if not fact.equal
    ]
    rows.append([Entry("seeds"), *(Entry(", ".join(map(str, arm.seeds))) for arm in comparison.arms)])
    return Sheet("differing", "What differs", ["key", *names], rows)


def equal_sheet(comparison: Comparison) -> Sheet:
    """Configuration and circumstances that all arms share."""
    rows = [[Entry(fact.name), Entry(fact.value)] for fact in comparison.facts if fact.equal]
    rows += [[Entry(key), Entry(value)] for key, value in equal_settings(comparison.arms).items()]
    return Sheet("equal", "What is equal", ["key", "value"], rows)


def runs_sheet(comparison: Comparison) -> Sheet:
    """Directories."""
    rows = [
        [
            Entry(arm.name),
            Entry(str(run.seed), run.seed),
            Entry(run.name),
            Entry(run.state),
            Entry(f"{run.step:,}", run.step),
        ]
        for arm in comparison.arms
        for run in arm.runs
    ]
    return Sheet("runs", "Runs", ["arm", "seed", "directory", "state", "steps"], rows)


def detail_sheets(comparison: Comparison, column: Column) -> list[Sheet]:
    """Tables that an exam itself brings, the rows of all arms below each other."""
    sheets = []
    for name, lines in flat_tables(comparison, column).items():
        header = list(dict.fromkeys(key for line in lines for key in line))
        rows = [[_any(line.get(key)) for key in header] for line in lines]
        sheets.append(Sheet(f"{column.exam}_{name}", name.replace("_", " ").replace("/", ": "), header, rows))
    return sheets


def said_kind(kind: Kind) -> str:
    """``upper bound, given left``."""
    return f"{KINDS[kind[0]]}, given {', '.join(kind[1])}" if kind[1] else KINDS[kind[0]]


def _measured(column: Column) -> str:
    said = column.measure.replace("_", " ")
    return said if not column.unit or column.unit == said else f"{said}, {column.unit}"


def _any(value: Any) -> Entry:
    if isinstance(value, bool) or value is None:
        return Entry("" if value is None else str(value).lower())
    return Entry(_number(value), value) if isinstance(value, int | float) else Entry(str(value))


def _entry(value: float | None) -> Entry:
    return Entry("—", "", "gap") if value is None or not math.isfinite(value) else Entry(_number(value), value)


def _number(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _harmless(text: str) -> str:
    return f"'{text}" if text[:1] in ("=", "+", "@", "\t", "\r") or (text[:1] == "-" and len(text) > 1) else text


def not_empty(sheets: Iterable[Sheet]) -> list[Sheet]:
    """Those with rows."""
    return [sheet for sheet in sheets if sheet.rows]
