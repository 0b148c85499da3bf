"""Runs found again by what they compute, wherever their directories lie."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntp.tracking.run_directory import SUMMARY, is_alive, read_summary


@dataclass(frozen=True)
class FoundRun:
    """A run directory, as it was left.

    Attributes:
        path: of the directory.
        identity: hash of its configuration; see `ntp.config.identity`.
        summary: content of ``summary.json``.
    """

    path: Path
    identity: str | None
    summary: dict[str, Any]

    @property
    def state(self) -> str:
        """``finished``, ``stopped``, ``pruned``, ``failed``, ``running``, or ``interrupted``: killed while running."""
        state = str(self.summary.get("state", "interrupted"))
        return "interrupted" if state == "running" and not is_alive(self.path) else state


def read_run(path: Path) -> FoundRun | None:
    """The run in a directory; None where there is none."""
    summary = read_summary(path)
    return FoundRun(path, summary.get("identity"), summary) if summary else None


def find_runs(root: Path) -> Iterator[FoundRun]:
    """All runs in a folder and below it."""
    for file in root.rglob(SUMMARY):
        if (run := read_run(file.parent)) is not None:
            yield run


def newest_unfinished(root: Path, identity: str) -> FoundRun | None:
    """The run of this configuration that was last at work and can go on; None where there is none."""
    runs = [
        run
        for run in find_runs(root)
        if run.identity == identity and run.state not in ("finished", "running", "pruned")
    ]
    return max(runs, key=lambda run: (run.path / SUMMARY).stat().st_mtime, default=None)
