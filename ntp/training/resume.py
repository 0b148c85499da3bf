"""Which run a command goes on with, from which of its checkpoints, and under which configuration."""

from collections.abc import Collection
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntp.config.errors import ConfigError
from ntp.config.identity import NOT_OF_THE_RUN, identity
from ntp.config.schema import Section, TrainConfig
from ntp.tracking.metric_lines import METRICS, keep_lines, keep_until
from ntp.tracking.run_directory import RunDirectory
from ntp.tracking.runs import newest_unfinished, read_run
from ntp.training.budget import Budget
from ntp.training.checkpoint import CHECKPOINTS
from ntp.training.checkpoint_format import STATE
from ntp.training.checkpoint_store import CheckpointStore, Entry
from ntp.training.restore import read_checkpoint
from ntp.training.setup import Setup
from ntp.training.stored_config import read_stored_config, typed_config

AUTO = "auto"

_FIXED = (
    "seed",
    "model",
    "data",
    "objective",
    "optimizer",
    "schedule",
    "trainer.precision",
    "trainer.gradient_clip_norm",
)
"""What a run that goes on can't change; length, devices, loggers and the like it can."""
_FREE = ("data.micro_batch_size", "data.workers", "data.cache_dir")


@dataclass(frozen=True)
class Resumption:
    """A run that goes on.

    Attributes:
        path: its directory.
        config: typed.
        plain: the same as plain containers.
        store: its checkpoints.
        entry: the checkpoint to go on from; None where the run had not written any.
        damaged: what is wrong with newer checkpoints.
        objective: name of the objective, as the user chose it when the run began.
        state: in which the run was left.
    """

    path: Path
    config: TrainConfig
    plain: dict[str, Any]
    store: CheckpointStore
    entry: Entry | None
    damaged: list[str]
    objective: str | None
    state: str

    @property
    def checkpoint(self) -> Path | None:
        """The file to go on from."""
        return None if self.entry is None else self.store.directory / self.entry.file

    def facts(self) -> list[tuple[str, str]]:
        """What a person should know of it."""
        skipped = "".join(f"; {problem}" for problem in self.damaged)
        if self.entry is not None:
            return [("resume", f"from step {self.entry.step:,}{skipped}")]
        why = "no checkpoint is whole" if self.damaged else "no checkpoint had been written yet"
        return [("resume", f"from the beginning: {why}{skipped}")]


def find_resumption(
    config: TrainConfig, plain: dict[str, Any], overridden: list[str], *, given_run_dir: bool, first: bool
) -> Resumption | None:
    """The run that ``resume`` asks for; None for a new one.

    Args:
        config: of the command, typed.
        plain: the same as plain containers.
        overridden: keys that the command line sets.
        given_run_dir: whether the command line gives the run directory, which ``auto`` then looks into.
        first: whether this is the first process of the run; the others find it running.

    Raises:
        ConfigError: there is no such run, it is finished or being trained, or the configuration asks for another one.
    """
    if config.resume is None:
        return None
    if config.resume == AUTO:
        path = _unfinished(config, plain, given_run_dir, first)
        if path is None:
            return None
    else:
        path = Path(config.resume)
        stored = read_stored_config(path, "resume")
        plain = _overlaid(stored, plain, overridden)
        config = typed_config(plain, "resume", config.allow_targets)
        _check_unchanged(stored, plain)
    run = read_run(path)
    state = run.state if run else "interrupted"
    if first and state == "running":
        raise ConfigError("resume", f"another process is training in {path} just now")
    if first and state in ("finished", "pruned") and config.budget.model_dump() == _budget(path):
        asked = any(key.startswith("evaluation.exams") for key in overridden)
        exams = f"; for exams alone: ntp evaluate run={path} evaluation/exams=[...]" if asked else ""
        raise ConfigError("resume", f"{path} is {state}; a larger budget would go on with it{exams}")
    store = checkpoints_of(config, path)
    entry, damaged = store.newest_whole()
    name = str(run.summary["objective"]) if run and "objective" in run.summary else None
    return Resumption(path, config, plain, store, entry, damaged, name, state)


def take_over(resumed: Resumption, directory: RunDirectory, setup: Setup) -> None:
    """Make the run's directory this process's own, and bring its files to the state of the checkpoint.

    Raises:
        ConfigError: another process is training in it, the text is not what it was, or nothing is left to do.
    """
    directory.reclaim()
    # Metrics of the interrupted process: those that the run still has are written again when it ends.
    directory.summary = {name: value for name, value in directory.summary.items() if "/" not in name}
    step, lines = -1, 0
    if resumed.entry is not None and resumed.checkpoint is not None:
        state = read_checkpoint(resumed.checkpoint, "resume")[STATE]
        if state["data_digest"] not in (None, setup.prepared.digest):
            raise ConfigError("data", "the text or its tokenizer is not what this run was trained on so far")
        _check_budget(resumed, setup.budget, state["progress"])
        step, lines = resumed.entry.step, state["metric_lines"]
    resumed.store.forget_after(step)
    if lines is None:
        keep_until(directory.path / METRICS, step)
    else:
        keep_lines(directory.path / METRICS, lines)


def _check_budget(resumed: Resumption, budget: Budget, progress: dict[str, Any]) -> None:
    done, wanted = progress["step"], budget.steps
    finished = resumed.state == "finished"
    if wanted is None:
        is_over = finished and (budget.seconds or 0.0) <= progress["seconds"]
    else:
        is_over = wanted < done or (finished and wanted == done)
    if is_over:
        raise ConfigError(f"budget.{budget.unit}", f"this run has had as much: it has done {done:,} steps")


def checkpoints_of(config: TrainConfig, run_directory: Path) -> CheckpointStore:
    """Where the run's checkpoint callback writes."""
    own = config.callbacks.get("checkpoint", {}).get("directory")
    return CheckpointStore(Path(own) if own else run_directory / CHECKPOINTS)


def _unfinished(config: TrainConfig, plain: dict[str, Any], given_run_dir: bool, first: bool) -> Path | None:
    if not given_run_dir:
        found = newest_unfinished(Path(config.output_root), identity(plain))
        return found.path if found else None
    path = Path(config.run_dir)
    run = read_run(path)
    if run is None or not (path / "config.yaml").is_file():
        return None
    if first and run.identity != identity(plain):
        stored = read_stored_config(path, "run_dir")
        # Younger keys, and a run that was killed before it had written its identity, make no other run.
        if identity(_filled(stored, plain, TrainConfig)) != identity(plain):
            key = _first_difference(stored, plain, NOT_OF_THE_RUN) or "the configuration"
            raise ConfigError("run_dir", f"{path} holds another run: {key} differs; give another directory")
    return path


def _budget(path: Path) -> Any:
    return read_stored_config(path, "resume").get("budget")


def _overlaid(stored: dict[str, Any], composed: dict[str, Any], overridden: list[str]) -> dict[str, Any]:
    """The stored configuration with what the command line sets, and with keys that are younger than it."""
    plain = _filled(deepcopy(stored), composed, TrainConfig)
    for key in overridden:
        *path, last = key.split(".")
        target, source = plain, composed
        for name in path:
            target, source = target.setdefault(name, {}), source.get(name, {})
        if last in source:
            target[last] = source[last]
        else:  # deleted on the command line
            target.pop(last, None)
    return plain


def _filled(stored: dict[str, Any], composed: dict[str, Any], section: type[Section]) -> dict[str, Any]:
    plain = dict(stored)
    for name, field in section.model_fields.items():
        inner = field.annotation
        if name not in plain and name in composed:
            plain[name] = composed[name]
        elif isinstance(inner, type) and issubclass(inner, Section) and isinstance(plain.get(name), dict):
            plain[name] = _filled(plain[name], composed[name], inner)
    return plain


def _check_unchanged(stored: dict[str, Any], plain: dict[str, Any]) -> None:
    """Refuse what would make another run of it.

    Raises:
        ConfigError: names the key.
    """
    for part in _FIXED:
        key = _first_difference(_at(stored, part), _at(plain, part), _FREE, part)
        if key is not None:
            before, now = _at(stored, key), _at(plain, key)
            raise ConfigError(key, f"is {before} in this run, and a run that goes on can't change it to {now}")


def _first_difference(stored: Any, plain: Any, ignored: Collection[str], key: str = "") -> str | None:
    """The first key with two values, of those that are stored; a younger version knows more."""
    if isinstance(stored, dict) and isinstance(plain, dict):
        for name in stored:
            place = f"{key}.{name}" if key else str(name)
            found = None if place in ignored else _first_difference(stored[name], plain.get(name), ignored, place)
            if found is not None:
                return found
        return None
    return None if stored == plain else key


def _at(node: Any, key: str) -> Any:
    for name in key.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return node
