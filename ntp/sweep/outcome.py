"""How a job ended, by what its process and its run directory say."""

import math
import signal
from pathlib import Path
from typing import Any

from ntp.sweep.job import State
from ntp.sweep.runner import Running
from ntp.tracking.runs import read_run

# Killed by somebody, or for want of memory; other signals are mistakes of a program's.
_KILLED = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_STOPPED_STATUSES = (130, 143)


def outcome(ended: Running, status: int) -> tuple[State, str]:
    """The state of a job whose process has ended, and why.

    Args:
        ended: the process.
        status: its exit status; a negative signal where that killed it.
    """
    run = read_run(ended.decision.directory)
    state = run.state if run is not None and run.identity == ended.job.identity else None
    if state == "finished":
        return "finished", ""
    if state == "pruned":
        return "pruned", ""
    if state == "running":  # whoever was quicker holds the directory
        return "elsewhere", ""
    if ended.told:
        return "stopped", ended.told
    if state == "stopped" and status in _STOPPED_STATUSES:
        return "stopped", ""
    if status < 0:
        killed = f"killed by {signal.Signals(-status).name}"
        return ("interrupted" if -status in _KILLED else "failed"), killed
    if status == 0 and run is not None and state is None:
        return (
            "failed",
            "the configuration files have changed since the sweep began; the same command takes them as they are",
        )
    return "failed", ended.process.last_line() or f"ended with status {status}"


def metric_of(directory: Path, name: str) -> float | None:
    """A metric of a run's summary; None where it has none, or no finite one."""
    run = read_run(directory)
    value: Any = None if run is None else run.summary.get(name)
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
