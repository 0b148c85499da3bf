"""What a checkpoint costs: seconds on the training path, and all that training loses by it, in steps.

    python benchmarks/checkpoints.py
    python benchmarks/checkpoints.py --models nano --steps 40 --rounds 9 --output checkpoints.json

In one `ntp train`, laps of some steps take turns. Each but the first kind begins with a checkpoint: by `torch.save` of
the same state without checksum, synchronisation and renaming (the peer), by ntp, and by ntp in a thread beside the
steps that follow. What a lap lasts longer than one without a checkpoint is what the checkpoint costs. A lap of the
third kind also waits at its end for what is not written yet.
"""

import argparse
import contextlib
import importlib
import io
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from rich.console import Console
from rich.table import Table

from harness.machine import available_cores, describe_machine, write_json
from harness.statistics import show, spread
from ntp.cli import main as ntp
from ntp.training.checkpoint_store import CheckpointStore, CheckpointWriter

NOTHING, PLAIN, BLOCKING, THREAD = "none", "torch.save", "ntp", "ntp, asynchronous"


class Laps(Callback):
    """Times laps inside a run."""

    steps: ClassVar[int]
    directory: ClassVar[Path]
    laps: ClassVar[dict[str, list[float]]]
    blocked: ClassVar[dict[str, list[float]]]
    size: ClassVar[int]

    def __init__(self) -> None:
        self._step = 0
        self._started = 0.0
        store = CheckpointStore(self.directory, keep_last=1)
        self._writer, self._path = CheckpointWriter(store), store.path
        self._thread = AsyncCheckpointIO(self._writer)
        self._saves: dict[str, Callable[[Trainer], None]] = {
            NOTHING: lambda trainer: None,
            PLAIN: self._plain,
            BLOCKING: lambda trainer: self._save(trainer, self._writer),
            THREAD: lambda trainer: self._save(trainer, self._thread),
        }

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """A batch is a step: nothing is accumulated."""
        kind = list(self._saves)[self._step // self.steps % len(self._saves)]
        if self._step % self.steps == 0:
            if self._step:
                self._end_lap(list(self._saves)[(self._step // self.steps - 1) % len(self._saves)])
            self._started = time.perf_counter()
            self._saves[kind](trainer)
            self.blocked[kind].append(time.perf_counter() - self._started)
        self._step += 1

    def _end_lap(self, kind: str) -> None:
        self._thread.teardown()
        self.laps[kind].append(time.perf_counter() - self._started)
        type(self).size = max((path.stat().st_size for path in self.directory.glob("step-*")), default=0)

    def _plain(self, trainer: Trainer) -> None:
        # A file of another name, and on no store's list.
        torch.save(trainer._checkpoint_connector.dump_checkpoint(False), self.directory / "plain.ckpt")

    def _save(self, trainer: Trainer, io: Any) -> None:
        trainer.strategy.checkpoint_io = io
        trainer.save_checkpoint(self._path(trainer.global_step))


def main() -> None:
    """Measure, show, write."""
    options = _options()
    torch.set_num_threads(options.threads)
    machine = describe_machine()
    result = {model: _measure(model, options) for model in options.models}
    settings = {name: getattr(options, name) for name in ("length", "batch", "threads", "steps", "rounds", "every")}
    Console(width=None if Console().is_terminal else 140).print(_table(result, options))
    write_json(options.output, {"benchmark": "checkpoints", "machine": machine, "settings": settings, "models": result})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=lambda text: text.split(","), default=["nano"], help="with commas (nano)")
    parser.add_argument("--length", type=int, default=256, help="positions of a row (256)")
    parser.add_argument("--batch", type=int, default=16, help="rows of a step (16)")
    parser.add_argument("--threads", type=int, default=available_cores(), help="of the steps (all cores)")
    parser.add_argument("--steps", type=int, default=10, help="of a lap (10)")
    parser.add_argument("--rounds", type=int, default=7, help="after one that does not count (7)")
    parser.add_argument("--every", type=int, default=100, help="steps between checkpoints, for the share (100)")
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    return parser.parse_args()


def _measure(model: str, options: argparse.Namespace) -> dict[str, Any]:
    ours = importlib.import_module("checkpoints").Laps  # this file is a script, and the module that the run imports
    ours.steps, ours.laps, ours.blocked = options.steps, defaultdict(list), defaultdict(list)
    laps = 4 * (options.rounds + 1)
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stdout(io.StringIO()):
        ours.directory = Path(directory)
        status = ntp(
            [
                "train",
                f"model={model}",
                f"data.sequence_length={options.length}",
                f"data.batch_size={options.batch}",
                f"budget.steps={laps * options.steps + 1}",
                "evaluation.every_steps=null",
                "evaluation.final_rows=1",
                "evaluation.sample_tokens=0",
                "trainer.progress_bar=false",
                "~callbacks.checkpoint",
                "allow_targets=[checkpoints]",
                "+callbacks.laps._target_=checkpoints.Laps",
                f"run_dir={os.path.join(directory, 'run')}",
            ]
        )
    if status:
        raise SystemExit(f"ntp train ended with status {status}")
    lap = {kind: times[1:] for kind, times in ours.laps.items()}
    step = [seconds / options.steps for seconds in lap[NOTHING]]
    result: dict[str, Any] = {"step_ms": spread([1e3 * one for one in step]), "bytes": ours.size, "kinds": {}}
    for kind in (PLAIN, BLOCKING, THREAD):
        cost = [(one - none) / each for one, none, each in zip(lap[kind], lap[NOTHING], step, strict=True)]
        result["kinds"][kind] = {
            "blocked_ms": spread([1e3 * one for one in ours.blocked[kind][1 : options.rounds + 1]]),
            "cost_in_steps": spread(cost),
            "share": spread([one / options.every for one in cost]),
        }
    return result


def _table(result: dict[str, Any], options: argparse.Namespace) -> Table:
    title = f"checkpoints: {options.batch} rows of {options.length} a step, {options.threads} threads"
    table = Table(title=title, title_justify="left")
    for column in ("model", "MB", "step ms", "by", "blocks ms", "costs steps", f"share, every {options.every} steps"):
        table.add_column(column, justify="left" if column in ("model", "by") else "right", no_wrap=True)
    for model, one in result.items():
        for kind, numbers in one["kinds"].items():
            first = kind == PLAIN
            table.add_row(
                model if first else "",
                f"{one['bytes'] / 1e6:.1f}" if first else "",
                f"{one['step_ms']['median']:.0f}" if first else "",
                kind,
                show(numbers["blocked_ms"], ".1f"),
                show(numbers["cost_in_steps"], ".2f"),
                show(numbers["share"], ".2%"),
            )
    return table


if __name__ == "__main__":
    main()
