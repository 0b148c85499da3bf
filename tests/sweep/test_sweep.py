"""Whole sweeps: real jobs, some of which fail or are killed, and the same command again."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ntp.tracking.run_directory import is_alive
from tests.conftest import Outcome, call, read_metrics, read_summary
from tests.sweep.test_process import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def tests_can_be_imported_by_jobs():
    """As this process can: pytest puts the repository on its path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(REPOSITORY), prepend=os.pathsep)
        yield


@dataclass
class Sweep:
    """A sweep of four jobs, before and after the same command was given again.

    Attributes:
        folder: current directory of the command.
        command: its arguments.
        outcomes: what it said.
        jobs: content of ``jobs.json``, by the name of the job.
    """

    folder: Path
    command: tuple[str, ...]
    outcomes: list[Outcome]
    jobs: list[dict[str, Any]]

    @property
    def directory(self) -> Path:
        (directory,) = (self.folder / "outputs/sweeps").iterdir()
        return directory

    def again(self, *overrides: str) -> Outcome:
        with contextlib.chdir(self.folder):
            return call(*self.command, *overrides)

    def run(self) -> None:
        self.outcomes.append(self.again())
        jobs = json.loads((self.directory / "jobs.json").read_text())["jobs"]
        self.jobs.append({one["name"]: one for one in jobs})


FINE, FAILING, KILLED = (
    ("objective=causal,seed=0", "objective=mlm,seed=1"),
    "objective=mlm,seed=0",
    "objective=causal,seed=1",
)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, tiny) -> Sweep:
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "accidents").mkdir()
    (folder / "accidents" / FAILING).write_text("fails")
    (folder / "accidents" / KILLED).write_text("killed")
    accidents = ("+callbacks.accidents._target_=tests.sweep.accidents.Accidents", "allow_targets=[tests]")
    options = ("callbacks.checkpoint.every_steps=1", "evaluation.sample_tokens=0", "sweep.jobs=2")
    varied = ("objective=causal,mlm", "seed=0,1")
    done = Sweep(folder, ("train", "-m", *tiny, *options, *accidents, *varied), [], [])
    done.run()
    done.run()
    return done


def states(jobs: dict[str, Any]) -> dict[str, str]:
    return {name: one["state"] for name, one in jobs.items()}


def test_jobs_that_fail_or_are_killed_do_not_stop_the_others(sweep):
    assert states(sweep.jobs[0]) == dict.fromkeys(FINE, "finished") | {FAILING: "failed", KILLED: "interrupted"}
    assert sweep.outcomes[0].status == 1


def test_a_sweep_says_what_happens_while_it_happens(sweep):
    lines = sweep.outcomes[0].stderr.splitlines()
    assert "[1/4] objective=causal,seed=0  starts" in lines
    assert any(line.startswith("[1/4] objective=causal,seed=0  finished  val/loss ") for line in lines)
    assert any(line.startswith(f"[3/4] {FAILING}  failed  0:") for line in lines)
    assert lines[-1].startswith("ntp train: 2 of 4 jobs failed; the same command tries again")


def test_a_sweep_ends_with_a_table_of_all_jobs_and_the_reasons_of_those_that_failed(sweep):
    said = sweep.outcomes[0].stdout
    assert "4 jobs: 2 finished, 1 interrupted, 1 failed" in said
    for name in (*FINE, FAILING, KILLED):
        assert f"│ {name}" in said
    assert f"{FAILING}: RuntimeError: an accident\n  see outputs/sweeps/" in said
    assert f"{KILLED}: killed by SIGKILL\n" in said


def test_the_same_command_again_makes_the_table_whole(sweep):
    assert states(sweep.jobs[1]) == dict.fromkeys((*FINE, FAILING, KILLED), "finished")
    assert sweep.outcomes[1].status == 0
    assert "4 jobs: 4 finished" in sweep.outcomes[1].stdout


def test_the_end_says_how_to_compare_and_that_command_works(sweep, monkeypatch):
    said = sweep.outcomes[1].stdout.strip().splitlines()[-1]
    assert said.startswith("compare: ntp compare runs=[outputs/sweeps/")
    monkeypatch.chdir(sweep.folder)
    outcome = call(*said.removeprefix("compare: ntp ").split(), "output=null", "baselines=false")
    assert outcome.status == 0, outcome.stderr
    assert "2 arms, 4 runs, 2 seeds each" in outcome.stdout


def test_finished_jobs_are_not_trained_again(sweep):
    assert {name: one["attempts"] for name, one in sweep.jobs[1].items()} == dict.fromkeys(FINE, 1) | {
        FAILING: 2,
        KILLED: 2,
    }
    for name in FINE:
        assert sweep.jobs[1][name]["metric"] == sweep.jobs[0][name]["metric"]
        assert f"{name}  finished before  val/loss " in sweep.outcomes[1].stderr


def test_the_others_go_on_from_their_checkpoints(sweep):
    assert f"{KILLED}  resumes" in sweep.outcomes[1].stderr
    assert f"{FAILING}  is tried again" in sweep.outcomes[1].stderr
    for name in (KILLED, FAILING):
        first, second = (sweep.directory / name / "log.txt").read_text().split("\n== attempt 2, ")
        assert "resume" not in first
        assert "resume     from step " in second
        steps = [line["step"] for line in read_metrics(sweep.directory / name) if "train/loss" in line]
        assert steps == [1, 2, 3, 4]


def test_the_metric_of_the_table_is_that_of_the_run(sweep):
    for name, job in sweep.jobs[1].items():
        assert job["metric"] == read_summary(sweep.directory / name)["val/loss"]
        assert f"{job['metric']:.4f}" in sweep.outcomes[1].stdout


def test_another_metric_can_be_asked_for_when_all_is_done(sweep):
    outcome = sweep.again("sweep.metric=val/bits_per_byte")
    assert outcome.status == 0
    for name in FINE:
        assert f"{read_summary(sweep.directory / name)['val/bits_per_byte']:.4f}" in outcome.stdout


def test_a_sweep_that_is_widened_keeps_what_it_has(sweep):
    outcome = sweep.again("seed=0,1,2", "sweep.dry_run=true")
    assert outcome.status == 0
    assert "6 jobs: 4 to skip, 2 to run" in outcome.stdout


def test_a_job_is_found_again_in_a_directory_of_another_name(sweep):
    (sweep.directory / FINE[0]).rename(sweep.directory / "renamed")
    try:
        outcome = sweep.again("sweep.dry_run=true")
    finally:
        (sweep.directory / "renamed").rename(sweep.directory / FINE[0])
    assert "4 jobs: 4 to skip" in outcome.stdout
    assert "renamed" in outcome.stdout


def test_each_job_is_an_ordinary_run(sweep):
    for name in sweep.jobs[0]:
        directory = sweep.directory / name
        assert {"config.yaml", "metrics.jsonl", "summary.json", "log.txt"} <= {
            path.name for path in directory.iterdir()
        }
        assert f"run_dir={directory}" in (directory / "overrides.yaml").read_text().replace("'", "")


def test_a_dry_run_shows_the_jobs_and_leaves_nothing(ntp, tiny, tmp_path):
    outcome = ntp("train", "-m", *tiny, "seed=0,1,1", "model.width=16,32", "sweep.dry_run=true", "sweep.name=dry")
    assert outcome.status == 0
    assert "4 jobs: 4 to run" in outcome.stdout
    for name in ("model.width=16,seed=0", "model.width=32,seed=1"):
        assert f"│ {name} │ run" in outcome.stdout
    assert "outputs/sweeps/dry" in outcome.stdout
    assert not (tmp_path / "outputs").exists()


def test_a_dry_run_imports_no_torch(tiny, tmp_path):
    code = (
        "import sys; from ntp.cli import main; status = main(sys.argv[1:]); sys.exit('torch' in sys.modules or status)"
    )
    command = ("train", "-m", *tiny, "seed=0,1", "sweep.dry_run=true")
    done = subprocess.run([sys.executable, "-c", code, *command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 jobs: 2 to run" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["objective=mlm,causal", "objective.rate=0.3"], "objective.rate: no such key"),
        (["objective=mlm,causal", "objective.rate=0.3"], "with objective=causal"),
        (["+data.foo=1,2"], "data.foo: no such key"),
        (["seed=0,x"], "seed: should be a valid integer"),
        (["model.width=16,wide"], "model.width: should be a valid integer"),
        (["seed=0,1", "run_dir=here"], "run_dir: a sweep says this to each of its jobs itself"),
        (["seed=0,1", "trainer.num_nodes=2"], "trainer.num_nodes: the jobs of hydra/launcher=isolated run on this"),
        (["seed=0,1", "sweep.job=2"], "sweep.job: no such key (did you mean 'sweep.jobs'?)"),
    ],
)
def test_a_mistake_in_one_job_is_one_line_before_any_job_starts(ntp, tiny, tmp_path, arguments, problem):
    outcome = ntp("train", "-m", *tiny, *arguments)
    assert outcome.status == 2
    assert problem in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("outputs/sweeps/*/*/log.txt"))


def test_jobs_on_one_and_on_several_devices_run_in_one_sweep(ntp, tiny, tmp_path):
    devices = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=1,2", "trainer.progress_bar=false")
    outcome = ntp("train", "-m", *tiny, *devices, "sweep.jobs=2", "sweep.name=devices")
    assert outcome.status == 0, outcome.stderr + outcome.stdout
    one, two = (
        read_summary(tmp_path / f"outputs/sweeps/devices/trainer.devices={number}")["val/loss"] for number in (1, 2)
    )
    assert two == pytest.approx(one, rel=1e-6)


@pytest.fixture
def launched(tiny, tmp_path) -> Callable[[], "subprocess.Popen[str]"]:
    """Start a sweep of three jobs without an end, two at a time, and wait until both train."""
    endless = ("budget.steps=1000000", "evaluation.every_steps=null", "callbacks.checkpoint.every_minutes=10")
    command = ("train", "-m", *tiny, *endless, "seed=0,1,2", "sweep.jobs=2", "sweep.name=endless")

    def lines(seed: int) -> int:
        metrics = tmp_path / f"outputs/sweeps/endless/seed={seed}/metrics.jsonl"
        return len(metrics.read_text().splitlines()) if metrics.exists() else 0

    def launch() -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "ntp", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            # Tests that run in the background of a shell would hand down that they ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

        before = [lines(seed) for seed in (0, 1)]

        def train() -> bool:
            assert process.poll() is None, process.communicate()
            return lines(0) > before[0] and lines(1) > before[1]

        wait_until(train, seconds=240)
        return process

    return launch


def test_a_sweep_that_is_interrupted_or_killed_stops_its_jobs_with_checkpoints(launched, tmp_path):
    runs = [tmp_path / f"outputs/sweeps/endless/seed={seed}" for seed in (0, 1)]
    process = launched()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert "3 jobs: 2 stopped, 1 not started" in stdout
    assert "go on with: ntp train -m" in stderr.splitlines()[-1]
    steps = [read_summary(run)["progress/step"] for run in runs]
    assert [read_summary(run)["state"] for run in runs] == ["stopped", "stopped"]

    process = launched()
    process.kill()
    process.communicate()
    wait_until(lambda: [read_summary(run)["state"] for run in runs] == ["stopped", "stopped"], seconds=120)
    for run, before in zip(runs, steps, strict=True):
        assert read_summary(run)["progress/step"] > before
        wait_until(lambda run=run: not is_alive(run))
