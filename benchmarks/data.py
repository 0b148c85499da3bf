"""Rows per second of the data path, for each objective: windows of the text, corruption, collation.

    python benchmarks/data.py
    python benchmarks/data.py --objectives causal --rounds 11 --output data.json

What matters is the share of a training step: without workers, which is the default, a step waits for its batch. The
step is that of the default model on a batch of the objective itself: making the batch, forward, backward and
optimizer. Text and tokenizer are those of the default run, so that objectives that cut between characters encode real
text. Parts take turns.
"""

import argparse
import dataclasses
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from harness.composed import composed_setup
from harness.machine import available_cores, describe_machine, write_json
from harness.statistics import ratios, show, spread
from ntp.config.instantiate import build
from ntp.config.schema import DataConfig
from ntp.data.datasets import BatchMaker, TrainingRows
from ntp.data.example import Batch, Draw, Example, Row
from ntp.data.rows import training_windows
from ntp.data.sampling import DataOrder
from ntp.objectives.base import Objective
from ntp.training.setup import Setup

OBJECTIVES = Path(__file__).resolve().parent.parent / "conf" / "objective"


def main() -> None:
    """Measure, show, write; an objective that can't be set up is listed with its reason, and the exit status is 1."""
    options = _options()
    torch.set_num_threads(options.threads)
    machine = describe_machine()
    result: dict[str, Any] = {}
    for objective in track(options.objectives, "measuring", console=Console(stderr=True), transient=True):
        try:
            result[objective] = _measure(_setup(objective, options), options)
        except Exception as error:  # one broken objective must not hide the others
            result[objective] = {"error": f"{type(error).__name__}: {error}"}
    settings = {
        name: getattr(options, name)
        for name in ("data", "model", "length", "batch", "threads", "batches", "steps", "rounds")
    }
    Console(width=None if Console().is_terminal else 140).print(_table(result, settings))
    write_json(
        options.output,
        {"benchmark": "data", "machine": machine, "settings": settings, "objectives": result},
    )
    if any("error" in one for one in result.values()):
        raise SystemExit(1)


def _options() -> argparse.Namespace:
    known = sorted(path.stem for path in OBJECTIVES.glob("*.yaml"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--objectives", type=lambda text: text.split(","), default=known, help=f"{','.join(known)} (all)"
    )
    parser.add_argument("--data", default="python", help="text and tokenizer (python)")
    parser.add_argument("--model", default="nano", help="whose step is compared with (nano)")
    parser.add_argument("--length", type=int, default=256, help="positions of a row (256)")
    parser.add_argument("--batch", type=int, default=16, help="rows of a step (16)")
    parser.add_argument("--threads", type=int, default=available_cores(), help="of the step (all cores)")
    parser.add_argument("--batches", type=int, default=100, help="batches of a round, for each part of the path (100)")
    parser.add_argument("--steps", type=int, default=10, help="training steps of a round (10)")
    parser.add_argument("--rounds", type=int, default=7, help="after one that does not count (7)")
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    return parser.parse_args()


def _setup(objective: str, options: argparse.Namespace) -> Setup:
    return composed_setup(
        [
            f"data={options.data}",
            f"data.sequence_length={options.length}",
            f"data.batch_size={options.batch}",
            f"objective={objective}",
            f"model={options.model}",
        ]
    )


def _measure(setup: Setup, options: argparse.Namespace) -> dict[str, Any]:
    """Every part, a batch at a time, in turns."""
    data = setup.config.data
    source = _rows(setup, data)
    first = range(data.batch_size)
    batches = (
        source.__getitems__(list(range(example, example + data.batch_size)))
        for example in itertools.count(0, data.batch_size)
    )
    raw = [_raw(source, example) for example in first]
    ready = [setup.objective.corrupt(row, draw) for row, draw in raw]
    collate = dataclasses.replace(source.make_batch, objective=_Ready(setup.objective, ready))
    step = _step(setup)
    parts: dict[str, Callable[[], Any]] = {
        "data": lambda: next(batches),
        "windows": lambda: [_raw(source, example) for example in first],
        "corrupt": lambda: [setup.objective.corrupt(row, draw) for row, draw in raw],
        "collate": lambda: collate(raw),
        "step": lambda: step(source.make_batch(raw)),
    }
    times = dict.fromkeys(parts, options.batches) | {"step": options.steps}
    rounds = [{name: _seconds(part, times[name]) for name, part in parts.items()} for _ in range(options.rounds + 1)][
        1:
    ]
    seconds = {name: [one[name] for one in rounds] for name in parts}
    result: dict[str, Any] = {
        f"{name}_us_per_row": spread([1e6 * value / data.batch_size for value in seconds[name]])
        for name in ("windows", "corrupt", "collate")
    }
    return result | {
        "rows_per_second": spread([data.batch_size / value for value in seconds["data"]]),
        "step_ms": spread([1e3 * value for value in seconds["step"]]),
        "share_of_step": ratios(seconds["data"], seconds["step"]),
    }


class _Ready:
    """An objective whose examples are there already, so that nothing but collation is left to time."""

    def __init__(self, objective: Objective, examples: list[Example]) -> None:
        self.attention, self.lookahead, self.raw_length = objective.attention, objective.lookahead, objective.raw_length
        self._next = itertools.cycle(examples).__next__

    def corrupt(self, row: Row, draw: Draw) -> Example:
        """The next example; rows come in their order."""
        return self._next()


def _rows(setup: Setup, data: DataConfig) -> TrainingRows:
    tokenizer = setup.prepared.tokenizer
    windows = training_windows(setup.prepared, setup.objective, data)
    order = DataOrder(len(windows), windows.stride, data.batch_size, setup.config.seed)
    make_batch = BatchMaker(setup.objective, data.sequence_length, tokenizer.token_bytes, tokenizer.padding)
    return TrainingRows(windows, order, make_batch)


def _raw(source: TrainingRows, example: int) -> tuple[Row, Draw]:
    """A row as an objective gets it."""
    place = source.order.place(example)
    draw = Draw(source.order.seed, place.epoch, place.row, place.stratum)
    return source.windows.row(place.row, place.offset), draw


def _step(setup: Setup) -> Callable[[Batch], None]:
    """A training step of model and objective."""
    both = torch.nn.ModuleList([setup.model, setup.objective]).train()
    optimizer = build(setup.config.optimizer, "optimizer").build(both)

    def step(batch: Batch) -> None:
        terms = setup.objective.loss(setup.model, batch)
        (terms.sum / max(1, terms.count)).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _seconds(part: Callable[[], Any], times: int) -> float:
    """Mean of some calls."""
    started = time.perf_counter()
    for _ in range(times):
        part()
    return (time.perf_counter() - started) / times


def _table(result: dict[str, Any], settings: dict[str, Any]) -> Table:
    title = (
        "data path: {batch} rows of {length} a step, model {model}, text {data}, {threads} threads; µs a row".format(
            **settings
        )
    )
    table = Table(title=title.format(**settings), title_justify="left")
    columns = (
        "objective",
        "rows/s (min .. max)",
        "windows",
        "corrupt",
        "collate",
        "step ms",
        "share of step (min .. max)",
    )
    for column in columns:
        table.add_column(column, justify="left" if column == "objective" else "right", no_wrap=column != "objective")
    for objective, one in result.items():
        if "error" in one:
            table.add_row(objective, one["error"])
            continue
        parts = (f"{one[f'{name}_us_per_row']['median']:.1f}" for name in ("windows", "corrupt", "collate"))
        step = f"{one['step_ms']['median']:.1f}"
        table.add_row(objective, show(one["rows_per_second"], ",.0f"), *parts, step, show(one["share_of_step"], ".1%"))
    return table


if __name__ == "__main__":
    main()
