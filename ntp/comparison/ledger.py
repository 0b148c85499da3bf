"""What the runs of a comparison have cost."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ntp.comparison.arms import Arm
from ntp.comparison.collect import ComparedRun
from ntp.comparison.curves import AXES
from ntp.tracking.describe import duration, short

COSTS = {name: axis.title for name, axis in AXES.items()} | {"memory": "peak memory", "parameters": "parameters"}
"""What the ledger shows, with titles."""

_PEAK = "perf/peak_memory_bytes"
_UNEQUAL = 0.01
_ONE = {"steps": "optimizer step", "rows": "row read", "tokens": "token read", "targets": "target trained"}


@dataclass(frozen=True)
class Cost:
    """What the runs of an arm have cost in one unit.

    Attributes:
        mean: over the runs that have counted it; None where none has.
        low, high: the smallest and the largest.
    """

    mean: float | None
    low: float | None
    high: float | None

    def text(self, name: str) -> str:
        """``3.1 M``, and the range where seeds differ by more than a percent."""
        if self.mean is None or self.low is None or self.high is None:
            return "—"
        if self.high - self.low > _UNEQUAL * abs(self.mean):
            return f"{said(self.mean, name)} ({said(self.low, name)} to {said(self.high, name)})"
        return said(self.mean, name)


def said(amount: float, name: str) -> str:
    """An amount of one of `COSTS`, with its unit where the title does not say it."""
    if name == "seconds":
        return duration(amount) if amount >= 60 else f"{amount:.3g} s" if amount >= 0.01 else "< 0.01 s"
    if name in ("steps", "rows") and amount < 1e6:
        return f"{round(amount):,}"
    return short(amount, {"bytes": "B", "memory": "B"}.get(name, "")).strip()


def counted(amount: float, axis: str) -> str:
    """An amount of one of `ntp.comparison.curves.AXES`, with what it is of: ``1 optimizer step``, ``40 MFLOPs``."""
    if axis == "flops":
        return short(amount, "FLOPs")
    if axis == "seconds":
        return said(amount, axis)
    if axis == "bytes":
        return f"{said(amount, axis)} of text read"
    text = said(amount, axis)
    return f"{text} {_ONE[axis] if text == '1' else AXES[axis].title}"


def costs(arm: Arm) -> dict[str, Cost]:
    """By the names of `COSTS`."""
    found = {}
    for name in COSTS:
        amounts = [amount for run in arm.runs if (amount := cost_of(run, name)) is not None]
        found[name] = Cost(statistics.fmean(amounts), min(amounts), max(amounts)) if amounts else Cost(None, None, None)
    return found


def known_costs(amounts: Mapping[str, float]) -> dict[str, Cost]:
    """Of what has been done once, by the names of `COSTS`."""
    return {name: Cost(amounts.get(name), amounts.get(name), amounts.get(name)) for name in COSTS}


def cost_of(run: ComparedRun, name: str) -> float | None:
    """What a run has spent in all; None where it has not counted that."""
    if name == "memory":
        value = run.summary.get(_PEAK)
    elif name == "parameters":
        value = run.summary.get("parameters")
    else:
        value = amount_of(run.summary, name, rows_of_a_step(run))
    return None if value is None else float(value)


def amount_of(line: dict[str, Any], axis: str, rows_of_a_step: int | None) -> float | None:
    """What had been spent at a line of ``metrics.jsonl``, in the unit of an axis."""
    value = line.get(AXES[axis].metric)
    if value is None and axis == "rows" and rows_of_a_step and line.get("progress/step") is not None:
        value = line["progress/step"] * rows_of_a_step
    return None if value is None else float(value)


def rows_of_a_step(run: ComparedRun) -> int | None:
    """The batch size of its configuration."""
    size = run.config["data"].get("batch_size")
    return int(size) if isinstance(size, int) else None


def unequal(arms: Sequence[Arm]) -> list[str]:
    """Axes on which the arms have spent amounts that differ by more than a percent."""
    found = []
    for name in AXES:
        means = [cost.mean for arm in arms if (cost := costs(arm)[name]).mean is not None]
        known = [one for one in means if one is not None]
        if known and max(known) - min(known) > _UNEQUAL * max(known):
            found.append(name)
    return found
