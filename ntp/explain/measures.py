"""Counts as the lines of a table: a row's own number, the mean over the sample, and the rate that it amounts to."""

from collections.abc import Sequence
from dataclasses import dataclass

from ntp.explain.explanation import Counts
from ntp.explain.pieces import Kind

_SPECIAL: dict[Kind, str] = {
    "mask": "mask tokens",
    "sentinel": "sentinels",
    "marker": "markers",
    "end": "ends of text",
}


@dataclass(frozen=True)
class Measure:
    """One line.

    Attributes:
        name: of what is counted.
        row: of the row that is shown.
        mean: of the rows of the sample.
        rate: over the whole sample, in words; empty for none.
    """

    name: str
    row: str
    mean: str
    rate: str


def measures(row: Counts, sample: Counts) -> Sequence[Measure]:
    """The lines that say something of this row or of the sample.

    Args:
        row: counts of the row that is shown.
        sample: counts of many; empty where there are none, and then means and rates are.
    """
    divided = any(one.divisor != one.targets for one in (row, sample))
    weighted = any(abs(one.weights - one.targets) > 1e-6 * one.targets for one in (row, sample))
    read, targets = sample.positions, sample.targets
    lines: list[tuple[str, float, float, str]] = [
        ("positions read", row.positions, read, ""),
        ("padding", row.padding, sample.padding, ""),
        ("tokens of text", row.corpus_tokens, sample.corpus_tokens, _ratio(sample.corpus_tokens, read, "a position")),
        ("targets", row.targets, targets, _percent(targets, read, "of positions")),
    ]
    if weighted:
        lines.append(("sum of weights", row.weights, sample.weights, _ratio(sample.weights, targets, "a target")))
    if divided:
        lines.append(("divisor of the loss", row.divisor, sample.divisor, _ratio(sample.divisor, targets, "a target")))
    of_bytes = _percent(sample.target_bytes, sample.read_bytes, "of bytes read")
    lines += [
        ("bytes read", row.read_bytes, sample.read_bytes, _ratio(sample.read_bytes, read, "a position")),
        ("bytes predicted", row.target_bytes, sample.target_bytes, of_bytes),
    ]
    for kind, name in _SPECIAL.items():
        rate = _percent(sample.special[kind], read, "of positions")
        lines.append((name, row.special[kind], sample.special[kind], rate))
    return [
        Measure(name, _number(here), _number(total / sample.rows, mean=True) if sample.rows else "", rate)
        for name, here, total, rate in lines
        if here or total or name in ("targets", "bytes predicted")
    ]


def _number(value: float, mean: bool = False) -> str:
    return f"{value:,.1f}" if mean or value != int(value) else f"{int(value):,}"


def _percent(part: float, whole: float, of: str) -> str:
    return f"{part / whole:.1%} {of}" if whole else ""


def _ratio(part: float, whole: float, of: str) -> str:
    return f"{part / whole:.2f} {of}" if whole else ""
