"""Fixtures: a run of these tests' own, since exams are kept in the run that takes them."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def trained(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished tiny run that others only read."""
    return shutil.copytree(trained, tmp_path_factory.mktemp("examined") / "run")
