"""What is to be done with a job, by what its sweep's directory holds of it."""

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal

import yaml

from ntp.config.errors import ConfigError
from ntp.config.identity import identity
from ntp.sweep.job import Job
from ntp.sweep.record import SweepRecord
from ntp.tracking.run_directory import RunDirectory
from ntp.tracking.runs import FoundRun, read_run

Action = Literal["run", "resume", "retry", "skip", "leave", "elsewhere"]

STARTING: tuple[Action, ...] = ("run", "resume", "retry")


@dataclass(frozen=True)
class Decision:
    """What is to be done with a job.

    Attributes:
        action: ``skip`` one that is done, ``leave`` one that failed and is not to be tried again, ``elsewhere`` for one
            that another process trains.
        directory: its run directory, which may have to be made.
        run: what is there of it; None where nothing is.
    """

    action: Action
    directory: Path
    run: FoundRun | None


def find_by_identity(sweep_dir: Path) -> dict[str, FoundRun]:
    """The runs of a sweep's directory, whatever their own directories are called; the furthest of each identity."""
    found: dict[str, FoundRun] = {}
    for run in filter(None, map(read_run, sorted(sweep_dir.iterdir()) if sweep_dir.is_dir() else [])):
        own = _identity(run)
        if own is not None and (own not in found or _progress(run) > _progress(found[own])):
            found[own] = run
    return found


def decide(job: Job, sweep_dir: Path, known: dict[str, FoundRun], record: SweepRecord, retry: bool) -> Decision:
    """Look at what there is of a job just now.

    Args:
        job: to be trained, if it is not yet.
        sweep_dir: directory of the sweep.
        known: runs by identity, as they were when the sweep began.
        record: of the sweep.
        retry: whether a job that failed is tried again.
    """
    if job.identity in known:
        directory = known[job.identity].path
        run = read_run(directory)
    else:
        directory, run = _place(job, sweep_dir)
    state = run.state if run is not None else None
    if state in ("finished", "pruned"):
        return Decision("skip", directory, run)
    if state == "running":
        return Decision("elsewhere", directory, run)
    if state == "failed" or (state is None and record.failed(job.identity)):
        return Decision("retry" if retry else "leave", directory, run)
    return Decision("run" if state is None else "resume", directory, run)


def _place(job: Job, sweep_dir: Path) -> tuple[Path, FoundRun | None]:
    """The directory of the job's name; with a number behind it where that belongs to another job."""
    for number in count(1):
        path = sweep_dir / (job.name if number == 1 else f"{job.name}-{number}")
        run = read_run(path)
        if run is not None and _identity(run) == job.identity:
            return path, run
        if _is_free(path):
            return path, None
    raise AssertionError


def _identity(run: FoundRun) -> str | None:
    """Also of a run that was killed before it had written it down."""
    if run.identity is not None:
        return run.identity
    try:
        return identity(yaml.safe_load((run.path / "config.yaml").read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError):
        return None


def _is_free(path: Path) -> bool:
    try:
        RunDirectory(path).check_free()
    except ConfigError:
        return False
    return True


def _progress(run: FoundRun) -> tuple[bool, bool, float]:
    return run.state == "finished", run.state == "running", run.summary.get("progress/step") or 0
