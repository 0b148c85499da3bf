"""Runs on several devices: how they are started, watched, and compared with others."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ntp.training.checkpoint_store import CheckpointStore
from tests.conftest import read_metrics, read_summary

DDP = ("trainer=ddp_cpu", "trainer.progress_bar=false", "trainer.log_every_steps=1")
FSDP = (
    "trainer=fsdp",
    "trainer.accelerator=cpu",
    "trainer.devices=2",
    "trainer.precision=32-true",
    "trainer.matmul_precision=highest",
    *DDP[1:],
)
TESTS_PATH = {"PYTHONPATH": str(Path(__file__).parents[2])}  # for processes that use parts of these tests
NAMES = ("train/loss", "train/gradient_norm", "val/loss", "val/bits_per_byte", "progress/targets", "progress/tokens")


def assert_same_curve(run: Path, other: Path, rel: float = 1e-6) -> None:
    """Two runs logged the same, but for rounding and the time it took."""
    ours, theirs = read_metrics(run), read_metrics(other)
    assert [line.keys() for line in ours] == [line.keys() for line in theirs]
    for one, two in zip(ours, theirs, strict=True):
        for name in NAMES:
            if name in one:
                assert two[name] == pytest.approx(one[name], rel=rel), name


def stopped_at(run: Path, step: int, path: Path) -> Path:
    """A copy of a finished run, as it was when it had written the checkpoint of a step."""
    shutil.copytree(run, path)
    CheckpointStore(path / "checkpoints").forget_after(step)
    (path / "summary.json").write_text(json.dumps(read_summary(run) | {"state": "stopped"}))
    return path


def start(*arguments: str, cwd: Path, **environment: str) -> "subprocess.Popen[str]":
    """Start ``python -m ntp`` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "ntp", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=os.environ | environment,
        start_new_session=True,
    )


def wait_for(path: Path, process: "subprocess.Popen[str]", seconds: float = 200) -> None:
    """Wait until a running process has written a file."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.05)


def further(process: "subprocess.Popen[str]") -> list[int]:
    """The processes that a run has started for its further devices."""
    started = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in started if b"ddp_process" in _read(Path(f"/proc/{pid}/cmdline"))]


def assert_gone(*pids: int, seconds: float = 60) -> None:
    """Processes have ended, or end soon."""
    deadline = time.monotonic() + seconds
    while any(_lives(pid) for pid in pids):
        assert time.monotonic() < deadline, f"{pids} have been left behind"
        time.sleep(0.05)


def end(process: "subprocess.Popen[str]") -> None:
    """Leave nothing behind of a test that has failed."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _lives(pid: int) -> bool:
    state = _read(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()
    return bool(state) and state[0] != b"Z"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""
