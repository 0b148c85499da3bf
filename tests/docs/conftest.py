"""A desk with the files that the pages speak of, and the package that the tutorial builds."""

import json
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import zstandard

from tests.conftest import TEXT
from tests.docs.markdown import ROOT, blocks

TUTORIAL = ROOT / "docs" / "objective_tutorial.md"


@pytest.fixture(scope="module", autouse=True)
def one_thread(trained: Path) -> Iterator[None]:
    """Models as small as these only lose by sharing their work among threads. The shared run is made before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def files_of_the_pages(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    (folder / "texts").mkdir()
    (folder / "book.txt").write_text(TEXT * 3)
    (folder / "shakespeare.txt").write_text(TEXT)
    (folder / "other.txt").write_text(TEXT[:2000])
    (folder / "texts" / "more.txt").write_text(TEXT[:3000] + "# the end\n")
    (folder / "texts" / "another.txt").write_text("# another\n" + TEXT)
    (folder / "server.log").write_text(TEXT)
    (folder / "table.csv").write_text("id,review\n" + "".join(f'{n},"good, {n} times"\n' for n in range(300)))
    (folder / "empty.txt").write_bytes(b"")
    (folder / "latin1.txt").write_bytes("café".encode("latin-1"))
    records = "".join(json.dumps({"body": f"record {n}", "n": n}) + "\n" for n in range(300))
    (folder / "texts" / "records.jsonl.zst").write_bytes(zstandard.compress(records.encode()))
    (folder / "my-dataset").mkdir()
    for split, count in (("train", 300), ("validation", 30)):
        records = "".join(json.dumps({"text": f"{split} {n}"}) + "\n" for n in range(count))
        (folder / "my-dataset" / f"{split}.jsonl").write_text(records)
    pairs = ({"sentence_good": f"She has {n} cats.", "sentence_bad": f"She have {n} cats."} for n in range(20))
    problem = {"task_id": "one", "prompt": "def f():\n    return ", "canonical_solution": "1", "entry_point": "f"}
    problem["test"] = "def check(candidate):\n    assert candidate() == 1\n"
    (folder / "problems.jsonl").write_text(json.dumps(problem) + "\n")
    (folder / "pairs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in pairs))
    topics = ({"text": f"{n} {'cats purr' if n % 2 else 'dogs bark'}", "label": f"topic{n % 2}"} for n in range(40))
    (folder / "topics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in topics))
    (folder / "my_callbacks.py").write_text("from lightning import Callback\n\n\nclass Beep(Callback):\n    pass\n")
    shutil.copytree(trained, folder / "outputs" / "first")
    return folder


@pytest.fixture
def desk(
    files_of_the_pages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The working directory of a reader: book.txt and its like, and a finished run in outputs/first."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
    shutil.copytree(files_of_the_pages, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def tutorial_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tutorial's package: its files as the page shows them, registered as pip would do it."""
    folder = tmp_path_factory.mktemp("word-dropout")
    for block in blocks(TUTORIAL):
        if block.title:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    for package in project["tool"]["setuptools"]["packages"]:
        (folder / package.replace(".", "/") / "__init__.py").touch()
    name, version = project["project"]["name"].replace("-", "_"), project["project"]["version"]
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    registered = [
        line
        for group, entries in project["project"]["entry-points"].items()
        for line in (f"[{group}]", *(f"{key} = {value}" for key, value in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(registered) + "\n")
    return folder
