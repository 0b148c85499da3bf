"""What a run has seen and computed, written down while it trains: two runs are equal if their traces are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from ntp.data.example import Batch
from ntp.testing.fingerprint import digest, fingerprint
from ntp.testing.hidden_state import hidden_state

Place = tuple[int, int, int]
"""Optimizer step, counted from 1; micro-batch of it and rank, counted from 0."""


class Trace(Callback):
    """Writes ``rank-<rank>.jsonl``: a line for every micro-batch, and one for the state at the end of the run.

    A line reaches the system as soon as it is written, so that a killed process loses at most the one that it was
    writing. A process that goes on with the run appends.

    Args:
        directory: where; made if it is not there.
    """

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory)
        self._file: TextIO | None = None
        self._rows: dict[str, str] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Note what the micro-batch holds, before anything can change it."""
        self._rows = fingerprint_of_batch(batch)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Write it down, with the loss."""
        step, micro_batch = divmod(batch_idx, trainer.accumulate_grad_batches)
        loss = float(outputs["loss"])
        self._write(trainer, {"step": step + 1, "micro_batch": micro_batch, "rows": self._rows, "loss": loss})

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write down the state; also of a run that had nothing left to train."""
        progress = asdict(pl_module.progress) | {"empty_steps": pl_module.empty_steps}
        del progress["seconds"]
        weights = {name: fingerprint(value) for name, value in pl_module.state_dict().items()}
        optimizer = dict(_leaves("", [one.state_dict() for one in trainer.optimizers]))
        end = {"weights": weights, "optimizer": optimizer, "progress": progress, "hidden": hidden_state(trainer)}
        self._write(trainer, {"end": end})

    def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Close the file; a later line opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, trainer: Trainer, line: dict[str, Any]) -> None:
        if self._file is None:
            self.directory.mkdir(parents=True, exist_ok=True)
            path = self.directory / f"rank-{trainer.global_rank}.jsonl"
            self._file = open(path, "a", buffering=1, encoding="utf-8")  # noqa: SIM115 - open as long as the run
            self._file.write("\n")  # behind a line that a killed process has not finished
        self._file.write(json.dumps(line) + "\n")


@dataclass
class Recorded:
    """What `Trace` has written of one run, over all processes that took part in it.

    Attributes:
        rows: at each place, a fingerprint of every tensor of the micro-batch.
        losses: at each place.
        ends: of each rank, the state at the end: ``weights``, ``optimizer``, ``progress`` and ``hidden``.
    """

    rows: dict[Place, dict[str, str]] = field(default_factory=dict)
    losses: dict[Place, float] = field(default_factory=dict)
    ends: dict[int, dict[str, dict[str, Any]]] = field(default_factory=dict)


def read_trace(directory: Path) -> Recorded:
    """What is written in a directory: of a place that a run came by more than once, the last time."""
    recorded = Recorded()
    for path in sorted(directory.glob("rank-*.jsonl")):
        rank = int(path.stem.partition("-")[2])
        for line in _lines(path):
            if "end" in line:
                recorded.ends[rank] = line["end"]
            else:
                place = (line["step"], line["micro_batch"], rank)
                recorded.rows[place], recorded.losses[place] = line["rows"], line["loss"]
    return recorded


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for text in path.read_bytes().splitlines():
        try:
            yield json.loads(text)
        except ValueError:  # empty, or not finished by a killed process
            continue


def fingerprint_of_batch(batch: Batch) -> dict[str, str]:
    """Every tensor of a micro-batch by its name, and what is known of its rows on the host."""
    tensors = {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
    tensors |= {f"extra.{name}": value for name, value in batch.extra.items()}
    prints = {name: fingerprint(tensor) for name, tensor in tensors.items()}
    return prints | {"attention": str(batch.attention), "counts": digest(repr(batch.tallies).encode())}


def _leaves(name: str, node: Any) -> Iterator[tuple[str, str]]:
    """The values in nested containers, by their way through them."""
    if isinstance(node, Mapping):
        inner = [(str(key), value) for key, value in node.items()]
    elif isinstance(node, (list, tuple)):
        inner = [(str(index), value) for index, value in enumerate(node)]
    else:
        yield name, fingerprint(node)
        return
    for key, value in inner:
        yield from _leaves(f"{name}.{key}" if name else key, value)
