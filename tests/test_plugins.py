"""Another package brings an objective: one class, one YAML file, one entry point. Real installs, real processes."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.conftest import read_summary

REPOSITORY = Path(__file__).resolve().parents[1]

PYPROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "theirs"
version = "1.0"

[project.entry-points."ntp.configs"]
theirs = "theirs.conf"

[tool.setuptools]
packages = ["theirs", "theirs.conf"]
package-data = { "theirs.conf" = ["**/*.yaml"] }
"""

OBJECTIVE = '''
"""Next-token prediction of every n-th token only."""

import numpy as np

from ntp.data.example import IGNORE, Draw, Example, Row
from ntp.objectives.base import Objective


class EveryNth(Objective):
    """Only each n-th position has a target."""

    attention = "causal"
    likelihood = "none"
    lookahead = 1

    def __init__(self, n: int = 2) -> None:
        super().__init__()
        self.n = n

    def corrupt(self, row: Row, draw: Draw) -> Example:
        """Causal, with most targets left out."""
        asked = np.arange(len(row) - 1) % self.n == 0
        return Example(
            tokens=row.tokens[:-1],
            targets=np.where(asked, row.tokens[1:], IGNORE),
            target_bytes=np.where(asked, row.bytes[1:], 0),
        )
'''

YAML = """
# Every n-th token is predicted.
_target_: theirs.objective.EveryNth

# n.
n: 4
"""


def run(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(one) for one in command], cwd=cwd, capture_output=True, text=True, env=os.environ | environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def write_package(root: Path) -> Path:
    package = root / "theirs-package"
    configs = package / "theirs" / "conf" / "objective"
    configs.mkdir(parents=True)
    (package / "pyproject.toml").write_text(PYPROJECT)
    (package / "theirs" / "__init__.py").touch()
    (package / "theirs" / "conf" / "__init__.py").touch()
    (package / "theirs" / "objective.py").write_text(OBJECTIVE)
    (configs / "theirs.yaml").write_text(YAML)
    return package


def make_environment(root: Path) -> Path:
    """An environment without ntp that sees the dependencies of this one."""
    run(sys.executable, "-m", "venv", "--without-pip", root / "venv", cwd=root)
    site = next((root / "venv").glob("lib/python*/site-packages"))
    # A plain path line: the .pth files in that folder, such as that of an editable ntp, are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    return root / "venv/bin/python"


def install(python: Path, source: Path, *options: str) -> None:
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--ignore-installed",
        *options,
        source,
        cwd=source.parent,
    )


def copy_source(root: Path) -> Path:
    source = root / "source"
    source.mkdir()
    for name in ("ntp", "conf", "hydra_plugins"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source / name)
    return source


@pytest.mark.parametrize("kind", ["editable", "wheel"])
def test_an_objective_of_another_package_trains(kind, tiny, tmp_path):
    python = make_environment(tmp_path)
    install(python, copy_source(tmp_path), *(["--editable"] if kind == "editable" else []))
    install(python, write_package(tmp_path))
    where = run(python, "-c", "import ntp; print(ntp.__file__)", cwd=tmp_path).stdout
    assert str(tmp_path) in where

    command = tmp_path / "venv/bin/ntp"
    help_text = run(command, "train", "--help", cwd=tmp_path).stdout
    assert "theirs" in next(line for line in help_text.splitlines() if line.startswith("objective: ")).split(", ")
    completed = run(command, "-sc", "query=bash", cwd=tmp_path, COMP_LINE="ntp train objective=the").stdout
    assert "objective=theirs" in completed

    run(command, "train", *tiny, "objective=theirs", "objective.n=8", "run_dir=run", cwd=tmp_path)
    summary = read_summary(tmp_path / "run")
    assert summary["objective"] == "theirs"
    assert summary["likelihood"] == "none"
    assert summary["progress/targets"] * 8 == summary["progress/tokens"]

    sweep = run(command, "train", "-m", *tiny, "objective=causal,theirs", "sweep.dry_run=true", cwd=tmp_path)
    assert "2 jobs: 2 to run" in sweep.stdout

    misspelt = subprocess.run(
        [command, "train", "objective=theirs", "+objective.m=8"], cwd=tmp_path, capture_output=True, text=True
    )
    assert misspelt.returncode == 2
    assert "objective.m: EveryNth takes no such argument" in misspelt.stderr
