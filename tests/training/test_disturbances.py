"""Real processes that are interrupted, killed and starved of disk, and go on as if nothing had happened."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ntp.tracking.metric_lines import read_metrics_file
from ntp.training.checkpoint_store import CheckpointStore
from tests.conftest import call, read_metrics, read_summary
from tests.training.going_on import assert_equal, watched

ENDLESS = (
    "budget.steps=1000000",
    "schedule=constant",
    "schedule.warmup_fraction=0",
    "evaluation.every_steps=20",
    "evaluation.sample_tokens=0",
)
DDP = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
NEEDS_LINUX = pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux to limit another process")


def start(*arguments: str, cwd: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "ntp", "train", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        start_new_session=True,
        # Tests that run in the background of a shell would hand down that they ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def start_run(tiny, run: Path, *overrides: str) -> "subprocess.Popen[str]":
    return start(*tiny, *ENDLESS, *watched(run), f"run_dir={run}", *overrides, cwd=run.parent)


def wait_for(process: "subprocess.Popen[str]", condition, seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def at_step(run: Path, step: int):
    """Whether the run has written a line of metrics of this step or a later one."""
    return lambda: any(line["step"] >= step for line in read_metrics_file(run / "metrics.jsonl"))


def end(process: "subprocess.Popen[str]", number: int, *, group: bool = False) -> str:
    """Signal a process, or all that it started too, and wait until it has ended."""
    (os.killpg if group else os.kill)(process.pid, number)
    return process.communicate(timeout=120)[1]


def goes_on_as_if_nothing_had_happened(tiny, run: Path, *overrides: str, steps: int = 5) -> None:
    """Train some steps beyond all that it has done, and compare with a run of that length that nobody disturbed."""
    assert CheckpointStore(run / "checkpoints").newest_whole()[1] == []
    until = max((line["step"] for line in read_metrics_file(run / "metrics.jsonl")), default=0) + steps
    outcome = call("train", f"resume={run}", f"budget.steps={until}")
    assert outcome.status == 0, outcome.stderr
    whole = run.with_name("whole")
    options = (*tiny, *ENDLESS, *overrides, *watched(whole), f"run_dir={whole}", f"budget.steps={until}")
    assert call("train", *options).status == 0
    assert_equal(whole, run)


def test_an_interrupted_run_says_that_it_was_stopped_and_keeps_its_checkpoint(tiny, tmp_path):
    process = start_run(tiny, tmp_path / "run")
    wait_for(process, (tmp_path / "run/checkpoints/best.ckpt").exists)
    stderr = end(process, signal.SIGINT)
    assert process.returncode == 130
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    summary = read_summary(tmp_path / "run")
    assert summary["state"] == "stopped"
    assert summary["val/loss"] > 0
    assert call("evaluate", f"run={tmp_path / 'run'}", "checkpoint=last", "rows=2").status == 0


def test_a_scheduler_that_signals_all_processes_gets_a_checkpoint_and_the_status_to_requeue(tiny, tmp_path):
    run, options = tmp_path / "run", ("data.workers=2", "data.micro_batch_size=1")
    process = start_run(tiny, run, *options)
    wait_for(process, at_step(run, 3))
    stderr = end(process, signal.SIGTERM, group=True)
    assert process.returncode == 143, stderr
    assert stderr.strip().splitlines()[-1].endswith("; go on with: ntp train resume=run")
    assert "Traceback" not in stderr
    assert read_summary(run)["state"] == "stopped"
    goes_on_as_if_nothing_had_happened(tiny, run, *options)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))])
def test_a_run_that_is_killed_at_any_moment_leaves_whole_files_and_goes_on(tiny, tmp_path, seed):
    rng = random.Random(seed)
    # Most of the time it is writing checkpoints.
    options = ("callbacks.checkpoint.every_steps=1", "model.width=64", "data.micro_batch_size=2")
    run = tmp_path / "run"
    process = start_run(tiny, run, *options)
    for attempt in range(1, 4 if seed else 2):
        wait_for(process, at_step(run, 4 * attempt + rng.randrange(4)))
        time.sleep(rng.random() * 0.1)
        end(process, signal.SIGKILL)
        assert read_summary(run)["state"] == "running"
        torch.load(run / "checkpoints/last.ckpt", weights_only=True)
        if attempt < 3 and seed:
            process = start("resume=run", cwd=tmp_path)
    goes_on_as_if_nothing_had_happened(tiny, run, *options)


def starve(process: "subprocess.Popen[str]", run: Path) -> str:
    """Let no file of a process grow beyond half a checkpoint: the next one fails while it is written."""
    wait_for(process, (run / "checkpoints/best.ckpt").exists)
    size = (run / "checkpoints/last.ckpt").stat().st_size
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size // 2, size // 2))
    return process.communicate(timeout=120)[1]


@NEEDS_LINUX
@pytest.mark.parametrize("asynchronous", ["false", pytest.param("true", marks=pytest.mark.slow)])
def test_a_full_disk_ends_the_run_with_one_line_and_with_room_again_it_goes_on(tiny, tmp_path, asynchronous):
    run, options = tmp_path / "run", (f"callbacks.checkpoint.asynchronous={asynchronous}",)
    process = start_run(tiny, run, *options)
    stderr = starve(process, run)
    assert process.returncode == 2, stderr
    assert stderr.strip().splitlines()[-1].startswith("ntp train: run_dir: ")
    assert "earlier checkpoints are whole" in stderr
    assert "Traceback" not in stderr
    assert not [name for name in os.listdir(run / "checkpoints") if name.endswith(".tmp")]
    assert read_summary(run)["state"] == "failed"
    goes_on_as_if_nothing_had_happened(tiny, run, *options)


def test_a_failing_run_says_so_in_its_summary(ntp, tiny, tmp_path):
    failing = "+callbacks.bad._target_=tests.tracking.failing.FailsAtStepTwo"
    assert ntp("train", *tiny, failing, "allow_targets=[tests]", "run_dir=run").status == 1
    assert read_summary(tmp_path / "run")["state"] == "failed"


@pytest.mark.slow
def test_of_two_processes_that_go_on_with_one_run_one_is_refused(tiny, tmp_path):
    run = tmp_path / "run"
    process = start_run(tiny, run)
    wait_for(process, (run / "checkpoints/best.ckpt").exists)
    end(process, signal.SIGKILL)
    both = [start("resume=run", cwd=tmp_path) for _ in range(2)]
    deadline = time.monotonic() + 200
    while all(one.poll() is None for one in both):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    refused, trains = sorted(both, key=lambda one: one.poll() is None)
    assert refused.returncode == 2
    assert "another process is training in run just now" in refused.communicate()[1]
    wait_for(trains, at_step(run, 25))
    end(trains, signal.SIGTERM)
    assert trains.returncode == 143
    goes_on_as_if_nothing_had_happened(tiny, run)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_run_that_is_stopped_while_it_starts_can_be_gone_on_with(tiny, tmp_path, seed):
    run = tmp_path / "run"
    process = start_run(tiny, run, "data.micro_batch_size=1")
    wait_for(process, (run / "summary.json").exists)
    time.sleep(random.Random(seed).random())
    stderr = end(process, signal.SIGTERM)
    assert process.returncode in (143, -signal.SIGTERM), stderr
    assert "Traceback" not in stderr
    if (run / "config.yaml").exists():
        goes_on_as_if_nothing_had_happened(tiny, run, "data.micro_batch_size=1")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("number", "group"), [(signal.SIGKILL, True), (signal.SIGTERM, True), (signal.SIGTERM, False)])
def test_a_run_on_two_devices_goes_on_with_one(tiny, tmp_path, number, group):
    run = tmp_path / "run"
    options = ("callbacks.checkpoint.every_steps=1", "data.micro_batch_size=2")
    process = start_run(tiny, run, *DDP, *options)
    wait_for(process, at_step(run, 5))
    stderr = end(process, number, group=group)
    assert process.returncode == (143 if number == signal.SIGTERM else -signal.SIGKILL), stderr
    step = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"]
    one = ("trainer.strategy=auto", "trainer.devices=1")
    assert call("train", f"resume={run}", *one, f"budget.steps={step + 5}").status == 0
    whole = (*tiny, *ENDLESS, *options, f"run_dir={tmp_path / 'whole'}", f"budget.steps={step + 5}")
    assert call("train", *whole).status == 0
    ours, theirs = read_metrics(run), read_metrics(tmp_path / "whole")
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    for first, second in zip(ours, theirs, strict=True):
        for name in ("train/loss", "val/loss", "progress/targets", "progress/tokens"):
            assert first.get(name, 0) == pytest.approx(second.get(name, 0), rel=1e-5)
