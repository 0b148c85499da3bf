"""Real processes that are interrupted, killed and starved of disk."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.conftest import call, read_metrics, read_summary

ENDLESS = ("budget.steps=1000000", "evaluation.every_steps=20")


def start(tiny, run_dir: Path, *overrides: str) -> "subprocess.Popen[str]":
    arguments = [sys.executable, "-m", "ntp", "train", *tiny, *ENDLESS, f"run_dir={run_dir}", *overrides]
    return subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=run_dir.parent,
        # Tests that run in the background of a shell would hand down that they ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(path: Path, process: "subprocess.Popen[str]", seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.05)


def test_an_interrupted_run_says_that_it_was_stopped_and_keeps_its_checkpoint(tiny, tmp_path):
    process = start(tiny, tmp_path / "run")
    wait_for(tmp_path / "run/checkpoints/best.ckpt", process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    summary = read_summary(tmp_path / "run")
    assert summary["state"] == "stopped"
    assert summary["val/loss"] > 0
    assert call("evaluate", f"run={tmp_path / 'run'}", "checkpoint=last", "rows=2").status == 0


def test_a_killed_run_leaves_whole_files(tiny, tmp_path):
    process = start(tiny, tmp_path / "run")
    wait_for(tmp_path / "run/checkpoints/best.ckpt", process)
    process.kill()
    process.communicate(timeout=60)
    assert read_summary(tmp_path / "run")["state"] == "running"
    assert read_metrics(tmp_path / "run")
    torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux to limit another process")
def test_a_full_disk_ends_the_run_with_one_line_and_the_previous_checkpoint_survives(tiny, tmp_path):
    process = start(tiny, tmp_path / "run")
    last = tmp_path / "run/checkpoints/last.ckpt"
    wait_for(tmp_path / "run/checkpoints/best.ckpt", process)
    size = last.stat().st_size
    # No file of the process may grow beyond half a checkpoint: the next one fails while it is written.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size // 2, size // 2))
    _, stderr = process.communicate(timeout=90)
    assert process.returncode == 2, stderr
    assert stderr.strip().splitlines()[-1].startswith("ntp train: run_dir: ")
    assert "earlier checkpoints are whole" in stderr
    assert "Traceback" not in stderr
    torch.load(last, weights_only=True)
    assert not [name for name in os.listdir(last.parent) if name.endswith(".tmp")]
    assert read_summary(tmp_path / "run")["state"] == "failed"


def test_a_failing_run_says_so_in_its_summary(ntp, tiny, tmp_path):
    failing = "+callbacks.bad._target_=tests.tracking.failing.FailsAtStepTwo"
    assert ntp("train", *tiny, failing, "allow_targets=[tests]", "run_dir=run").status == 1
    assert read_summary(tmp_path / "run")["state"] == "failed"
