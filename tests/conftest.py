"""Fixtures: a tiny text, tiny settings, and the command line in this process or in one of its own."""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Before torch is imported, also by the processes that tests start: matrices this small are slower on several threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A test of behaviour must not fail because the machine is busy.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

with contextlib.suppress(ImportError):
    # Whenever logging is set up anew, absl, which rouge-score brings along, closes what was stderr when it was
    # imported, unless that is Python's own: it would be pytest's.
    from absl import logging as absl_logging

    absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__

TEXT = "".join(f"def f{number}(x):\n    return x + {number * 7 % 13}\n\n\n" for number in range(400))

TINY = (
    "model.width=32",
    "model.layers=2",
    "model.heads=2",
    "data.sequence_length=32",
    "data.batch_size=4",
    "budget.steps=4",
    "evaluation.every_steps=2",
    "evaluation.rows=8",
    "evaluation.final_rows=8",
    "evaluation.sample_tokens=8",
    "trainer.progress_bar=false",
    "trainer.log_every_steps=1",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, lest it be waited for alone in the end."""

    def begins_first(item: pytest.Item) -> bool:
        mark = item.get_closest_marker("slow")
        return mark is not None and mark.kwargs.get("first", False)

    items.sort(key=begins_first, reverse=True)


@dataclass(frozen=True)
class Outcome:
    """What a command printed and how it ended."""

    status: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data cache of this test session's own, also for the processes it starts."""
    path = tmp_path_factory.mktemp("cache")
    os.environ |= {"NTP_CACHE": str(path), "HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline", "COLUMNS": "160"}
    return path


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few kilobytes of text, one document."""
    path = tmp_path_factory.mktemp("text") / "code.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Overrides of a text of many documents of uneven length, to be added to those of `tiny`.

    Where they are isolated every micro-batch has another number of targets, and a mean of means would differ.
    """
    path = tmp_path_factory.mktemp("packed") / "code.txt"
    path.write_text("\n\n".join(f"x{number} = {'+'.join('1' * (1 + number * 7 % 13))}" for number in range(900)))
    return (f"data.path={path}", "data.document=paragraph", "data.validation=hash")


@pytest.fixture(scope="session")
def tiny(text_file: Path) -> tuple[str, ...]:
    """Overrides of a run of four steps that takes a second."""
    return ("data=files", f"data.path={text_file}", "data/tokenizer=char", *TINY)


def call(*arguments: str) -> Outcome:
    """Run ``ntp`` in this process."""
    from ntp.cli import main

    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            status = main(arguments)
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    return Outcome(status, stdout.getvalue(), stderr.getvalue())


@pytest.fixture
def ntp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Outcome]:
    """Run ``ntp`` in this process, in a directory of the test's own."""
    monkeypatch.chdir(tmp_path)
    return call


def spawn(*arguments: str, cwd: Path, timeout: float = 240, **environment: str) -> Outcome:
    """Run ``python -m ntp`` as a process."""
    done = subprocess.run(
        [sys.executable, "-m", "ntp", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=timeout,
        env=os.environ | environment,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def pair() -> Iterator[Callable[..., Outcome]]:
    """Run ``ntp`` on two devices, in two processes that all tests share; see `tests.pair`."""
    from tests.pair import Pair

    both = Pair()
    yield both
    both.end()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny: tuple[str, ...]) -> Path:
    """The directory of a finished tiny run, shared by tests that only read it."""
    path = tmp_path_factory.mktemp("run") / "run"
    outcome = call("train", *tiny, f"run_dir={path}")
    assert outcome.status == 0, outcome.stderr
    return path


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of a run's ``metrics.jsonl``."""
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def read_summary(run_dir: Path) -> dict[str, Any]:
    """A run's ``summary.json``."""
    return json.loads((run_dir / "summary.json").read_text())
