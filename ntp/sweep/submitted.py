"""A job that submitit has started, perhaps on another machine: what is seen of it from here, through its files."""

import signal
import time
from abc import ABC, abstractmethod
from pathlib import Path

from submitit.core.core import Job as SubmititJob
from submitit.core.utils import pickle_load

from ntp.sweep.process import last_line
from ntp.sweep.rank import ENDINGS, KILL, STOP, STOPPED, order_file
from ntp.sweep.slurm_queue import SlurmQueue
from ntp.tracking.run_directory import is_alive
from ntp.tracking.runs import read_run


class SubmittedJob(ABC):
    """The processes of a job; a `ntp.sweep.executor.Work`.

    Args:
        log: of the first process, in the run directory.
    """

    result_seconds, beginning_seconds = 0.0, 0.0
    """How long a result may take to be seen here; and the first words of a job, without which there is no result."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.job: SubmititJob[int]
        self._offset = log.stat().st_size if log.exists() else 0
        self._submitted = self._began = self._lost = float("inf")
        self._failed_rank, self._error = 0, ""

    def submitted(self, job: "SubmititJob[int]") -> None:
        """It is in the queue now, as this job of submitit's."""
        self.job, self._submitted = job, time.monotonic()

    @property
    def seconds(self) -> float:
        """Since its first process wrote something."""
        return max(0.0, time.monotonic() - self._began)

    def ended(self) -> int | None:
        """The exit status of the process that failed, or of the first one; None while the job waits or runs."""
        now = time.monotonic()
        if now < self._began and self.job.task(0).paths.stdout.exists():
            self._began = now
        found = {rank: self._status(rank) for rank in range(self.job.num_tasks)}
        statuses = {rank: status for rank, status in found.items() if status is not None}
        if len(statuses) < len(found):
            if self._is_held():
                self._lost = float("inf")
                return None
            self._lost = min(self._lost, now)
            # The results may be on their way; and a run whose task was killed writes its checkpoint all the same.
            late = self.result_seconds if now >= self._began else self.beginning_seconds
            if now - self._lost < late or is_alive(self.log.parent):
                return None
        return self._verdict(statuses)

    @abstractmethod
    def ask_to_stop(self) -> None:
        """Have it write a checkpoint and end, and not begin again."""

    @abstractmethod
    def kill(self) -> None:
        """End it."""

    def end_group(self) -> None:  # noqa: B027
        """Its processes have seen to that, on their machines."""

    def last_line(self) -> str:
        """The last thing that the process said that failed."""
        if self._error or self._failed_rank == 0:
            return self._error or last_line(self.log, self._offset)
        said = last_line(self.job.task(self._failed_rank).paths.stdout, 0)
        return f"rank {self._failed_rank}: {said}" if said else ""

    @abstractmethod
    def _is_held(self) -> bool:
        """Whether it waits, runs, or will run again."""

    def _order(self, order: str) -> bool:
        """Tell the processes what to do; False where there are none yet."""
        if not hasattr(self, "job"):
            return False
        order_file(self.job.paths.folder, self.job.job_id).write_text(order)
        return True

    def _status(self, rank: int) -> int | None:
        try:
            kind, result = pickle_load(self.job.task(rank).paths.result_pickle)
        except (FileNotFoundError, EOFError):
            return None
        if kind == "success":
            return int(result)
        self._error = str(result).strip().splitlines()[-1]
        return STOPPED if "not requeued" in self._error else 1

    def _verdict(self, statuses: dict[int, int]) -> int:
        failed = {rank: status for rank, status in statuses.items() if status not in ENDINGS}
        if failed:
            # One that was killed may have been so because another one failed.
            self._failed_rank = min(failed, key=lambda rank: (failed[rank] < 0, rank))
            return failed[self._failed_rank]
        if 0 in statuses:
            return statuses[0]
        run = read_run(self.log.parent)
        return STOPPED if run is not None and run.state == "stopped" else -signal.SIGKILL


class LocalJob(SubmittedJob):
    """One on this machine."""

    def ask_to_stop(self) -> None:
        """Have it write a checkpoint and end."""
        self._order(STOP)

    def kill(self) -> None:
        """End it."""
        self._order(KILL)

    def _is_held(self) -> bool:
        return not self.job.done()


class SlurmJob(SubmittedJob):
    """One in SLURM's queue.

    Args:
        log: of the first process, in the run directory.
        queue: that it is put into.
    """

    result_seconds, beginning_seconds = 30.0, 5.0

    def __init__(self, log: Path, queue: SlurmQueue) -> None:
        super().__init__(log)
        self._queue = queue

    def ask_to_stop(self) -> None:
        """Have it write a checkpoint and end, or take it out of the queue."""
        if self._order(STOP):
            self._queue.stop(self.job.job_id)

    def kill(self) -> None:
        """End it."""
        if self._order(KILL):
            self._queue.cancel(self.job.job_id)

    def _is_held(self) -> bool:
        return self._queue.holds(self.job.job_id, self._submitted)
