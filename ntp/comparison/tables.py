"""A comparison as files for other programs: CSV in long format, and JSON with everything."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ntp import __version__
from ntp.comparison.arms import equal_settings
from ntp.comparison.assemble import Comparison
from ntp.comparison.ledger import COSTS
from ntp.comparison.matrix import Cell, Column

FORMAT = 1
FIELDS = (
    "table",
    "row",
    "baseline",
    "seed",
    "exam",
    "measure",
    "unit",
    "better",
    "kind",
    "given",
    "value",
    "low",
    "high",
    "standard_error",
    "questions",
    "documents",
    "best",
    "ranked",
    "forced",
    "note",
)
"""Columns of ``report.csv``. ``low`` and ``high`` are the interval of a row's number over seeds and documents;
``standard_error`` is that of one run's number as an estimate of this exam's."""


def records(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """The lines of ``report.csv``: each number once for all seeds of a row, and once for each seed."""
    for column in [*comparison.columns, *comparison.further]:
        for row in comparison.rows:
            cell = column.cells[row.name]
            shared = {
                "table": "exams",
                "row": row.name,
                "baseline": row.baseline,
                "exam": column.exam,
                "measure": column.measure,
                "unit": column.unit,
                "better": column.better,
                "kind": cell.kind[0] if cell.estimate else None,
                "given": " ".join(cell.kind[1]),
                "forced": comparison.forces(column),
            }
            yield shared | _pooled(cell, comparison.ranks(column))
            yield from (shared | one for one in _by_seed(cell, column))
    for row in comparison.rows:
        for name in COSTS:
            cost = comparison.ledger[row.name][name]
            if cost.mean is not None:
                shared = {"table": "ledger", "row": row.name, "baseline": row.baseline, "measure": name}
                yield shared | {"value": cost.mean, "low": cost.low, "high": cost.high}


def _pooled(cell: Cell, ranked: bool) -> dict[str, Any]:
    if cell.estimate is None:
        return {"seed": "all", "note": cell.remarks, "ranked": False}
    return {
        "seed": "all",
        "value": cell.estimate.value,
        "low": cell.estimate.low,
        "high": cell.estimate.high,
        "questions": len(cell.results[0].result.documents),
        "documents": cell.estimate.documents,
        "best": cell.best,
        "ranked": cell.ranked and ranked,
        "note": cell.remarks,
    }


def _by_seed(cell: Cell, column: Column) -> Iterator[dict[str, Any]]:
    if cell.sample is None:
        return
    stored = [one for one in cell.results if column.measure in one.result.measures]
    for seed, one in zip(cell.sample.seeds, stored, strict=False):
        measure = one.result.measures[column.measure]
        yield {"seed": seed, "value": measure.value, "standard_error": measure.standard_error}


def to_csv(lines: Sequence[Mapping[str, Any]] | Iterator[Mapping[str, Any]], fields: Sequence[str] = FIELDS) -> str:
    """Lines as CSV, with a header; nothing where a line has no such field or its value is not a number."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, restval="", lineterminator="\n")
    writer.writeheader()
    for line in lines:
        writer.writerow({key: "" if value is None or _is_nan(value) else value for key, value in line.items()})
    return text.getvalue()


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Everything, as plain containers without NaN."""
    return plain(
        {
            "format": FORMAT,
            "ntp": __version__,
            "question": comparison.question,
            "match": comparison.axis and {"axis": comparison.axis, "amount": comparison.amount},
            "forced": comparison.forced,
            "ranked": comparison.ranked,
            "refusals": comparison.refusals,
            "cautions": comparison.cautions,
            "left_out": [{"run": name, "reason": reason} for name, reason in comparison.left_out],
            "facts": [asdict(fact) for fact in comparison.facts],
            "equal_settings": equal_settings(comparison.arms),
            "rows": [_row(comparison, index) for index in range(len(comparison.rows))],
            "exams": [_column(comparison, column) for column in comparison.columns],
            "further_measures": [_column(comparison, column) for column in comparison.further],
            "ledger": {
                name: {axis: asdict(cost) for axis, cost in found.items()} for name, found in comparison.ledger.items()
            },
        }
    )


def _row(comparison: Comparison, index: int) -> dict[str, Any]:
    row = comparison.rows[index]
    about: dict[str, Any] = {"name": row.name, "baseline": row.baseline, "seeds": list(row.seeds)}
    if not row.baseline:
        arm = comparison.arms[index]
        about |= {"objective": arm.objective, "settings": arm.settings}
        about["runs"] = [
            {"path": str(run.path), "seed": run.seed, "state": run.state, "step": run.step} for run in arm.runs
        ]
    return about


def _column(comparison: Comparison, column: Column) -> dict[str, Any]:
    return {
        "exam": column.exam,
        "digest": column.digest,
        "measure": column.measure,
        "unit": column.unit,
        "better": column.better,
        "mixed": column.mixed,
        "forced": comparison.forces(column),
        "cells": {name: _cell(cell, column, comparison.ranks(column)) for name, cell in column.cells.items()},
        "pairs": [
            {"first": one.first, "second": one.second, "verdict": one.verdict} | asdict(one.difference)
            for one in column.pairs
        ],
    }


def _cell(cell: Cell, column: Column, ranked: bool) -> dict[str, Any]:
    return {
        "text": cell.text,
        "kind": cell.kind[0] if cell.estimate else None,
        "given": list(cell.kind[1]),
        "estimate": cell.estimate and asdict(cell.estimate),
        "seeds": list(_by_seed(cell, column)),
        "best": cell.best,
        "ranked": cell.ranked and ranked,
        "reason": cell.reason,
        "caveats": list(cell.caveats),
        "notes": list(cell.notes),
    }


def plain(value: Any) -> Any:
    """The same without NaN, infinity, tuples and numpy's scalars: what JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
