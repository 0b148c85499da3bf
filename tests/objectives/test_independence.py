"""No objective is a special case: nothing outside its own file and its own YAML knows its name."""

import ast
from pathlib import Path

import pytest

import ntp

ROOT = Path(ntp.__file__).parent
SHARED = {"base", "query", "question", "respondents"}
OWN = sorted(path.stem for path in (ROOT / "objectives").glob("[!_]*.py") if path.stem not in SHARED)


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
            names |= {f"{node.module}.{one.name}" for one in node.names}
        elif isinstance(node, ast.Import):
            names |= {one.name for one in node.names}
    return names


@pytest.mark.parametrize("name", OWN)
def test_no_other_room_imports_an_objective(name):
    for path in ROOT.rglob("*.py"):
        if path.parent.name != "objectives":
            assert f"ntp.objectives.{name}" not in imported(path), path


def test_there_are_objectives_to_look_for():
    assert {"causal", "mlm", "mixture"} <= set(OWN)
