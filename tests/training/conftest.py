"""A run that was stopped, for the tests that go on with it, and what it should come to."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import call
from tests.training.going_on import interrupt, watched

# Validations, checkpoints, lines of metrics and the end fall on different steps.
SHAPE = (
    "budget.steps=8",
    "evaluation.every_steps=3",
    "evaluation.final_rows=4",
    "evaluation.sample_tokens=0",
    "trainer.log_every_steps=5",
    "callbacks.checkpoint.every_steps=1",
    "data.micro_batch_size=2",
    "model.dropout=0.1",
    "schedule=constant",
)


@pytest.fixture(scope="session")
def shape(tiny: tuple[str, ...]) -> tuple[str, ...]:
    """Overrides of both."""
    return (*tiny, *SHAPE)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, shape: tuple[str, ...]) -> Path:
    """A run that nothing disturbed."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert call("train", *shape, *watched(run), f"run_dir={run}").status == 0
    return run


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory, shape: tuple[str, ...]) -> Path:
    """What `stopped` copies."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    interrupt(run, "SIGTERM", "accumulation", 5)
    assert call("train", *shape, *watched(run), f"run_dir={run}").status == 143
    return run


@pytest.fixture
def stopped(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was stopped at step 5 of 8, with the checkpoints of steps 4 and 5, and the best of step 3."""
    monkeypatch.chdir(tmp_path)
    for name in ("run", "run-notes"):
        shutil.copytree(original.with_name(name), tmp_path / name)
    return tmp_path / "run"
