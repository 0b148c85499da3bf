"""One process of a cluster's job: a rank of an ordinary ``ntp train``, and what the cluster's signals mean to it."""

import atexit
import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from submitit.core.job_environment import JobEnvironment
from submitit.core.utils import DelayedSubmission

from ntp.sweep.process import job_environment, tethered

STOPPED = 143
ENDINGS = (0, 130, STOPPED)
"""Exit statuses of a run that ended in order."""

OF_ITS_OWN = (0, 1, 2)
"""Exit statuses of a run that nobody stopped."""

STOP, KILL = "stop", "kill"
_FIRST_PORT, _PORTS = 10_000, 20_000  # below the ports that systems give to outgoing connections
_POLL_SECONDS, _ORDER_SECONDS = 0.2, 1.0


@dataclasses.dataclass
class Rank:
    """What submitit calls in each process of a job, on whichever machine.

    It starts ``python -m ntp`` as one rank of the run and waits for it. A run that the cluster takes its machine from
    goes on from a checkpoint in the job's next life: at submitit's signal, which SLURM sends before the end of the time
    or at a preemption, the first rank stops the run and puts this task into the queue again.

    Args:
        command: arguments of ``python -m ntp``.
        log: file that the first rank's output is appended to; the others leave theirs to submitit.
        group: of the W&B runs.
        threads: of each process; None leaves them to the environment.
        gpus: that it sees; None leaves them to the cluster.
        limit_seconds: after which the run is stopped; None for never.
        save_seconds: how long the run may take to stop at the signal, before the job is queued without its checkpoint.
    """

    command: list[str]
    log: Path
    group: str
    threads: int | None = None
    gpus: list[str] | None = None
    limit_seconds: float | None = None
    save_seconds: float = 60.0

    def __post_init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._order: Path | None = None
        self._asked = self._told = False  # to stop; by a SIGTERM

    def __call__(self) -> int:
        """Run; the exit status, negative for a signal that killed the process."""
        job = JobEnvironment()
        first = job.global_rank == 0
        self._order = order_file(job.paths.folder, job.job_id)
        signal.signal(signal.SIGTERM, self._on_term)
        if not first:  # submitit's own handler, which calls `checkpoint`, does nothing there
            signal.signal(_signal_of_submitit(), lambda *_: self._ask_to_stop())
        environment = job_environment(os.environ, threads=self.threads, gpus=self.gpus, group=self.group)
        process = self._process = self._start(environment | torchrun_environment(job), first)
        if self._asked:
            self._ask_to_stop()
        began = looked = time.monotonic()
        while process.poll() is None:
            time.sleep(_POLL_SECONDS)
            now = time.monotonic()
            if self.limit_seconds is not None and now - began > self.limit_seconds and not self._asked:
                self._ask_to_stop()
            if now - looked > _ORDER_SECONDS:
                looked = now
                self._obey()
        _kill_group(process)
        status = process.returncode
        if first and self._told and status not in OF_ITS_OWN and not self._order.exists():
            # Whether the job was cancelled or will start again, the queue knows; a result would be the last word.
            sys.exit(STOPPED)
        if status not in ENDINGS and not self._asked:
            # When the result is written: `srun --kill-on-bad-exit` ends the ranks that wait for this one.
            atexit.register(os._exit, 1)
        return status

    def checkpoint(self) -> DelayedSubmission | None:
        """Stop the run with a checkpoint; submitit calls this in the handler of its signal.

        Returns:
            What is to be queued instead of this job; None if the run came to an end of its own, or was to be stopped.
        """
        process = self._process
        if process is not None:
            self._ask_to_stop()
            status = _status_within(process, self.save_seconds)
            _kill_group(process)
            if status in OF_ITS_OWN or (self._order is not None and self._order.exists()):
                return None
        # What requeues the job signals all its processes, on some clusters also the one that asks for it.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        return DelayedSubmission(dataclasses.replace(self))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": None}

    def _start(self, environment: Mapping[str, str], first: bool) -> "subprocess.Popen[bytes]":
        # Some clusters signal all processes of a job, and this signal would kill ntp. A blocked one stays blocked in
        # the child, and none is lost here meanwhile.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [_signal_of_submitit()])
        try:
            with contextlib.ExitStack() as stack:
                output = stack.enter_context(open(self.log, "ab")) if first else None
                return subprocess.Popen(
                    [*tethered(), sys.executable, "-m", "ntp", *self.command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT if first else None,
                    env=environment,
                    start_new_session=True,
                )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _on_term(self, number: int, frame: Any) -> None:
        self._told = True
        self._ask_to_stop()

    def _obey(self) -> None:
        assert self._order is not None
        assert self._process is not None
        if not self._order.exists():
            return
        if self._order.read_text() == KILL:
            _kill_group(self._process)
        elif not self._asked:
            self._ask_to_stop()

    def _ask_to_stop(self) -> None:
        self._asked = True
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGTERM)


def torchrun_environment(job: JobEnvironment) -> dict[str, str]:
    """What torchrun would tell a process: Lightning then starts no others, and asks SLURM for nothing.

    Args:
        job: submitit's view of the job and of this process.
    """
    single = job.num_nodes == 1
    return {
        "RANK": str(job.global_rank),
        "LOCAL_RANK": str(job.local_rank),
        "WORLD_SIZE": str(job.num_tasks),
        "LOCAL_WORLD_SIZE": str(job.num_tasks // job.num_nodes),
        "GROUP_RANK": str(job.node),
        "GROUP_WORLD_SIZE": str(job.num_nodes),
        "ROLE_NAME": "default",
        "ROLE_RANK": str(job.global_rank),
        "ROLE_WORLD_SIZE": str(job.num_tasks),
        "MASTER_ADDR": "127.0.0.1" if single else job.hostnames[0],
        # Jobs that share a machine have ids that are near each other, and so ports that differ.
        "MASTER_PORT": str(_FIRST_PORT + int(job.raw_job_id) % _PORTS),
        "TORCHELASTIC_RUN_ID": job.job_id,
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
    }


def order_file(folder: Path, job_id: str) -> Path:
    """A file that those who started a job leave when they stop it: it is not the cluster that wants it to end."""
    return folder / f"{job_id}_order"


def _signal_of_submitit() -> signal.Signals:
    return signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _status_within(process: "subprocess.Popen[bytes]", seconds: float) -> int | None:
    """The status of a process, or None, in a handler that may have interrupted ``poll`` and its lock."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            found = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        except ChildProcessError:  # `poll` has it
            return process.returncode
        if found is not None:
            return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        time.sleep(_POLL_SECONDS)
    return None
