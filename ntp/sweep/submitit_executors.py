"""Executors that put jobs into SLURM's queue through submitit, or run them on this machine as SLURM would."""

import contextlib
import os
import signal
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import submitit
from rich.console import Console
from submitit.core.utils import FailedJobError, FailedSubmissionError

from ntp.config.errors import ConfigError
from ntp.config.schema import SweepConfig
from ntp.sweep.clusters import Shape, SlurmOptions, SubmititOptions, shape_of
from ntp.sweep.executor import ThisMachine, Work
from ntp.sweep.job import Job
from ntp.sweep.process import job_threads
from ntp.sweep.rank import Rank
from ntp.sweep.slurm_queue import SlurmQueue
from ntp.sweep.submitted import LocalJob, SlurmJob
from ntp.tracking.describe import relative

FOLDER = ".submitit"
_SAVE_SHARE = 0.8  # of the time between the signal and the end; the rest is for the queue


class LocalExecutor(ThisMachine):
    """``hydra/launcher=submitit_local``.

    Args:
        options: of the launcher.
        sweep_dir: directory of the sweep.
    """

    name = "submitit_local"
    poll_seconds = 0.3
    keeps_limits = True

    def __init__(self, options: SubmititOptions, sweep_dir: Path) -> None:
        super().__init__()
        self._options, self._folder = options, _new_folder(sweep_dir)

    def check(self, job: Job) -> int:
        """How many GPUs it needs; see `Executor.check`."""
        shape_of(job)
        return super().check(job)

    def start(self, job: Job, command: Sequence[str], log: Path, gpus: Sequence[str], group: str) -> Work:
        """Start it; see `Executor.start`."""
        executor = submitit.LocalExecutor(self._folder, max_num_timeout=self._options.max_num_timeout)
        executor.update_parameters(tasks_per_node=shape_of(job).processes, **_common(self._options))
        work = LocalJob(log)
        threads = job_threads(os.environ, job.config.sweep, job.config.trainer)
        rank = _rank(job, command, log, group, threads, self._options.signal_delay_s)
        rank.gpus = list(gpus) if self.gpus else None
        with _without_interrupts():
            work.submitted(executor.submit(rank))
        return work


class SlurmExecutor:
    """``hydra/launcher=submitit_slurm``.

    Args:
        options: of the launcher.
        sweep_dir: directory of the sweep, which all machines must see.
    """

    gpus: Sequence[str] = ()
    poll_seconds = 2.0
    queues = True
    keeps_limits = True

    def __init__(self, options: SlurmOptions, sweep_dir: Path) -> None:
        self._options, self._folder, self._name = options, _new_folder(sweep_dir), options.name or sweep_dir.name
        self._queue = SlurmQueue()
        self._started: list[tuple[Shape, Rank, SlurmJob]] = []
        self._console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)

    def check(self, job: Job) -> int:
        """None of this machine's GPUs; see `Executor.check`."""
        shape = shape_of(job)
        if not job.config.sweep.dry_run:
            self._submitit(shape)
        return 0

    def together(self, sweep: SweepConfig) -> int | None:
        """SLURM decides."""
        return None

    def start(self, job: Job, command: Sequence[str], log: Path, gpus: Sequence[str], group: str) -> Work:
        """Put it with those that are to be submitted; see `Executor.start`."""
        work = SlurmJob(log, self._queue)
        shape = shape_of(job)
        threads = shape.threads or self._options.cpus_per_task
        rank = _rank(job, command, log, group, threads, self._options.signal_delay_s)
        self._started.append((shape, rank, work))
        return work

    def hand_over(self) -> None:
        """Submit jobs of one shape as one array; see `Executor.hand_over`."""
        started, self._started = self._started, []
        shapes: dict[Shape, list[tuple[Rank, SlurmJob]]] = defaultdict(list)
        for shape, rank, work in started:
            shapes[shape].append((rank, work))
        for shape, jobs in shapes.items():
            self._submit(shape, jobs)
        self._queue.flush()

    def _submit(self, shape: Shape, jobs: Sequence[tuple[Rank, SlurmJob]]) -> None:
        executor = self._submitit(shape)
        try:
            with _outside_of_allocations(), _without_interrupts():
                submitted = executor.submit_array([rank for rank, _ in jobs])
        except (FailedJobError, FailedSubmissionError) as error:  # what sbatch says
            said = [line for line in str(error).splitlines() if line.strip()]
            raise ConfigError("hydra.launcher", said[-1] if said else "sbatch failed") from None
        for (_, work), job in zip(jobs, submitted, strict=True):
            work.submitted(job)
        ids = submitted[0].job_id if len(jobs) == 1 else f"{submitted[0].job_id} to {submitted[-1].job_id}"
        self._console.print(
            f"{len(jobs)} job{'s' if len(jobs) > 1 else ''} in SLURM's queue as {ids}; output of their processes in "
            f"{relative(self._folder)}"
        )

    def _submitit(self, shape: Shape) -> submitit.SlurmExecutor:
        options = self._options
        gpus: Any = f"{options.gpu_type}:{shape.gpus}" if options.gpu_type else shape.gpus
        parameters = {
            **_common(options),
            "time": options.timeout_min,
            "job_name": self._name,
            "nodes": shape.nodes,
            "ntasks_per_node": shape.processes,
            "gpus_per_node": gpus if shape.gpus else None,
            "cpus_per_task": options.cpus_per_task or shape.threads,
            "mem": None if options.mem_gb is None else f"{round(options.mem_gb * 1024)}M",
            "array_parallelism": options.array_parallelism,
            # A process that waits for one that has failed would wait for trainer.collective_timeout_minutes.
            "srun_args": ["--kill-on-bad-exit=1", *options.srun_args],
            "additional_parameters": {"requeue": True, **options.additional_parameters},
        }
        for name in ("partition", "account", "qos", "constraint", "exclude", "comment"):
            parameters[name] = getattr(options, name)
        del parameters["timeout_min"]
        try:
            executor = submitit.SlurmExecutor(self._folder, max_num_timeout=options.max_num_timeout)
        except RuntimeError:
            raise ConfigError(
                "hydra/launcher", "there is no SLURM here (no srun); submitit_local runs such jobs on this machine"
            ) from None
        executor.update_parameters(**{name: value for name, value in parameters.items() if value is not None})
        return executor


def _common(options: SubmititOptions) -> dict[str, Any]:
    return {
        "timeout_min": options.timeout_min,
        "signal_delay_s": options.signal_delay_s,
        "stderr_to_stdout": True,
        "setup": options.setup,
    }


def _rank(job: Job, command: Sequence[str], log: Path, group: str, threads: int | None, delay: float) -> Rank:
    limit = job.config.sweep.time_limit_minutes
    return Rank(
        list(command),
        log,
        group,
        threads,
        limit_seconds=None if limit is None else limit * 60,
        save_seconds=_SAVE_SHARE * delay,
    )


def _new_folder(sweep_dir: Path) -> Path:
    """Ids of processes come again, and results of an earlier sweep must not be taken for those of this one."""
    return sweep_dir / FOLDER / f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{uuid.uuid4().hex[:6]}"


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Start processes that Ctrl-C in this terminal does not reach: the launcher tells its jobs itself."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _outside_of_allocations() -> Iterator[None]:
    """A sweep that is started inside of a job must not hand the limits of that job on."""
    hidden = {}
    if "SLURM_JOB_ID" in os.environ:
        names = [one for one in os.environ if one.startswith(("SLURM_", "SUBMITIT_")) and one != "SLURM_CONF"]
        hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)
