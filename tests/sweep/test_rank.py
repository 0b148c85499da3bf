"""A rank of a cluster's job: who it is told to be, and what signals and orders make of it."""

import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import submitit
from lightning import Trainer
from lightning.fabric.plugins.environments import TorchElasticEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only

from ntp.sweep import rank as rank_module
from ntp.sweep.process import job_environment
from ntp.sweep.rank import KILL, STOP, Rank, order_file, torchrun_environment
from tests.conftest import call, read_metrics, read_summary
from tests.sweep.test_process import wait_until

PYTHON = sys.executable
PREEMPTED = signal.SIGUSR2  # what submitit has SLURM send

# In place of Python, and so of ntp: says when it is up, and ends when it is told to.
PATIENT = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
print("up", os.getpid(), flush=True)
time.sleep(600)
"""
SLURM = {
    "SUBMITIT_EXECUTOR": "slurm",
    "SLURM_JOB_ID": "123456",
    "SLURM_ARRAY_JOB_ID": "123450",
    "SLURM_ARRAY_TASK_ID": "6",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_JOB_NODELIST": "gpu[07-08]",
    "SLURM_NTASKS": "8",
    "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_JOB_NAME": "sweep",
}


@pytest.fixture
def slurm_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is the sixth of eight, on the second of two nodes."""
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("slurm_task")
def test_a_task_of_slurm_finds_itself_as_a_process_of_torchrun():
    told = torchrun_environment(submitit.JobEnvironment())
    assert {name: told[name] for name in ("RANK", "LOCAL_RANK", "GROUP_RANK")} == {
        "RANK": "5",
        "LOCAL_RANK": "1",
        "GROUP_RANK": "1",
    }
    assert (told["WORLD_SIZE"], told["LOCAL_WORLD_SIZE"], told["GROUP_WORLD_SIZE"]) == ("8", "4", "2")
    assert (told["MASTER_ADDR"], told["TORCHELASTIC_RUN_ID"]) == ("gpu07", "123450_6")


@pytest.mark.usefixtures("slurm_task")
def test_jobs_that_may_share_a_machine_have_ports_of_their_own(monkeypatch):
    ports = set()
    for number in range(123456, 123456 + 1000):
        monkeypatch.setenv("SLURM_JOB_ID", str(number))
        ports.add(int(torchrun_environment(submitit.JobEnvironment())["MASTER_PORT"]))
    assert len(ports) == 1000
    assert min(ports) > 1024


@pytest.mark.usefixtures("slurm_task")
def test_lightning_believes_torchrun_and_asks_slurm_for_nothing(monkeypatch):
    told = torchrun_environment(submitit.JobEnvironment())
    environment = job_environment(os.environ, threads=None, gpus=None, group="sweep") | told
    for name in os.environ:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rank_zero_only, "rank", 0)  # Lightning sets it, for the whole process
    trainer = Trainer(accelerator="cpu", devices=4, num_nodes=2, strategy="ddp", barebones=True)
    assert isinstance(trainer.strategy.cluster_environment, TorchElasticEnvironment)
    assert (trainer.global_rank, trainer.local_rank, trainer.node_rank, trainer.world_size) == (5, 1, 1, 8)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a job of submitit's with one task: this process, whose signals are put back afterwards."""
    patient = tmp_path / "patient"
    patient.write_text(f"#!{PYTHON}\n{PATIENT}")
    patient.chmod(patient.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(rank_module.sys, "executable", str(patient))
    monkeypatch.setattr(rank_module, "_ORDER_SECONDS", 0.0)
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")
    monkeypatch.setenv("SUBMITIT_FOLDER", str(tmp_path))
    monkeypatch.setenv("SUBMITIT_LOCAL_JOB_ID", "7")
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, PREEMPTED)}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield tmp_path
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What would be done when the process of the task ends."""
    registered: list[tuple] = []
    monkeypatch.setattr(rank_module.atexit, "register", lambda *arguments: registered.append(arguments))
    return registered


def when_up(place: Path, action: Callable[[int], object]) -> None:
    """Do something when the process that is waited for is up, with its id."""
    log = place / "log.txt"

    def wait() -> None:
        wait_until(lambda: log.exists() and log.read_text().endswith("\n"))
        action(int(log.read_text().split()[1]))

    threading.Thread(target=wait, daemon=True).start()


def a_rank(place: Path, **options) -> Rank:
    return Rank(["train"], place / "log.txt", "group", **options)


def test_a_job_that_its_launcher_stops_says_how_it_ended(place, exits):
    when_up(place, lambda _: order_file(place, "7").write_text(STOP))
    assert a_rank(place)() == 143
    assert not exits


def test_a_job_that_its_launcher_kills_ends_at_once(place, exits):
    when_up(place, lambda _: order_file(place, "7").write_text(KILL))
    assert a_rank(place)() == -signal.SIGKILL
    assert exits == [(os._exit, 1)]


def test_a_job_that_the_cluster_stops_leaves_the_last_word_to_the_queue(place):
    when_up(place, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as caught:
        a_rank(place)()
    assert caught.value.code == 143


def test_a_job_stops_at_its_time_limit(place):
    rank = a_rank(place, limit_seconds=0.0)
    when_up(place, lambda _: None)
    assert rank() in (143, -signal.SIGTERM)  # before it was up, or later


def test_a_preempted_job_is_stopped_and_queued_again_as_it_was(place):
    rank, queued = a_rank(place, threads=3), []
    signal.signal(PREEMPTED, lambda *_: queued.append(rank.checkpoint()))
    when_up(place, lambda _: os.kill(os.getpid(), PREEMPTED))
    assert rank() == 143
    assert queued[0].function == rank
    assert queued[0].function is not rank


def test_a_job_that_its_launcher_stops_is_not_queued_again(place):
    rank, queued = a_rank(place), []
    signal.signal(PREEMPTED, lambda *_: queued.append(rank.checkpoint()))

    def stop_and_preempt(_: int) -> None:
        order_file(place, "7").write_text(STOP)
        os.kill(os.getpid(), PREEMPTED)

    when_up(place, stop_and_preempt)
    assert rank() == 143
    assert queued == [None]


def test_the_signal_of_a_preemption_does_not_harm_the_run_itself(place):
    def preempt(pid: int) -> None:
        os.kill(pid, PREEMPTED)  # as clusters do that signal all processes of a job
        order_file(place, "7").write_text(STOP)

    when_up(place, preempt)
    assert a_rank(place)() == 143


def test_a_run_that_does_not_stop_in_time_is_killed_and_queued_again(place, exits):
    (place / "patient").write_text(f"#!{PYTHON}\n{PATIENT.replace('sys.exit(143)', 'None')}")
    rank, queued = a_rank(place, save_seconds=0.3), []
    signal.signal(PREEMPTED, lambda *_: queued.append(rank.checkpoint()))
    when_up(place, lambda _: os.kill(os.getpid(), PREEMPTED))
    assert rank() == -signal.SIGKILL
    assert queued[0].function == rank


@pytest.mark.parametrize("status", [0, 1, 2])
def test_a_run_that_came_to_its_own_end_is_not_queued_again(place, exits, status):
    (place / "patient").write_text(f"#!{PYTHON}\n{PATIENT.replace('143', str(status))}")
    rank, queued = a_rank(place), []
    signal.signal(PREEMPTED, lambda *_: queued.append(rank.checkpoint()))
    when_up(place, lambda _: os.kill(os.getpid(), PREEMPTED))
    assert rank() == status
    assert queued == [None]


def test_a_rank_that_fails_ends_its_task_badly_so_that_slurm_ends_the_others(place, exits):
    (place / "patient").write_text(f"#!{PYTHON}\nimport sys\nsys.exit(1)\n")
    assert a_rank(place)() == 1
    assert exits == [(os._exit, 1)]


def test_a_preempted_run_goes_on_in_the_next_life_of_its_job(tiny, tmp_path, monkeypatch):
    run, whole = tmp_path / "run", tmp_path / "whole"
    run.mkdir()
    options = (*tiny, "budget.steps=200", "evaluation.every_steps=null")
    assert call("train", *options, f"run_dir={whole}").status == 0
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    executor = submitit.LocalExecutor(tmp_path / "jobs")
    executor.update_parameters(timeout_min=10, stderr_to_stdout=True)
    rank = Rank(["train", *options, f"run_dir={run}", f"hydra.run.dir={run}", "resume=auto"], run / "log.txt", "group")
    job = executor.submit(rank)
    wait_until(lambda: (run / "metrics.jsonl").exists() and len(read_metrics(run)) > 2, 120)
    (task,) = Path(f"/proc/{job.job_id}/task/{job.job_id}/children").read_text().split()
    os.kill(int(task), PREEMPTED)
    assert job.result() == 0
    assert read_summary(run)["state"] == "finished"
    assert "\nresume     from step " in (run / "log.txt").read_text()
    assert losses(run) == losses(whole)


def losses(run: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["train/loss"]) for line in read_metrics(run) if "train/loss" in line]
