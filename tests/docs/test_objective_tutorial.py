"""The package that the tutorial builds is a real one: its files, as the page shows them, train."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import TINY, read_metrics, read_summary, spawn
from tests.docs.conftest import TUTORIAL
from tests.docs.markdown import blocks
from tests.docs.reader import run_all


def test_the_package_trains_in_a_process_of_its_own(tutorial_package: Path, text_file: Path, tmp_path: Path) -> None:
    outcome = spawn(
        "train",
        "objective=word_dropout",
        "data=files",
        f"data.path={text_file}",
        *TINY,
        "data.workers=1",
        "run_dir=run",
        cwd=tmp_path,
        PYTHONPATH=str(tutorial_package),
        OMP_NUM_THREADS="1",
    )
    assert outcome.status == 0, outcome.stderr
    summary = read_summary(tmp_path / "run")
    assert summary["state"] == "finished"
    assert (summary["objective"], summary["likelihood"]) == ("word_dropout", "bound")


def test_its_own_tests_pass(tutorial_package: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", "test_word_dropout.py"],
        cwd=tutorial_package,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_the_commands_of_the_page_run_and_at_rate_0_train_as_causal_prediction_does_to_the_last_bit(
    tutorial_package: Path, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tutorial_package))
    run_all(TUTORIAL)
    losses = {
        name: [line.get("train/loss", line.get("val/loss")) for line in read_metrics(desk / "outputs" / name)]
        for name in ("causal", "rate_0", "word_dropout")
    }
    assert losses["rate_0"] == losses["causal"]
    assert losses["word_dropout"] != losses["causal"]


def test_its_project_file_names_every_folder_with_code_or_configs(tutorial_package: Path) -> None:
    project = tomllib.loads((tutorial_package / "pyproject.toml").read_text())
    shown = {Path(block.title).parent for block in blocks(TUTORIAL) if block.title}
    packages = {Path(one.replace(".", "/")) for one in project["tool"]["setuptools"]["packages"]}
    for folder in shown - {Path(".")}:
        assert folder in packages or folder.parent in packages  # a group's folder is data of the package above it
