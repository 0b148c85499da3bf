"""SLURM's queue: which jobs it holds, and taking some out of it. All of them in one call, and not too often."""

import os
import subprocess
import time
from collections.abc import Sequence

_TIMEOUT_SECONDS = 60.0
# One call speaks of all jobs of the user, so that a sweep of any size asks as often as a person would.
_SECONDS, _HURRIED_SECONDS = 30.0, 3.0


class SlurmQueue:
    """Knows jobs by their ids, elements of arrays as ``123_4``."""

    def __init__(self) -> None:
        self._held: set[str] | None = None
        self._asked = float("-inf")
        self._hurried = False
        self._stopping: list[str] = []
        self._cancelling: list[str] = []

    def holds(self, job_id: str, since: float) -> bool:
        """Whether a job waits, runs, or is put back.

        Args:
            job_id: of the job.
            since: when it was submitted, by ``time.monotonic()``. What was known before that says nothing of it.
        """
        now = time.monotonic()
        if now - self._asked > (_HURRIED_SECONDS if self._hurried else _SECONDS):
            self._asked, self._held = now, self._ask()
        # SLURM that doesn't answer has lost no job.
        return self._held is None or self._asked < since or job_id in self._held

    def stop(self, job_id: str) -> None:
        """Have a job write a checkpoint and end, or take it out where it only waits; see `flush`."""
        self._stopping.append(job_id)

    def cancel(self, job_id: str) -> None:
        """End a job; see `flush`."""
        self._cancelling.append(job_id)

    def flush(self) -> None:
        """Tell SLURM."""
        if stopping := self._stopping:
            self._stopping, self._hurried = [], True
            _run(["scancel", "--state=PENDING", *stopping])
            _run(["scancel", "--state=RUNNING", "--signal=TERM", *stopping])
        if cancelling := self._cancelling:
            self._cancelling, self._hurried = [], True
            _run(["scancel", *cancelling])

    def _ask(self) -> set[str] | None:
        told = _run(["squeue", "--noheader", "--array", "--format=%i", f"--user={os.getuid()}"])
        return None if told is None else set(told.split())


def _run(command: Sequence[str]) -> str | None:
    """What a command says; None where it fails."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_SECONDS, stdin=subprocess.DEVNULL
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
