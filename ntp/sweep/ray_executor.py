"""An executor that runs each job where Ray finds room for it."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ntp.config.errors import ConfigError
from ntp.config.schema import SweepConfig
from ntp.sweep.clusters import RayOptions, import_extra, shape_of
from ntp.sweep.executor import Work
from ntp.sweep.job import Job
from ntp.sweep.process import JobProcess, job_environment, last_line


class RemoteProcess:
    """The process of a job on a machine of the cluster: a `JobProcess` as an actor of Ray's.

    Args:
        command: arguments of ``python -m ntp``.
        log: file that the output is appended to.
        directory: current one of the process.
        threads: of each process.
        group: of its W&B runs.
    """

    def __init__(self, command: Sequence[str], log: Path, directory: str, threads: int | None, group: str) -> None:
        os.chdir(directory)
        # Ray's environment says which GPUs are this job's; its number of threads is that of CPUs of the whole job.
        environment = job_environment(os.environ, threads=threads, gpus=None, group=group)
        self._process = JobProcess([sys.executable, "-m", "ntp", *command], log, environment)

    def ended(self) -> int | None:
        """Its exit status; None while it runs."""
        status = self._process.ended()
        if status is not None:
            self._process.end_group()
        return status

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        self._process.ask_to_stop()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()


class RayJob:
    """A job that waits or runs; a `ntp.sweep.executor.Work`.

    Args:
        ray: the module.
        actor: handle of a `RemoteProcess`.
        log: of the process, on a file system that all machines share.
    """

    def __init__(self, ray: Any, actor: Any, log: Path) -> None:
        self._ray, self._actor, self._log = ray, actor, log
        self._offset = log.stat().st_size if log.exists() else 0
        self._began: float | None = None
        self._asked = actor.ended.remote()
        self._status: int | None = None
        self._error = ""

    @property
    def seconds(self) -> float:
        """Since it was first seen running."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    def ended(self) -> int | None:
        """Its exit status; None while it waits or runs."""
        if self._status is None and self._ray.wait([self._asked], timeout=0)[0]:
            try:
                self._status = self._ray.get(self._asked)
            except self._ray.exceptions.RayError as error:  # its machine has gone, or it never began
                self._error = str(error).strip().splitlines()[-1]
                self._status = -signal.SIGKILL if self._began is not None else 1
            self._began = self._began or time.monotonic()
            if self._status is None:
                self._asked = self._actor.ended.remote()
        return self._status

    def ask_to_stop(self) -> None:
        """Have it write a checkpoint and end; one that has not begun does not begin."""
        if self._began is None:
            self.kill()
        else:
            self._actor.ask_to_stop.remote()

    def kill(self) -> None:
        """End it: the process dies with its actor."""
        if self._began is not None:
            self._actor.kill.remote()
        else:
            self._ray.kill(self._actor)
            self._status = -signal.SIGTERM

    def end_group(self) -> None:
        """Give back what Ray had reserved."""
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(self._actor)

    def last_line(self) -> str:
        """The last thing that the process said, or Ray of it."""
        return self._error or last_line(self._log, self._offset)


class RayExecutor:
    """``hydra/launcher=ray``.

    Args:
        options: of the launcher.
    """

    gpus: Sequence[str] = ()
    poll_seconds = 0.5
    queues = True
    keeps_limits = False

    def __init__(self, options: RayOptions) -> None:
        self._options = options
        self._ray: Any = None

    def check(self, job: Job) -> int:
        """None of this machine's GPUs; see `Executor.check`."""
        if shape_of(job).nodes > 1:
            raise ConfigError(
                "trainer.num_nodes", "a job of Ray's has one machine; see hydra/launcher=submitit_slurm, or torchrun"
            )
        if job.config.sweep.dry_run:
            return 0
        self._connect()
        if self._options.address is None:  # the cluster is this machine, and will not grow
            there = self._ray.cluster_resources()
            for name, number in self._needs(job).items():
                if number > there.get(name, 0):
                    raise ConfigError(
                        "hydra.launcher", f"a job needs {number:g} {name}, and Ray has {there.get(name, 0):g} here"
                    )
        return 0

    def together(self, sweep: SweepConfig) -> int | None:
        """Ray decides."""
        return None

    def start(self, job: Job, command: Sequence[str], log: Path, gpus: Sequence[str], group: str) -> Work:
        """Ask Ray for room; see `Executor.start`."""
        needs, shape = self._needs(job), shape_of(job)
        threads = shape.threads or max(1, int(needs["CPU"]) // shape.processes)
        actor = self._actor.options(
            num_cpus=needs["CPU"], num_gpus=needs.get("GPU", 0), resources=self._options.resources
        ).remote(list(command), log, os.getcwd(), threads, group)
        return RayJob(self._ray, actor, log)

    def hand_over(self) -> None:
        """Ray has everything already."""

    def _connect(self) -> None:
        if self._ray is not None:
            return
        ray = import_extra("ray", "ray")
        try:
            ray.init(
                address=self._options.address,
                runtime_env=self._options.runtime_env or None,
                ignore_reinit_error=True,
                log_to_driver=False,
                logging_level="WARNING",
                include_dashboard=False if self._options.address is None else None,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            problem = str(error).strip().splitlines()[0]
            raise ConfigError("hydra.launcher.address", problem) from None
        self._ray, self._actor = ray, ray.remote(RemoteProcess)

    def _needs(self, job: Job) -> Mapping[str, float]:
        shape = shape_of(job)
        cpus = self._options.num_cpus or shape.processes * (shape.threads or 1)
        return {"CPU": cpus, **({"GPU": shape.gpus} if shape.gpus else {}), **self._options.resources}
