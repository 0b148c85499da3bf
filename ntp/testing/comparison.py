"""Two runs, compared to the last bit: what they saw, what they computed, and what they ended with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntp.testing.trace import Place, Recorded, read_trace
from ntp.tracking.metric_lines import METRICS, read_metrics_file
from ntp.tracking.run_directory import read_summary
from ntp.training.checkpoint import CHECKPOINTS
from ntp.training.checkpoint_store import CheckpointStore

NOT_COMPARED = ("progress/seconds", "total_seconds", "mean_tokens_per_second")
"""And everything under ``perf/``: what the clock says is another thing every time."""


@dataclass(frozen=True)
class Difference:
    """Where two runs part.

    Attributes:
        what: what differs, and where.
        values: the two of them.
        step: optimizer step at which it shows; None for the state at the end.
        hidden: whether it is an attribute that no checkpoint keeps.
    """

    what: str
    values: tuple[Any, Any]
    step: int | None = None
    hidden: bool = False

    def __str__(self) -> str:
        first, second = (f"{one!r}" if isinstance(one, float) else str(one) for one in self.values)
        return f"{self.what}: {first}, and {second}"


@dataclass
class Outcome:
    """All that is compared of one run.

    Attributes:
        trace: of all its processes.
        metrics: lines of ``metrics.jsonl``, without what the clock says.
        summary: metrics of ``summary.json``, likewise, and which checkpoints are the last and the best.
    """

    trace: Recorded
    metrics: list[dict[str, Any]]
    summary: dict[str, Any]

    def counts(self) -> dict[str, int]:
        """How much there is to compare, by its name."""
        ends = self.trace.ends.values()
        return {
            "micro-batches, rows and masks": len(self.trace.rows),
            "losses of micro-batches": len(self.trace.losses),
            "lines of metrics": len(self.metrics),
            "last metrics": len(self.summary),
            "tensors of weights": sum(len(one["weights"]) for one in ends),
            "values of the optimizer": sum(len(one["optimizer"]) for one in ends),
            "progress counters": sum(len(one["progress"]) for one in ends),
            "other attributes": sum(len(one["hidden"]) for one in ends),
        }


def read_outcome(run: Path, trace: Path) -> Outcome:
    """Of a run directory, and of the directory of its `Trace`."""
    lines = [_timeless(line) for line in read_metrics_file(run / METRICS)]
    summary = {name: value for name, value in read_summary(run).items() if "/" in name}
    store = CheckpointStore(run / CHECKPOINTS)
    for name, kept in (("last", store.entries()[-1:]), ("best", store.best())):
        summary |= {f"checkpoints/{name}": (one.step, one.loss) for one in kept}
    return Outcome(read_trace(trace), lines, _timeless(summary))


def differences(expected: Outcome, found: Outcome) -> list[Difference]:
    """What differs, in the order in which a run comes by it; hidden attributes last."""
    during = [
        *_of_rows(expected.trace.rows, found.trace.rows),
        *_of_losses(expected.trace.losses, found.trace.losses),
        *_of_metrics(expected.metrics, found.metrics),
    ]
    during.sort(key=lambda one: one.step or 0)  # stable: of one step, rows before losses before metrics
    ends = [*_of_ends(expected.trace.ends, found.trace.ends)]
    summary = [*_of_values("in the end, ", expected.summary, found.summary)]
    return [*during, *(one for one in ends if not one.hidden), *summary, *(one for one in ends if one.hidden)]


def _of_rows(expected: Mapping[Place, Any], found: Mapping[Place, Any]) -> Iterator[Difference]:
    for place in sorted(expected.keys() | found.keys()):
        if place not in expected or place not in found:
            seen = tuple("seen" if place in one else "not seen" for one in (expected, found))
            yield Difference(f"the micro-batch at {_named(place)}", (seen[0], seen[1]), place[0])
        elif names := _unequal(expected[place], found[place]):
            values = tuple(one[place].get(names[0], "absent") for one in (expected, found))
            yield Difference(f"rows differ at {_named(place)} ({', '.join(names)})", (values[0], values[1]), place[0])


def _of_losses(expected: Mapping[Place, float], found: Mapping[Place, float]) -> Iterator[Difference]:
    for place in sorted(expected.keys() & found.keys()):
        if not _same(expected[place], found[place]):
            yield Difference(f"the loss differs at {_named(place)}", (expected[place], found[place]), place[0])


def _of_metrics(expected: list[dict[str, Any]], found: list[dict[str, Any]]) -> Iterator[Difference]:
    for number, (one, other) in enumerate(zip(expected, found, strict=False), start=1):
        step = one.get("step")
        yield from _of_values(f"line {number} of {METRICS}, step {step}, ", one, other, step)
    if len(expected) != len(found):
        longer = max(expected, found, key=len)
        step = longer[min(len(expected), len(found))].get("step")
        yield Difference(f"the number of lines of {METRICS}", (len(expected), len(found)), step)


def _of_ends(expected: Mapping[int, Any], found: Mapping[int, Any]) -> Iterator[Difference]:
    for rank in sorted(expected.keys() | found.keys()):
        if rank not in expected or rank not in found:
            come = tuple("came to its end" if rank in one else "did not" for one in (expected, found))
            yield Difference(f"rank {rank}", (come[0], come[1]))
            continue
        where = f" of rank {rank}" if len(expected) > 1 else ""
        for part in ("weights", "optimizer", "progress", "hidden"):
            title = "" if part == "hidden" else f"{part}{where}, "
            yield from _of_values(title, expected[rank][part], found[rank][part], hidden=part == "hidden")


def _of_values(
    title: str, expected: Mapping[str, Any], found: Mapping[str, Any], step: int | None = None, *, hidden: bool = False
) -> Iterator[Difference]:
    for name in _unequal(expected, found):
        yield Difference(f"{title}{name}", (expected.get(name, "absent"), found.get(name, "absent")), step, hidden)


def _unequal(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    names: Iterable[str] = dict.fromkeys([*expected, *found])
    return [name for name in names if not _same(expected.get(name, ...), found.get(name, ...))]


def _same(one: Any, other: Any) -> bool:
    both = isinstance(one, float) and isinstance(other, float)
    return one == other or (both and math.isnan(one) and math.isnan(other))


def _named(place: Place) -> str:
    step, micro_batch, rank = place
    return f"step {step}, micro-batch {micro_batch}" + (f" of rank {rank}" if rank else "")


def _timeless(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if not name.startswith("perf/") and name not in NOT_COMPARED}
