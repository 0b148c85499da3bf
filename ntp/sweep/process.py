"""The process of a job: an ordinary ``ntp train`` in a session of its own."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ntp.config.schema import SweepConfig, TrainerConfig
from ntp.sweep import tether
from ntp.sweep.gpus import VISIBLE

# What torchrun, Lightning, MPI and SLURM tell the processes that they start: this job is started by none of them.
_OF_A_RANK = re.compile(
    r"(LOCAL_|GROUP_|ROLE_|NODE_)?(RANK|WORLD_SIZE)|ROLE_NAME|MASTER_(ADDR|PORT)|(PL|TORCHELASTIC|OMPI_COMM_WORLD|PMI)_.*"
    r"|SLURM_(NTASKS|NPROCS|TASKS_PER_NODE|NTASKS_PER_NODE|PROCID|LOCALID|NODEID)"
)
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_ORPHANS_SECONDS = 2.0
_OF_OTHERS = ("wandb: ", "submitit ", "srun: ", "slurmstepd")  # beginnings of lines that the run itself has not said


def job_environment(
    environment: Mapping[str, str], *, threads: int | None, gpus: Sequence[str] | None, group: str
) -> dict[str, str]:
    """The environment of a job's process.

    Args:
        environment: of this process.
        threads: of each process of the job; None leaves them to the environment.
        gpus: that it sees; None leaves them to the environment.
        group: of its W&B runs, unless the environment has one.
    """
    # Runs that a shell has named all alike would be one run for W&B.
    job = {
        name: value for name, value in environment.items() if not _OF_A_RANK.fullmatch(name) and name != "WANDB_RUN_ID"
    }
    job.setdefault("WANDB_RUN_GROUP", group)
    job.setdefault("PYTHONUNBUFFERED", "1")
    if threads is not None:
        job |= {name: str(threads) for name in _THREADS}
    if gpus is not None:
        job[VISIBLE] = ",".join(gpus)
    return job


def job_threads(environment: Mapping[str, str], sweep: SweepConfig, trainer: TrainerConfig) -> int | None:
    """CPU threads of each process of a job; None where the environment says it.

    Args:
        environment: of this process.
        sweep: the ``sweep`` node of the job's configuration.
        trainer: the ``trainer`` node.
    """
    threads = sweep.threads
    if threads is None:
        if _THREADS[0] in environment:
            return None
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = cores // sweep.jobs
    processes = 1 if trainer.devices == "auto" else trainer.devices
    return max(1, threads // processes)


class JobProcess:
    """A command in a session of its own, whose output goes into a file.

    Args:
        command: program and arguments.
        log: file that the output is appended to.
        environment: whole.

    Raises:
        OSError: it can't be started, or the file can't be written.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.log = log
        self.started = time.monotonic()
        with open(log, "ab") as output:
            self._offset = output.tell()
            self._process = subprocess.Popen(
                [*tethered(), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self.started

    def ended(self) -> int | None:
        """Its exit status, a negative signal for one that was killed by it; None while it runs."""
        return self._process.poll()

    def ask_to_stop(self) -> None:
        """SIGTERM to the command: it writes a checkpoint, and stops its own processes with it.

        Those processes are not asked one by one: a loader of data that ends by itself is a failure to its run.
        """
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the command and to all processes it has started."""
        self._signal_group(signal.SIGKILL)

    def end_group(self) -> None:
        """End what a command that has ended has left behind."""
        deadline = time.monotonic() + _ORPHANS_SECONDS
        self._signal_group(signal.SIGTERM)
        while self._signal_group(0) and time.monotonic() < deadline:
            time.sleep(0.02)
        self.kill()

    def last_line(self) -> str:
        """The last thing it said: of an error, what it is."""
        return last_line(self.log, self._offset)

    def _signal_group(self, number: int) -> bool:
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True


def last_line(log: Path, start: int = 0) -> str:
    """The last thing that was said in a file, behind its first bytes; empty where nothing was."""
    try:
        with open(log, "rb") as file:
            file.seek(max(start, log.stat().st_size - 65_536))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip() and not line.startswith(_OF_OTHERS)]
    return said[-1][:500] if said else ""


def tethered() -> list[str]:
    """What stands before a command that is to get SIGTERM when this process, or the thread that starts it, ends."""
    if sys.platform != "linux":
        return []
    return [sys.executable, "-I", "-S", tether.__file__, str(os.getpid())]
