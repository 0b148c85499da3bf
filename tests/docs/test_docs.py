"""The pages tell the truth: their commands run, their output is what ntp says, and the names in them exist.

How a command is run: see `tests.docs.reader`.
"""

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.conftest import call, read_metrics
from tests.docs.conftest import TUTORIAL
from tests.docs.markdown import PAGES, README, ROOT, blocks, commands, dialogues, inline_code
from tests.docs.reader import run_all


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def with_something(find) -> list:
    return [pytest.param(page, id=named(page)) for page in PAGES if find(page)]


def but_the_tutorial(page: Path) -> list[list[str]]:
    return [] if page == TUTORIAL else commands(page)  # see test_objective_tutorial.py


README_TOO = [pytest.param(README, id="README.md")]


@pytest.fixture
def reader(desk: Path, page: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The desk of someone who reads the page, and has installed what it builds."""
    if page == TUTORIAL:
        monkeypatch.syspath_prepend(str(request.getfixturevalue("tutorial_package")))
    return desk


@pytest.mark.parametrize("page", with_something(but_the_tutorial) + README_TOO)
def test_the_commands_of_a_page_run(page: Path, desk: Path) -> None:
    run_all(page)


@pytest.mark.parametrize("page", with_something(dialogues) + README_TOO)
def test_the_output_that_a_page_shows_is_what_ntp_says(page: Path, reader: Path) -> None:
    for arguments, expected in dialogues(page):
        outcome = call(*arguments)
        said = (outcome.stdout + outcome.stderr).splitlines()
        assert outcome.status == 2, f"ntp {' '.join(arguments)}"
        for line in expected:
            pattern = re.escape(line).replace(r"\.\.\.", ".*")
            assert any(re.fullmatch(pattern, one) for one in said), f"{line!r} is not in {said}"


@pytest.mark.parametrize("page", with_something(lambda page: [one for one in blocks(page, "python") if not one.title]))
def test_the_python_of_a_page_runs(page: Path, reader: Path) -> None:
    names: dict[str, object] = {}
    for block in blocks(page, "python"):
        if not block.title:
            exec(compile(block.text, named(page), "exec"), names)


@pytest.mark.parametrize("page", with_something(lambda page: blocks(page, "yaml") + blocks(page, "toml")))
def test_the_yaml_and_toml_of_a_page_can_be_read(page: Path) -> None:
    for block in blocks(page):
        if block.language in ("yaml", "toml"):
            assert (yaml.safe_load if block.language == "yaml" else tomllib.loads)(block.text)


def groups() -> dict[str, dict[str, dict]]:
    """The options of every config group, with their YAML."""
    found: dict[str, dict[str, dict]] = {}
    for path in (ROOT / "conf").rglob("*/*.yaml"):
        group = path.parent.relative_to(ROOT / "conf").as_posix()
        found.setdefault(group, {})[path.stem] = yaml.safe_load(path.read_text()) or {}
    return found


def keys_of(node: object, prefix: str) -> set[str]:
    if not isinstance(node, dict):
        return set()
    return {f"{prefix}.{name}" for name in node} | {
        key for name, inner in node.items() for key in keys_of(inner, f"{prefix}.{name}")
    }


@pytest.mark.parametrize("page", with_something(lambda page: True) + README_TOO)
def test_the_keys_and_options_that_a_page_names_exist(page: Path) -> None:
    options = groups()
    options["objective"] |= {"word_dropout": {}, "theirs": {}}  # of other packages
    known = {
        key
        for group, choices in options.items()
        for node in choices.values()
        for key in keys_of(node, "data" if group == "data/rows" else group.replace("/", "."))
    }
    tops = {group.split("/")[0] for group in options}
    for code in inline_code(page.read_text(encoding="utf-8")):
        name, _, value = code.partition("=")
        if name in options and value:
            assert value in options[name], f"{code}: there is no such option"
        elif re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", name) and name.split(".")[0] in tops:
            assert name in known, f"{code}: there is no such key"


def rows_of_table(page: Path, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading."""
    text = page.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1]
    table = text[text.index("\n|") :].lstrip("\n").split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_the_table_of_groups_lists_every_group_and_every_option() -> None:
    listed = {
        inline_code(group)[0]: set(inline_code(choices))
        for group, choices, _ in rows_of_table(ROOT / "docs" / "configuration.md", "Groups and overrides")
    }
    assert listed == {group: set(choices) for group, choices in groups().items()}


def test_the_metrics_that_are_listed_are_those_of_a_run(trained: Path) -> None:
    listed = {
        name for names, _ in rows_of_table(ROOT / "docs" / "running.md", "Metrics") for name in inline_code(names)
    }
    logged = {name for line in read_metrics(trained) for name in line} - {"step"}
    assert logged <= listed
    source = "".join(path.read_text() for path in (ROOT / "ntp" / "training").glob("*.py"))
    for name in listed - logged:  # those that only some runs have
        assert f'"{name}"' in source or f'"{name.partition("/")[2]}"' in source


def test_the_files_that_are_listed_are_those_of_a_run_directory(trained: Path) -> None:
    for name, _ in rows_of_table(ROOT / "docs" / "running.md", "The run directory"):
        assert (trained / inline_code(name)[0]).is_file()


def test_the_commands_that_are_listed_are_those_of_ntp() -> None:
    from ntp.cli import COMMANDS

    text = (ROOT / "docs" / "running.md").read_text()
    assert set(re.findall(r"^\| `ntp (\w+)` \|", text, re.MULTILINE)) == set(COMMANDS)


@pytest.mark.parametrize(
    "page", [*with_something(lambda page: True), *README_TOO, pytest.param(ROOT / "CHANGELOG.md", id="CHANGELOG.md")]
)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_imports_run_in_the_direction_that_the_architecture_shows() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    drawing = next(
        one for one in blocks(ROOT / "docs" / "architecture.md", "text") if one.text.startswith("commands\n")
    )
    layers = [line.split() for line in drawing.text.splitlines()]
    level = {room: len(layers) - index for index, layer in enumerate(layers) for room in layer}
    assert "Objectives never import models" in text
    for path in (ROOT / "ntp").glob("*/**/*.py"):
        room = path.relative_to(ROOT / "ntp").parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [one.name for one in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert not (room in ("objectives", "models") and name.startswith("lightning")), path
                other = name.split(".")[1] if name.startswith("ntp.") else room
                if other != room and other in level:
                    assert level[other] < level[room], f"{path} imports {name}"
