"""The process of a job: its environment, its output, and its end. Real processes, without ntp in them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from ntp.config.schema import SweepConfig
from ntp.sweep.process import JobProcess, job_environment, job_threads


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def python(code: str, tmp_path: Path) -> JobProcess:
    return JobProcess([sys.executable, "-S", "-c", code], tmp_path / "log.txt", dict(os.environ))


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_job_inherits_no_rank_and_sees_only_its_gpus():
    ranked = {
        "LOCAL_RANK": "1",
        "RANK": "1",
        "WORLD_SIZE": "2",
        "NODE_RANK": "0",
        "GROUP_RANK": "0",
        "MASTER_ADDR": "a",
        "MASTER_PORT": "1",
        "PL_GLOBAL_SEED": "3",
        "TORCHELASTIC_RUN_ID": "x",
        "SLURM_PROCID": "1",
        "SLURM_NTASKS": "2",
        "WANDB_RUN_ID": "w",
    }
    environment = job_environment(
        {"HOME": "/h", "SLURM_JOB_ID": "7", **ranked}, threads=3, gpus=["2", "5"], group="my-sweep"
    )
    assert not ranked.keys() & environment.keys()
    assert environment["HOME"] == "/h"
    assert environment["SLURM_JOB_ID"] == "7"
    assert environment["OMP_NUM_THREADS"] == environment["MKL_NUM_THREADS"] == "3"
    assert environment["CUDA_VISIBLE_DEVICES"] == "2,5"
    assert environment["WANDB_RUN_GROUP"] == "my-sweep"


def test_what_the_user_has_set_stays():
    environment = job_environment(
        {"WANDB_RUN_GROUP": "mine", "OMP_NUM_THREADS": "2"}, threads=None, gpus=None, group="s"
    )
    assert environment["WANDB_RUN_GROUP"] == "mine"
    assert environment["OMP_NUM_THREADS"] == "2"
    assert "CUDA_VISIBLE_DEVICES" not in environment


@pytest.mark.parametrize(
    ("sweep", "devices", "environment", "threads"),
    [
        (SweepConfig(threads=8), 1, {"OMP_NUM_THREADS": "1"}, 8),
        (SweepConfig(threads=8), 4, {}, 2),
        (SweepConfig(threads=1), 4, {}, 1),
        (SweepConfig(), 1, {"OMP_NUM_THREADS": "1"}, None),
        (SweepConfig(jobs=10_000), 1, {}, 1),
        (SweepConfig(), 1, {}, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
    ],
)
def test_processors_are_shared_among_the_jobs(sweep, devices, environment, threads):
    assert job_threads(environment, sweep, SimpleNamespace(devices=devices)) == threads


def test_a_job_has_a_session_of_its_own_and_nothing_to_read(tmp_path):
    process = python("import os, sys; print(os.getsid(0) == os.getpid(), repr(sys.stdin.read()))", tmp_path)
    wait_until(lambda: process.ended() is not None)
    assert (tmp_path / "log.txt").read_text() == "True ''\n"


def test_output_of_further_attempts_is_appended_and_the_last_line_is_that_of_the_last(tmp_path):
    for code in ("print('first')", "import sys; print('wandb: noise'); sys.exit('second\\n')", "pass"):
        process = python(code, tmp_path)
        wait_until(lambda process=process: process.ended() is not None)
        last = process.last_line()
        assert last == ("first" if "first" in code else "second" if "second" in code else "")
    assert (tmp_path / "log.txt").read_text().count("\n") >= 3


TOLD = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit('told')); print('up', flush=True)\n"


def test_a_job_that_is_asked_to_stop_gets_sigterm(tmp_path):
    process = python(TOLD + "time.sleep(600)", tmp_path)
    wait_until(lambda: process.last_line() == "up")
    process.ask_to_stop()
    wait_until(lambda: process.ended() is not None)
    assert process.last_line() == "told"
    process.ask_to_stop()  # too late, and harmless


CHILD = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_killing_a_job_kills_what_it_has_started(tmp_path):
    process = python(CHILD + "time.sleep(600)", tmp_path)
    wait_until(process.last_line)
    child = int(process.last_line())
    process.kill()
    wait_until(lambda: process.ended() is not None and not is_running(child))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_a_job_leaves_behind_is_ended(tmp_path):
    process = python(CHILD, tmp_path)
    wait_until(lambda: process.ended() is not None)
    child = int(process.last_line())
    assert is_running(child)
    process.end_group()
    wait_until(lambda: not is_running(child))


LAUNCHER = """
import os, sys, time
from pathlib import Path
from ntp.sweep.process import JobProcess
job = JobProcess([sys.executable, "-S", "-c", sys.argv[1]], Path("log.txt"), dict(os.environ))
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux tells a process that its parent has died")
def test_a_job_is_told_to_stop_when_its_launcher_is_killed(tmp_path):
    log = tmp_path / "log.txt"
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER, TOLD + "time.sleep(600)"], cwd=tmp_path)
    wait_until(lambda: log.exists() and log.read_text() == "up\n")
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    wait_until(lambda: log.read_text() == "up\ntold\n")
