"""Jobs side by side: as many as there is room for, stopped at their limit, ended with their launcher."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ntp.sweep.gpus import GpuPool
from ntp.sweep.process import JobProcess
from ntp.sweep.runner import Runner, Running

# Each says when it is up, and ends when it is told to or when its time is over.
QUICK = "print('up', flush=True)"
PATIENT = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
print('up', flush=True)
time.sleep(600)
"""
STUBBORN = (
    "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(600)"
)


class Jobs:
    """Small programs, run as jobs are; keeps what happened."""

    def __init__(self, folder: Path, *, together: int = 1, gpus: int = 0, grace: float = 60) -> None:
        self.folder = folder
        self.together: list[list[str]] = []  # the names of those that ran, whenever one began
        self.gpus: dict[str, list[str]] = {}
        self.ended: dict[str, tuple[int, str]] = {}
        self.said: list[str] = []
        pool = GpuPool([str(number) for number in range(gpus)])
        self.runner = Runner(together, pool, grace, self._begin, self._end, self.said.append)

    def run(self, programs: dict[str, str], gpus: int = 0) -> int | None:
        return self.runner.run((SimpleNamespace(name=name, code=code), gpus) for name, code in programs.items())

    def up(self) -> int:
        """How many have begun and said so."""
        return sum(path.read_text() == "up\n" for path in self.folder.glob("*.txt"))

    def expire(self) -> None:
        """The time of the first is over."""
        self.runner.running[0].limit = 0

    def _begin(self, job, gpus):
        process = JobProcess([sys.executable, "-S", "-c", job.code], self.folder / f"{job.name}.txt", dict(os.environ))
        self.together.append([one.job.name for one in self.runner.running] + [job.name])
        self.gpus[job.name] = gpus
        return Running(job, None, process, gpus)

    def _end(self, running, status):
        self.ended[running.job.name] = (status, running.told)


def when(condition: Callable[[], object], action: Callable[[], object]) -> None:
    """Do something beside the runner, as soon as the time has come."""

    def wait() -> None:
        while not condition():
            time.sleep(0.01)
        action()

    threading.Thread(target=wait, daemon=True).start()


@pytest.fixture
def listened(request: pytest.FixtureRequest) -> Iterator[int]:
    """A signal that this process, in the background of a shell as it may be, does not ignore."""
    number = getattr(request, "param", signal.SIGINT)
    before = signal.signal(number, signal.default_int_handler)
    yield number
    assert signal.signal(number, before) is signal.default_int_handler


def test_jobs_run_in_their_order_and_no_more_at_a_time_than_asked_for(tmp_path):
    jobs = Jobs(tmp_path, together=2)
    assert jobs.run(dict.fromkeys("abcd", QUICK)) is None
    assert [names[-1] for names in jobs.together] == list("abcd")
    assert max(map(len, jobs.together)) == 2
    assert jobs.ended == dict.fromkeys("abcd", (0, ""))


def test_jobs_wait_for_gpus_and_never_share_one(tmp_path):
    jobs = Jobs(tmp_path, together=4, gpus=3)
    jobs.run(dict.fromkeys("abcd", QUICK), gpus=2)
    assert max(map(len, jobs.together)) == 1
    assert set(map(tuple, jobs.gpus.values())) == {("0", "1")}


def test_a_failing_job_does_not_stop_the_others(tmp_path):
    jobs = Jobs(tmp_path)
    jobs.run({"a": "raise SystemExit(3)", "b": QUICK})
    assert jobs.ended == {"a": (3, ""), "b": (0, "")}


def test_a_job_is_told_to_stop_at_its_limit(tmp_path):
    jobs = Jobs(tmp_path)
    when(lambda: jobs.up() == 1, jobs.expire)
    assert jobs.run({"a": PATIENT, "b": QUICK}) is None
    assert jobs.ended == {"a": (143, "time limit"), "b": (0, "")}


def test_a_job_that_does_not_stop_is_killed_after_its_grace(tmp_path):
    jobs = Jobs(tmp_path, grace=0.2)
    when(lambda: jobs.up() == 1, jobs.expire)
    jobs.run({"a": STUBBORN})
    assert jobs.ended == {"a": (-signal.SIGKILL, "time limit")}


@pytest.mark.parametrize("listened", [signal.SIGINT, signal.SIGTERM], indirect=True)
def test_a_signal_stops_the_running_jobs_and_begins_no_others(tmp_path, listened):
    jobs = Jobs(tmp_path, together=2)
    when(lambda: jobs.up() == 2, lambda: os.kill(os.getpid(), listened))
    assert jobs.run(dict.fromkeys("abc", PATIENT)) == listened
    assert jobs.ended == dict.fromkeys("ab", (143, "interrupted"))
    assert "2 running jobs may take 60 s" in jobs.said[0]


def test_a_second_signal_kills_at_once(tmp_path, listened):
    jobs = Jobs(tmp_path)
    when(lambda: jobs.up() == 1, lambda: os.kill(os.getpid(), listened))
    when(lambda: jobs.said, lambda: os.kill(os.getpid(), listened))
    assert jobs.run({"a": STUBBORN}) == listened
    assert jobs.ended == {"a": (-signal.SIGKILL, "interrupted")}


def test_an_error_of_the_launcher_leaves_no_job_behind(tmp_path):
    jobs = Jobs(tmp_path, together=2)
    processes = []

    def full_disk(running, status):
        processes.extend(one.process for one in jobs.runner.running)
        raise OSError("no space left on device")

    jobs.runner.end = full_disk
    with pytest.raises(OSError, match="no space"):
        jobs.run({"a": PATIENT, "b": QUICK})
    assert len(processes) == 1
    while processes[0].ended() is None:
        time.sleep(0.01)
