"""Jobs run side by side, as many as there is room for, until all have ended or somebody says stop."""

import contextlib
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ntp.sweep.decision import Decision
from ntp.sweep.executor import Work
from ntp.sweep.gpus import GpuPool
from ntp.sweep.job import Job

INTERRUPTED, TIME_LIMIT = "interrupted", "time limit"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Running:
    """A job whose process runs.

    Attributes:
        job: what it computes.
        decision: where, and whether it goes on.
        process: of its own, or several, wherever they are.
        gpus: that it sees.
        limit: seconds after which it is stopped; None for never.
        told: why it was told to stop; empty where it was not.
        told_at: when.
        killed: whether its time to stop was over.
    """

    job: Job
    decision: Decision
    process: Work
    gpus: list[str] = field(default_factory=list)
    limit: float | None = None
    told: str = ""
    told_at: float = 0.0
    killed: bool = False

    def tell_to_stop(self, why: str) -> None:
        """Ask it to write a checkpoint and end."""
        if not self.told:
            self.told, self.told_at = why, time.monotonic()
            self.process.ask_to_stop()

    def kill(self) -> None:
        """End it, whatever it is doing."""
        if not self.killed:
            self.killed = True
            self.process.kill()


class Runner:
    """Runs jobs in processes.

    Args:
        together: how many at a time.
        pool: of GPUs.
        grace_seconds: that a job has to stop in.
        begin: starts the process of a job with some GPUs; None where nothing is to be started.
        end: told when a process has ended, with its status.
        say: what concerns all of them, to a person.
        hand_over: called when all that can be begun or told just now has been.
        poll_seconds: how often to look at what runs.
    """

    def __init__(
        self,
        together: int,
        pool: GpuPool,
        grace_seconds: float,
        begin: Callable[[Job, list[str]], Running | None],
        end: Callable[[Running, int], None],
        say: Callable[[str], None],
        hand_over: Callable[[], None] = lambda: None,
        poll_seconds: float = 0.1,
    ) -> None:
        self.together, self.pool, self.grace_seconds = together, pool, grace_seconds
        self.begin, self.end, self.say = begin, end, say
        self.hand_over, self.poll_seconds = hand_over, poll_seconds
        self.running: list[Running] = []
        self.signals: list[int] = []

    def run(self, jobs: Iterable[tuple[Job, int]]) -> int | None:
        """Run jobs in their order.

        Args:
            jobs: with the number of GPUs that each needs.

        Returns:
            The signal that stopped them; None when all were run.
        """
        waiting = deque(jobs)
        told = 0
        with self._listening(), self._leaving_nobody_behind():
            while self.running or (waiting and not self.signals):
                if len(self.signals) > told:
                    self._stop(self.signals[0], again=told > 0)
                    told = len(self.signals)
                while waiting and not self.signals and len(self.running) < self.together and self._begin_first(waiting):
                    pass
                self.hand_over()
                self._look()
                if self.running:
                    time.sleep(self.poll_seconds)
        return self.signals[0] if self.signals else None

    def _begin_first(self, waiting: "deque[tuple[Job, int]]") -> bool:
        """Begin the job that has waited longest; later ones must not take the GPUs that it waits for."""
        job, needed = waiting[0]
        gpus = self.pool.take(needed)
        if gpus is None:
            return False
        waiting.popleft()
        begun = self.begin(job, gpus)
        if begun is None:
            self.pool.give_back(gpus)
        else:
            self.running.append(begun)
        return True

    def _look(self) -> None:
        now = time.monotonic()
        for one in list(self.running):
            status = one.process.ended()
            if status is not None:
                one.process.end_group()
                self.running.remove(one)
                self.pool.give_back(one.gpus)
                self.end(one, status)
            elif one.limit is not None and one.process.seconds > one.limit and not one.told:
                one.tell_to_stop(TIME_LIMIT)
            elif one.told and now - one.told_at > self.grace_seconds:
                one.kill()

    def _stop(self, number: int, *, again: bool) -> None:
        if again:
            self.say("killing the jobs that still run")
            for one in self.running:
                one.kill()
        elif self.running:
            count = len(self.running)
            self.say(
                f"{signal.Signals(number).name}: {count} running job{'s' if count > 1 else ''} may take "
                f"{self.grace_seconds:g} s to write a checkpoint; the same signal again kills at once"
            )
            for one in self.running:
                one.tell_to_stop(INTERRUPTED)

    @contextlib.contextmanager
    def _leaving_nobody_behind(self) -> Iterator[None]:
        """An error of this process's own, such as a full disk, ends the jobs too."""
        try:
            yield
        except BaseException:
            for one in self.running:
                one.tell_to_stop(INTERRUPTED)
            self.hand_over()
            raise

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """Note signals; in another thread than the main one there are none to note."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, _: Any) -> None:
            self.signals.append(number)

        before = {one: signal.getsignal(one) for one in _SIGNALS}
        for one, handler in before.items():
            if handler is not signal.SIG_IGN:  # as in the background of a shell
                signal.signal(one, note)
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)
