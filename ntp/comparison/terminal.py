"""A comparison for a terminal: the matrix, verdicts in words, what it has cost, and what to be careful about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ntp.comparison.assemble import Comparison
from ntp.comparison.footnotes import Footnotes, legend, matrix_notes
from ntp.comparison.ledger import counted, said
from ntp.comparison.matrix import Column

_LONGEST_NAME = 34
_FEW_VERDICTS = 24


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print it; at 80 columns or more nothing is cut off."""
    notes = matrix_notes(comparison)
    console.print(Text(comparison.question, style="bold"))
    console.print(Text(summary(comparison), style="dim"))
    for reason in comparison.objections:
        unranked = "nothing is ranked" if reason in comparison.refusals else "it is not ranked"
        done = "ranked all the same (forced)" if comparison.force else f"{unranked}; force=true does it all the same"
        console.print(Text(f"{reason}: {done}", style="yellow"))
    for table in _matrices(comparison, notes, console.width):
        console.print()
        console.print(table)
    for line in [*legend(comparison), *notes.lines()]:
        console.print(Padding(Text(line, style="dim"), (0, 0, 0, 2)))
    _print_verdicts(comparison, console)
    console.print()
    console.print(Text("ledger", style="bold"))
    for table in _ledgers(comparison, console.width):
        console.print(table)
    _print_list("careful", comparison.cautions, console)
    _print_list("left out", [f"{name} {reason}" for name, reason in comparison.left_out], console)


def summary(comparison: Comparison) -> str:
    """How much was compared, and what it has in common."""
    runs = sum(len(arm.runs) for arm in comparison.arms)
    seeds = sorted({len(arm.runs) for arm in comparison.arms})
    each = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    parts = [
        f"{len(comparison.arms)} arm{'s' * (len(comparison.arms) != 1)}",
        f"{runs} run{'s' * (runs != 1)}",
        f"{each} seed{'s' * (seeds != [1])} each",
    ]
    if comparison.axis is not None and comparison.amount is not None:
        parts.append(f"at {counted(comparison.amount, comparison.axis)}")
    equal = [fact.name for fact in comparison.facts if fact.equal]
    return f"{', '.join(parts)}; equal in all runs: {', '.join(equal) or 'nothing'}"


def _fitting(comparison: Comparison, needed: Mapping[str, int], width: int) -> Iterator[list[str]]:
    """Columns of a table, by name and with the room that each needs, as many at a time as fit beside the rows."""
    room = width - 2 - min(_LONGEST_NAME, max(cell_len(row.name) for row in comparison.rows))
    part: list[str] = []
    for name in needed:
        if part and sum(needed[one] for one in part) + needed[name] > room:
            yield part
            part = []
        part.append(name)
    if part:
        yield part


def _matrices(comparison: Comparison, notes: Footnotes, width: int) -> Iterator[Table]:
    columns = {column.exam: column for column in comparison.columns}
    needed = {}
    for name, column in columns.items():
        # A heading may be broken between its words.
        words = [*(f"{word} ↓" for word in comparison.title(column).split()), *column.unit.split()]
        needed[name] = 3 + max(map(cell_len, [*words, *(notes.text(column, row.name) for row in comparison.rows)]))
    for names in _fitting(comparison, needed, width):
        yield _matrix(comparison, [columns[name] for name in names], notes)


def _matrix(comparison: Comparison, columns: Sequence[Column], notes: Footnotes) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("", max_width=_LONGEST_NAME, overflow="fold")
    for column in columns:
        arrow = {"lower": " ↓", "higher": " ↑"}.get(column.better or "", "")
        head = Text(f"{comparison.title(column)}{arrow}")
        if column.unit:
            head.append(f"\n{column.unit}", style="dim")
        table.add_column(head, justify="right")
    for index, row in enumerate(comparison.rows):
        begins_baselines = row.baseline and not comparison.rows[index - 1].baseline
        if begins_baselines:
            table.add_section()
        cells = [
            Text(notes.text(column, row.name), style="bold green" if column.cells[row.name].best else "")
            for column in columns
        ]
        table.add_row(Text(row.name, style="italic" if row.baseline else ""), *cells)
    return table


def verdicts(comparison: Comparison, shown_only: bool = True) -> list[tuple[str, str, str]]:
    """Exam, kind and verdict of pairs; of runs that differ by their seed only, what lies between them."""
    found = []
    for column in comparison.columns:
        if len(comparison.arms) == 1 and (seeds := _between_seeds(comparison, column)):
            found.append((comparison.title(column), _kind(column, comparison.arms[0].name), seeds))
        for pair in column.pairs:
            if pair.shown or not shown_only:
                sentence = _between(pair.first, pair.second, pair.verdict)
                found.append((comparison.title(column), _kind(column, pair.second), sentence))
    return found


def _kind(column: Column, row: str) -> str:
    kind, given = column.cells[row].kind
    told = f"given {', '.join(given)}" if given else ""
    return ", ".join(filter(None, [kind if kind != "none" else "", told]))


def _between_seeds(comparison: Comparison, column: Column) -> str | None:
    (arm,) = comparison.arms
    cell = column.cells[arm.name]
    if not cell.ranked or cell.sample is None or len(cell.sample.seeds) < 2 or not comparison.ranks(column):
        return None
    values = cell.sample.values
    apart = f"{float(np.ptp(values)):.2g}{column.unit and ' ' + column.unit}"
    seeds = [str(seed) for seed in cell.sample.seeds]
    names = f"seeds {', '.join(seeds[:-1])} and {seeds[-1]}"
    return f"{names} of {arm.name}: not resolved: they differ by nothing but luck ({apart} at most)"


def _between(first: str, second: str, verdict: str) -> str:
    """A verdict that names both."""
    return verdict if " better than " in verdict else f"{second} against {first}: {verdict}"


def _print_verdicts(comparison: Comparison, console: Console) -> None:
    found = verdicts(comparison)
    console.print()
    if not found:
        console.print(Text(f"verdicts: none, {comparison.without_verdicts}", style="bold"))
        return
    console.print(Text("verdicts", style="bold"))
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", max_width=24)
    table.add_column(overflow="fold")
    for exam, kind, sentence in found[:_FEW_VERDICTS]:
        style = "green" if " better than " in sentence else ""
        table.add_row(Text(exam), Text(sentence, style=style) + Text(f"  [{kind}]" if kind else "", style="dim"))
    console.print(Padding(table, (0, 0, 0, 2)))
    if len(found) > _FEW_VERDICTS:
        console.print(Text(f"  and {len(found) - _FEW_VERDICTS} more in the report", style="dim"))


def _ledgers(comparison: Comparison, width: int) -> Iterator[Table]:
    """Rows and costs, as many costs at a time as fit beside the names."""
    entries = {name: [comparison.ledger[row.name][name].mean for row in comparison.rows] for name in comparison.counted}
    texts = {
        name: ["—" if amount is None else said(amount, name) for amount in amounts] for name, amounts in entries.items()
    }
    needed = {name: 3 + max(map(cell_len, [_SHORT[name], *found])) for name, found in texts.items()}
    for names in _fitting(comparison, needed, width):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
        table.add_column("", max_width=_LONGEST_NAME, overflow="fold")
        for name in names:
            table.add_column(_SHORT[name], justify="right", no_wrap=True)
        for index, row in enumerate(comparison.rows):
            table.add_row(
                Text(row.name, style="italic" if row.baseline else ""), *(texts[name][index] for name in names)
            )
        yield table


_SHORT = {
    "steps": "steps",
    "rows": "rows",
    "tokens": "tokens",
    "targets": "targets",
    "bytes": "text",
    "flops": "FLOPs",
    "seconds": "time",
    "memory": "memory",
    "parameters": "param.",
}


def _print_list(title: str, lines: Sequence[str], console: Console) -> None:
    if not lines:
        return
    console.print()
    console.print(Text(title, style="bold"))
    for line in lines:
        console.print(Padding(Text(line), (0, 0, 0, 2)))
