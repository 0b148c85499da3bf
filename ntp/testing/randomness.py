"""Corruption is a pure function of a row and its draw."""

import copy
import os
import pickle
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from ntp.data.datasets import BatchMaker, TrainingRows
from ntp.data.example import IGNORE, Batch, Draw, Example
from ntp.data.sampling import DataOrder, StepSampler
from ntp.objectives.base import Objective
from ntp.testing.bench import Bench, Sample
from ntp.testing.errors import Broken, NotApplicable
from ntp.testing.registry import check

_OWN_GENERATOR = "anything random that does not come from draw.rng, asked for once in each call of corrupt"


@check(quick=True)
def same_draw_same_example(bench: Bench) -> None:
    """The same row with the same draw always gives the same example."""
    objective = bench.subject.objective
    samples = bench.mixed_samples(9)
    first = made(objective, samples)
    others = {
        "a second time": lambda: made(objective, samples),
        "in another order": lambda: made(objective, samples[::-1])[::-1],
        "by another object": lambda: made(bench.bound().objective, samples),
        "by a copy": lambda: made(copy.deepcopy(objective), samples),
        "in training mode": lambda: made(objective.train(), samples),
    }
    for how, again in others.items():
        same_examples(first, again(), samples, f"when it is made {how}", _OWN_GENERATOR)
    objective.eval()


@check()
def pickling_changes_nothing(bench: Bench) -> None:
    """A pickled objective makes the same examples, so that processes that load data may receive it."""
    objective, samples = bench.subject.objective, bench.mixed_samples(9)
    first = made(objective, samples)
    try:
        other = pickle.loads(pickle.dumps(objective))
    except Exception as error:
        problem = f"it can't be pickled: {error}"
        raise Broken(problem, "what bind stores: open files, generators or functions inside of functions") from error
    same_examples(first, made(other, samples), samples, "when it is made by a pickled copy", "what bind stores")


@check(slow=True)
def other_processes_change_nothing(bench: Bench) -> None:
    """Another process, with other hashes of strings, makes the same examples."""
    objective, samples = bench.subject.objective, bench.mixed_samples(9)
    if type(objective).__module__ == "__main__":
        raise NotApplicable("its class was defined in the main script, which another process can't import")
    with tempfile.TemporaryDirectory(prefix="ntp-testing-") as folder:
        asked, answered = Path(folder) / "asked", Path(folder) / "answered"
        asked.write_bytes(pickle.dumps((objective, samples)))
        environment = {
            "PYTHONPATH": os.pathsep.join(one for one in sys.path if one),
            # Another seed than this process has, whichever that is.
            "PYTHONHASHSEED": str(1 + abs(hash("ntp")) % 1000),
        }
        code = "import sys; from ntp.testing.randomness import answer; answer(*sys.argv[1:])"
        command = [sys.executable, "-c", code, str(asked), str(answered)]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
        if done.returncode:
            problem = f"another process failed: {done.stderr.strip().splitlines()[-1]}"
            raise Broken(problem, "whether the module of the objective can be imported by name")
        examples = pickle.loads(answered.read_bytes())
    hint = "hash() of a string, iteration over a set, or state of a module: they differ between processes"
    same_examples(made(objective, samples), examples, samples, "when it is made in another process", hint)


def answer(asked: str, answered: str) -> None:
    """In the other process: make the examples that are asked for."""
    objective, samples = pickle.loads(Path(asked).read_bytes())
    Path(answered).write_bytes(pickle.dumps(made(objective, samples)))


@check(quick=True)
def draws_differ(bench: Bench) -> None:
    """What is random differs from row to row, from epoch to epoch and from seed to seed."""
    objective = bench.subject.objective
    rows = [one.row for one in bench.full_samples("concatenate", 8)]
    keys = {
        "row": lambda number: Draw(0, 0, number, (0, 1), progress=0.0),
        "epoch": lambda number: Draw(0, number, 0, (0, 1), progress=0.0),
        "seed": lambda number: Draw(number, 0, 0, (0, 1), progress=0.0),
    }
    random = {
        name: any(
            difference(objective.corrupt(row, key(0)), objective.corrupt(row, key(number)))
            for row in rows
            for number in range(1, 5)
        )
        for name, key in keys.items()
    }
    if not any(random.values()):
        raise NotApplicable("nothing about it is random")
    if bench.works_by_documents:
        del random["row"]  # a document is the same in all rows of an epoch
    for name, differs in random.items():
        if not differs:
            others = " and ".join(other for other, value in random.items() if value)
            problem = f"rows are corrupted alike whatever the {name}, although not whatever the {others}"
            raise Broken(problem, f"how randomness is keyed: draw.rng has the {name} in its key")


@check(quick=True)
def inputs_stay_as_they_are(bench: Bench) -> None:
    """Corrupt changes neither the row nor the text that it comes from."""
    objective = bench.subject.objective
    for sample in bench.mixed_samples(24):
        row = sample.row
        before = [array.copy() for array in (row.tokens, row.segments, row.bytes)]
        text = bench.store.tokens.copy()
        objective.corrupt(row, sample.draw)
        for name, old in zip(("tokens", "segments", "bytes"), before, strict=True):
            new = getattr(row, name)
            if not np.array_equal(old, new):
                place = int(np.flatnonzero(old != new)[0])
                problem = f"{sample}: row.{name}[{place}] was {old[place]} before and {new[place]} after"
                raise Broken(problem, f"an assignment into row.{name} or a view of it; copy before you write")
        if not np.array_equal(text, bench.store.tokens):
            raise Broken(f"{sample}: the text behind it changed", "an assignment into the tokens of an extent")


@check()
def batches_devices_and_workers_change_nothing(bench: Bench) -> None:
    """A row's example does not depend on the batch, the device or the process in which it is made."""
    objective = bench.subject.objective
    steps, size = 3, 8
    windows = bench.windows("isolate", wrap=True)
    maker = BatchMaker(objective, bench.sequence_length, bench.tokenizer.token_bytes, bench.tokenizer.padding)

    def rows(micro: int, world: int, workers: int) -> dict[int, dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        for rank in range(world):
            order = DataOrder(len(windows), windows.stride, size, seed=0)
            sampler = StepSampler(steps, size, micro, rank, world)
            loader = DataLoader(
                TrainingRows(windows, order, maker, steps),
                batch_sampler=sampler,
                collate_fn=_whole,
                num_workers=workers,
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about forks of processes that have threads
                for examples, batch in zip(sampler, loader, strict=True):
                    found |= {example: _row(batch, line) for line, example in enumerate(examples)}
        return found

    expected = rows(micro=size, world=1, workers=0)
    for how, found in {
        "one by one": rows(micro=1, world=1, workers=0),
        "on two devices": rows(micro=2, world=2, workers=0),
        "by two loading processes": rows(micro=4, world=1, workers=2),
    }.items():
        for example, row in expected.items():
            for name, value in row.items():
                if name not in found[example] or not _equal(value, found[example][name]):
                    problem = f"example {example} of a run has other {name} when rows are made {how}"
                    raise Broken(problem, _OWN_GENERATOR + "; and whatever one row leaves behind for the next")


@check()
def promises_are_kept(bench: Bench) -> None:
    """Statistics that the objective promises have the values that it expects of them."""
    objective = bench.subject.objective
    samples = [*bench.full_samples("isolate", 24), *bench.full_samples("concatenate", 24)]
    differences: dict[str, list[float]] = {}
    for number in range(10):
        for sample in samples:
            draw = sample.redrawn(epoch=number).draw
            promises = objective.promises(sample.row, objective.corrupt(sample.row, draw))
            for name, (seen, expected) in promises.items():
                differences.setdefault(name, []).append(seen - expected)
    if not differences:
        raise NotApplicable("it promises nothing")
    for name, values in differences.items():
        mean, error = float(np.mean(values)), float(np.std(values) / np.sqrt(len(values)))
        if not abs(mean) <= 5 * error + 1e-9:
            problem = (
                f"'{name}' is {mean:+.4g} off its expectation in the mean of {len(values)} rows, whose standard error "
                f"is {error:.2g}"
            )
            raise Broken(problem, f"the distribution that '{name}' is drawn from")


def _equal(one: Any, other: Any) -> bool:
    return np.array_equal(one, other) if isinstance(one, np.ndarray) else bool(one == other)


def _whole(batch: Any) -> Any:
    return batch


def _row(batch: Batch, line: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        name: getattr(batch, name)[line].numpy()
        for name in ("tokens", "targets", "order")
        if getattr(batch, name) is not None
    }
    for name, tensor in batch.extra.items():
        fill = 0 if tensor.is_floating_point() else IGNORE
        if bool((tensor[line] != fill).any()):  # else the array is that of another row
            row[name] = tensor[line].numpy()
    tally = batch.tallies[line]
    weights = np.ones(batch.tokens.shape[1]) if batch.weights is None else batch.weights[line].numpy()
    # Weights of positions that predict nothing are filled up differently from batch to batch.
    row["weights"] = weights[row["targets"] >= 0]
    return row | {"counts": (tally.targets, tally.count, tally.target_bytes, tally.component)}


def made(objective: Objective, samples: Sequence[Sample]) -> list[Example]:
    """The examples of some samples."""
    return [objective.corrupt(one.row, one.draw) for one in samples]


def same_examples(
    first: Sequence[Example], second: Sequence[Example], samples: Sequence[Sample], how: str, hint: str
) -> None:
    """Compare examples field by field."""
    for one, other, sample in zip(first, second, samples, strict=True):
        if found := difference(one, other):
            raise Broken(f"{sample}: the example has other {found} {how}", hint)


def difference(one: Example, other: Example) -> str | None:
    """Where two examples differ, or None."""
    for field in fields(Example):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if field.name == "extra":
            left, right = left or {}, right or {}
            if left.keys() != right.keys():
                return "extra"
            for name in left:
                if not np.array_equal(left[name], right[name]):
                    return f"extra '{name}'"
        elif (left is None) != (right is None):
            return field.name
        elif isinstance(left, np.ndarray):
            if not np.array_equal(left, right):
                if left.shape != right.shape:
                    return field.name
                return f"{field.name} at position {np.flatnonzero(left != right)[0]}"
        elif left != right:
            return field.name
    return None
