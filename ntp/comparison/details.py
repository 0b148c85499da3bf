"""What exams bring beside their numbers: reliability curves, losses by bucket, tables and samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ntp.comparison.assemble import Comparison
from ntp.comparison.matrix import Column

_ADDED = ("tokens", "bytes", "nats")
_AVERAGED = ("accuracy", "confidence")
_LONGEST_TABLE = 400
_PLACES = ("document", "asked")


def of_rows(comparison: Comparison, column: Column) -> dict[str, list[Mapping[str, Any]]]:
    """The details of each row's runs."""
    found = {
        row.name: [one.result.details for one in column.cells[row.name].results if one.result.details]
        for row in comparison.rows
    }
    return {name: details for name, details in found.items() if details}


def reliability_curves(comparison: Comparison, column: Column) -> list[dict[str, Any]]:
    """Confidence and accuracy by bin, of the runs of each row together; before and after a temperature.

    Returns:
        ``row``, ``state`` (``before`` or ``after``) and ``bins``.
    """
    curves = []
    for row, details in of_rows(comparison, column).items():
        for state in ("before", "after"):
            own = [_curve(one.get("reliability"), state) for one in details]
            bins = pooled([line for lines in own for line in lines])
            if bins:
                curves.append({"row": row, "state": state, "bins": sorted(bins, key=lambda one: one["confidence"])})
    return curves


def _curve(reliability: Any, state: str) -> list[Mapping[str, Any]]:
    curve = (reliability or {}).get(state) if isinstance(reliability, Mapping) else None
    lines = curve.get("curve") if isinstance(curve, Mapping) else None
    return [line for line in lines if isinstance(line, Mapping)] if isinstance(lines, list) else []


def bucket_tables(comparison: Comparison, column: Column) -> dict[str, list[dict[str, Any]]]:
    """Losses by frequency, position and the like, of the runs of each row together.

    Returns:
        By the name of the breakdown: ``row``, ``bucket`` and what was counted.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for row, details in of_rows(comparison, column).items():
        for name, tables in _breakdowns(details).items():
            for line in pooled([line for table in tables for line in table]):
                found.setdefault(name, []).append({"row": row, "bucket": bucket_name(line), **line})
    return found


def _breakdowns(details: Sequence[Mapping[str, Any]]) -> dict[str, list[list[Mapping[str, Any]]]]:
    found: dict[str, list[list[Mapping[str, Any]]]] = {}
    for one in details:
        for name, table in one.items():
            if name.startswith("by_") and is_table(table):
                found.setdefault(name, []).append(table)
        for curve in one.get("curves") or [] if isinstance(one.get("curves"), list) else []:
            if isinstance(curve, Mapping) and is_table(curve.get("curve")):
                found.setdefault(f"by_position_at_{curve.get('factor', '?')}x", []).append(curve["curve"])
    return found


def pooled(lines: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Lines of several runs about the same bucket as one: sums added, means weighted by tokens."""
    found: dict[tuple[tuple[str, Any], ...], dict[str, Any]] = {}
    for line in lines:
        label = tuple(
            (key, value)
            for key, value in line.items()
            if key in ("from", "to") or not isinstance(value, int | float | None)
        )
        own = found.setdefault(label, dict(label))
        before, tokens = own.get("tokens", 0.0), float(line.get("tokens") or 0.0)
        for key in _AVERAGED:
            if isinstance(line.get(key), int | float) and before + tokens:
                own[key] = (own.get(key, 0.0) * before + line[key] * tokens) / (before + tokens)
        for key in _ADDED:
            if isinstance(line.get(key), int | float):
                own[key] = own.get(key, 0.0) + line[key]
        for key, value in line.items():
            own.setdefault(key, value)
    for own in found.values():
        if own.get("tokens") and "nats" in own:
            own["nats_per_token"] = own["nats"] / own["tokens"]
            own["bits_per_byte"] = own["nats"] / math.log(2) / own["bytes"] if own.get("bytes") else None
    return list(found.values())


def bucket_name(line: Mapping[str, Any]) -> str:
    """What a line is about."""
    if "from" in line and "to" in line:
        return f"{line['from']:,} to {line['to']:,}"
    return next((str(value) for value in line.values() if isinstance(value, str)), "?")


def flat_tables(comparison: Comparison, column: Column) -> dict[str, list[dict[str, Any]]]:
    """Every list of plain lines among the details, the rows of all arms below each other.

    Those that are about buckets are of all runs of a row, others of its first run.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for name, lines in bucket_tables(comparison, column).items():
        found[name] = [{key: value for key, value in line.items() if key not in ("from", "to")} for line in lines]
    curves = reliability_curves(comparison, column)
    if curves:
        found["reliability"] = [
            {"row": one["row"], "state": one["state"], **line} for one in curves for line in one["bins"]
        ]
    for row, details in of_rows(comparison, column).items():
        for name, value in details[0].items():
            if name not in found and name != "samples" and is_table(value):
                found.setdefault(name, [])
            if name in found and name != "samples" and is_table(value) and not name.startswith("by_"):
                found[name] += [{"row": row, **line} for line in value]
    return {name: lines[:_LONGEST_TABLE] for name, lines in found.items() if lines}


def is_table(value: Any) -> bool:
    """Whether it is a list of flat objects."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(line, Mapping) and all(isinstance(cell, str | int | float | None) for cell in line.values())
            for line in value
        )
    )


@dataclass(frozen=True)
class Sample:
    """What several rows made of one question.

    Attributes:
        shared: fields that are the same for all of them, such as the prompt.
        rows: by name, the other fields.
    """

    shared: Mapping[str, str]
    rows: Mapping[str, Mapping[str, str]]


def samples(comparison: Comparison, column: Column, most: int = 6) -> list[Sample]:
    """Samples side by side, of the first run of each row."""
    own: dict[str, list[dict[str, str]]] = {}
    for row, details in of_rows(comparison, column).items():
        value = details[0].get("samples")
        if isinstance(value, list):
            own[row] = [_fields(one) for one in value[:most]]
    found = []
    for index in range(max(map(len, own.values()), default=0)):
        there = {row: lines[index] for row, lines in own.items() if index < len(lines)}
        first = next(iter(there.values()))
        alike = [key for key in first if len(there) > 1 and all(one.get(key) == first[key] for one in there.values())]
        rest = {row: {key: text for key, text in one.items() if key not in alike} for row, one in there.items()}
        found.append(Sample({key: first[key] for key in alike}, rest))
    return found


def _fields(one: Any) -> dict[str, str]:
    if not isinstance(one, Mapping):
        return {"text": str(one)}
    return {
        str(key): f"{value:.4g}" if isinstance(value, float) else str(value)
        for key, value in one.items()
        if key not in _PLACES and isinstance(value, str | int | float)
    }
