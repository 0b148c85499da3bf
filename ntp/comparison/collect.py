"""Runs that are to be compared, read from their directories: what is there, and what is left out and why."""

from __future__ import annotations

import glob
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ntp.config.errors import ConfigError
from ntp.config.nearest import suggestion
from ntp.evaluation.exams.result import StoredResult, read_results
from ntp.tracking.describe import relative
from ntp.tracking.metric_lines import METRICS, read_metrics_file
from ntp.tracking.run_directory import SUMMARY
from ntp.tracking.runs import FoundRun, read_run
from ntp.training.checkpoint import CHECKPOINTS
from ntp.training.stored_config import read_stored_config

_LISTED = 5


@dataclass
class ComparedRun:
    """A run as its directory tells it.

    Attributes:
        path: of the directory.
        state: see `ntp.tracking.runs.FoundRun`.
        config: what it was trained with, resolved.
        environment: what it ran on; empty where it is not known.
        summary: the last value of every metric.
        lines: of ``metrics.jsonl``.
        results: of its exams, the oldest step first.
        tokenizer: digest of its files; None where there are none.
        sample: text that it wrote at its end.
        overrides: what its user asked for, such as ``model.width=64``; empty where that is not known.
        damaged: a line for each file of results that can't be read.
    """

    path: Path
    state: str
    config: dict[str, Any]
    environment: dict[str, Any]
    summary: dict[str, Any]
    lines: list[dict[str, Any]]
    results: list[StoredResult]
    tokenizer: str | None
    sample: str | None
    overrides: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The path as a person here would write it."""
        return str(relative(self.path))

    @property
    def seed(self) -> int:
        """Of its configuration."""
        return int(self.config.get("seed", 0))

    @property
    def objective(self) -> str:
        """Its name."""
        return str(self.summary.get("objective") or "?")

    @property
    def step(self) -> int:
        """Optimizer steps that it has done."""
        return int(self.summary.get("progress/step") or 0)


@dataclass
class Collection:
    """What a list of directories and patterns led to.

    Attributes:
        runs: to be compared.
        left_out: directories and why they are left out, one line each.
        notes: what else a user should know, one line each.
    """

    runs: list[ComparedRun] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def collect(patterns: Sequence[str], unfinished: bool = False) -> Collection:
    """The runs that directories and patterns lead to, each once, sorted by path.

    Args:
        patterns: run directories, directories with runs below them, and globs of either.
        unfinished: take also runs that have not finished, as far as they have come.

    Raises:
        ConfigError: a pattern leads to nothing, or a directory that is named by itself is no whole run, or nothing
            that can be compared is found.
    """
    collection = Collection()
    found: Counter[Path] = Counter()
    for pattern in patterns:
        places = _places(pattern)
        for place in places:
            directories = list(_run_directories(place))
            if not directories:
                if len(places) == 1:
                    raise ConfigError("runs", f"{relative(place)} is not a run directory, and there is none below it")
                continue
            for directory in directories:
                found[directory.resolve()] += 1
                if found[directory.resolve()] > 1:
                    continue
                named = directory == place and len(places) == 1
                _add(collection, directory, named, unfinished)
    if not collection.runs:
        reasons = "; ".join(f"{name} {reason}" for name, reason in collection.left_out[:3])
        raise ConfigError(
            "runs", f"there is nothing to compare: {reasons}" if reasons else "there is nothing to compare"
        )
    collection.runs.sort(key=lambda run: run.path)
    repeated = [run.name for run in collection.runs if found[run.path.resolve()] > 1]
    if repeated:
        count = "counts" if len(repeated) == 1 else "count"
        collection.notes.append(f"{_listed(repeated)}: named more than once in runs, {count} once")
    collection.notes += [line for run in collection.runs for line in run.damaged]
    return collection


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")


def directories(runs: Sequence[str] | str) -> list[str]:
    """The directories and patterns that a user named.

    A list with an equals sign in it is plain text to Hydra's grammar, as in ``runs=[sweep/seed=0,sweep/seed=1]``; and a
    directory's name may have commas.
    """
    if not isinstance(runs, str):
        return list(runs)
    if not (runs.startswith("[") and runs.endswith("]")):
        return [runs]
    found: list[str] = []
    rest = [one.strip() for one in runs[1:-1].split(",")]
    while rest:
        lengths = range(len(rest), 0, -1)
        length = next((one for one in lengths if _is_there(",".join(rest[:one]))), 1)
        found.append(",".join(rest[:length]))
        rest = rest[length:]
    return [one for one in found if one]


def _is_there(pattern: str) -> bool:
    return Path(pattern).exists() or bool(glob.glob(pattern, recursive=True))


def _places(pattern: str) -> list[Path]:
    """Directories that a pattern means."""
    path = Path(pattern).expanduser()
    if path.is_dir():
        return [path]
    if glob.has_magic(pattern):
        found = [Path(one) for one in sorted(glob.glob(str(path), recursive=True)) if Path(one).is_dir()]
        if found:
            return found
        raise ConfigError("runs", f"no directory matches '{pattern}'")
    beside = [one.name for one in path.parent.iterdir() if one.is_dir()] if path.parent.is_dir() else []
    raise ConfigError("runs", f"there is no directory '{pattern}'{suggestion(path.name, beside)}")


def _run_directories(place: Path) -> Iterator[Path]:
    """The directory itself where it has been a run's, and otherwise those below it."""
    if _looks_like_a_run(place):
        yield place
        return
    found = {file.parent for name in (SUMMARY, "config.yaml", METRICS) for file in place.rglob(name)}
    yield from sorted(one for one in found if _looks_like_a_run(one))


def _looks_like_a_run(directory: Path) -> bool:
    has = [(directory / name).exists() for name in (SUMMARY, "config.yaml", METRICS, CHECKPOINTS)]
    return has[0] or sum(has) > 1


def _add(collection: Collection, directory: Path, named: bool, unfinished: bool) -> None:
    """Read a run into the collection, or its fault.

    Raises:
        ConfigError: it was named by itself, and can't be read.
    """
    name = str(relative(directory))
    try:
        run = read_compared_run(directory)
    except ConfigError as error:
        if named:
            raise
        collection.left_out.append((name, error.problem.removeprefix(str(directory)).lstrip()))
        return
    if run.state != "finished" and not unfinished:
        reason = f"is {run.state} at step {run.step:,}; unfinished=true takes it as far as it has come"
        if named:
            raise ConfigError("runs", f"{name} {reason}")
        collection.left_out.append((name, reason))
        return
    collection.runs.append(run)


def read_compared_run(directory: Path) -> ComparedRun:
    """Read a run directory.

    Raises:
        ConfigError: it is no whole run.
    """
    found: FoundRun | None = read_run(directory)
    if found is None:
        raise ConfigError("runs", f"{directory} is half-written: it has no {SUMMARY} that can be read")
    config = read_stored_config(directory, "runs")
    if not isinstance(config.get("objective"), dict) or not isinstance(config.get("data"), dict):
        raise ConfigError("runs", f"{directory} is half-written: its config.yaml has no objective or no data")
    if not any((directory / CHECKPOINTS).glob("*.ckpt")):
        raise ConfigError("runs", f"{directory} is half-written: it has no checkpoint")
    try:
        lines = list(read_metrics_file(directory / METRICS))
    except (OSError, ValueError) as error:
        raise ConfigError("runs", f"{directory} is damaged: {error}") from error
    damaged: list[str] = []
    return ComparedRun(
        path=directory,
        state=found.state,
        config=config,
        environment=_read_json(directory / "environment.json"),
        summary=found.summary,
        lines=lines,
        results=read_results(directory, damaged),
        tokenizer=_digest_of_files(directory / "tokenizer"),
        sample=_read_text(directory / "sample.txt"),
        overrides=_read_overrides(directory / "overrides.yaml"),
        damaged=damaged,
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return dict(content) if isinstance(content, dict) else {}


def _read_overrides(path: Path) -> list[str]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return []
    return [one for one in content if isinstance(one, str)] if isinstance(content, list) else []


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _digest_of_files(folder: Path) -> str | None:
    digest = hashlib.sha256()
    files = sorted(folder.glob("*.json"))
    for file in files:
        digest.update(f"{file.name}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest() if files else None
