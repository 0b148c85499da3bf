"""Where the processes of a sweep's jobs run: what a `Sweep` asks of it, and this machine as the answer."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ntp.config.errors import ConfigError
from ntp.config.schema import SweepConfig
from ntp.sweep.gpus import gpus_needed, may_use_gpus, visible_gpus
from ntp.sweep.job import Job
from ntp.sweep.process import JobProcess, job_environment, job_threads


class Work(Protocol):
    """The processes of one job, wherever they are."""

    @property
    def seconds(self) -> float:
        """Of wall time since they run; 0 while they wait in a queue."""

    def ended(self) -> int | None:
        """Exit status of the first one, a negative signal where that killed it; None while it waits or runs."""

    def ask_to_stop(self) -> None:
        """Have them write a checkpoint and end."""

    def kill(self) -> None:
        """End them, whatever they are doing."""

    def end_group(self) -> None:
        """End what a job that has ended has left behind."""

    def last_line(self) -> str:
        """The last thing they said: of an error, what it is."""


class Executor(Protocol):
    """Starts jobs.

    Attributes:
        gpus: of this machine, which jobs share; empty where a cluster deals its own ones out.
        poll_seconds: how often one may look whether jobs have ended.
        queues: whether a job that is started may have to wait before it runs.
        keeps_limits: whether it stops jobs at ``sweep.time_limit_minutes`` itself, as only it knows when they began.
    """

    gpus: Sequence[str]
    poll_seconds: float
    queues: bool
    keeps_limits: bool

    def check(self, job: Job) -> int:
        """How many of `gpus` a job needs.

        Raises:
            ConfigError: it can't run here.
        """

    def together(self, sweep: SweepConfig) -> int | None:
        """How many jobs may be started before others have ended; None for any number."""

    def start(self, job: Job, command: Sequence[str], log: Path, gpus: Sequence[str], group: str) -> Work:
        """Start a job, or put it into a queue.

        Args:
            job: which.
            command: arguments of ``python -m ntp``.
            log: file in the run directory that the output is appended to.
            gpus: that are this job's.
            group: of its W&B runs.

        Raises:
            OSError: it can't be started.
        """

    def hand_over(self) -> None:
        """Called when all that can be started or told just now has been: for clusters that take many things at once.

        Raises:
            ConfigError: the cluster refuses the jobs.
        """


class ThisMachine:
    """Jobs are processes beside this one."""

    name = "isolated"
    poll_seconds = 0.1
    queues = False
    keeps_limits = False

    def __init__(self) -> None:
        self.gpus: Sequence[str] = []
        self._has_looked = False

    def check(self, job: Job) -> int:
        """How many GPUs it needs; see `Executor.check`."""
        if job.config.trainer.num_nodes > 1:
            raise ConfigError("trainer.num_nodes", f"the jobs of hydra/launcher={self.name} run on this machine alone")
        sweep, trainer = job.config.sweep, job.config.trainer
        if not self._has_looked and may_use_gpus(sweep, trainer):
            self.gpus, self._has_looked = visible_gpus(), True
        return gpus_needed(sweep, trainer, len(self.gpus))

    def together(self, sweep: SweepConfig) -> int | None:
        """As the sweep says."""
        return sweep.jobs

    def start(self, job: Job, command: Sequence[str], log: Path, gpus: Sequence[str], group: str) -> Work:
        """Start it; see `Executor.start`."""
        environment = job_environment(
            os.environ,
            threads=job_threads(os.environ, job.config.sweep, job.config.trainer),
            gpus=gpus if self.gpus else None,
            group=group,
        )
        return JobProcess([sys.executable, "-m", "ntp", *command], log, environment)

    def hand_over(self) -> None:
        """Nothing waits."""
