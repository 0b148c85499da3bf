"""What is known of a job on another machine, from the files that it leaves."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from submitit.core.utils import cloudpickle_dump
from submitit.local.local import LocalJob as SubmititLocalJob

from ntp.sweep.submitted import LocalJob
from ntp.tracking.run_directory import LOCK

UNCOMPLETED = "Traceback ...\nsubmitit.core.utils.UncompletedJobError: Job not requeued because: {}.\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of the job, beside the directory of its run."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.txt").write_text("of an earlier attempt\n")
    return tmp_path


def ended(folder: Path, tasks: int = 1, process: "subprocess.Popen | None" = None) -> LocalJob:
    """A job whose processes have gone, unless one is given."""
    work = LocalJob(folder / "run" / "log.txt")
    work.submitted(SubmititLocalJob(folder, "7", tasks=range(tasks), process=process))
    return work


def result(folder: Path, rank: int, outcome: object, kind: str = "success") -> None:
    cloudpickle_dump((kind, outcome), folder / f"7_{rank}_result.pkl")


def summary(folder: Path, state: str) -> None:
    (folder / "run" / "summary.json").write_text(json.dumps({"state": state}))


def test_a_job_has_ended_when_all_its_processes_have_said_so(folder):
    process = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    work = ended(folder, 2, process)
    result(folder, 1, 0)
    assert work.ended() is None
    result(folder, 0, 143)
    assert work.ended() == 143
    process.communicate(b"\n")


def test_the_rank_that_failed_is_named_with_what_it_said(folder):
    work = ended(folder, 3)
    result(folder, 0, -signal.SIGTERM)
    result(folder, 1, 0)
    result(folder, 2, 1)
    (folder / "7_2_log.out").write_text("RuntimeError: no space\nsubmitit INFO Exiting after successful completion\n")
    assert work.ended() == 1
    assert work.last_line() == "rank 2: RuntimeError: no space"


def test_of_the_first_rank_only_this_attempt_is_told(folder):
    work = ended(folder)
    result(folder, 0, 1)
    assert work.ended() == 1
    assert work.last_line() == ""
    with open(folder / "run" / "log.txt", "a") as file:
        file.write("ntp train: data.path: no such file\n")
    assert work.last_line() == "ntp train: data.path: no such file"


def test_a_job_that_ran_out_of_time_too_often_is_stopped(folder):
    work = ended(folder)
    result(folder, 0, UNCOMPLETED.format("timed-out too many times"), "error")
    assert work.ended() == 143


def test_a_job_that_never_came_to_run_ntp_has_failed(folder):
    work = ended(folder)
    result(folder, 0, "Traceback ...\nModuleNotFoundError: No module named 'ntp'\n", "error")
    assert work.ended() == 1
    assert work.last_line() == "ModuleNotFoundError: No module named 'ntp'"


@pytest.mark.parametrize(("state", "status"), [("stopped", 143), ("running", -signal.SIGKILL)])
def test_a_job_without_a_result_is_judged_by_its_run(folder, state, status):
    summary(folder, state)
    assert ended(folder).ended() == status


def test_a_run_that_outlives_its_job_is_waited_for(folder):
    summary(folder, "running")
    work = ended(folder)
    with FileLock(folder / "run" / LOCK):
        assert work.ended() is None
    assert work.ended() == -signal.SIGKILL


def test_time_counts_from_the_first_word_of_the_job(folder):
    work = ended(folder)
    work.ended()
    assert work.seconds == 0
    (folder / "7_0_log.out").touch()
    work.ended()
    assert work.seconds > 0
