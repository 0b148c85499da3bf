import json
from pathlib import Path
from typing import Any, NoReturn

import pytest

from ntp.config.errors import ConfigError
from ntp.data.corpora import Hub


@pytest.fixture(autouse=True)
def library_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))


def write(folder: Path, split: str, texts: list[str]) -> None:
    records = [json.dumps({"text": text, "id": index, "title": "t"}) for index, text in enumerate(texts)]
    (folder / f"{split}.jsonl").write_text("\n".join(records) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "train", ["one", "two", "one", ""])
    write(tmp_path, "validation", ["three"])
    return tmp_path


def refused(key: str, **options: Any) -> str:
    with pytest.raises(ConfigError) as error:
        list(Hub(**options).documents())
    assert error.value.key == key
    assert "\n" not in error.value.problem
    return error.value.problem


@pytest.mark.parametrize("streaming", [False, True])
def test_a_local_directory_is_read_split_by_split(folder: Path, streaming: bool) -> None:
    corpus = Hub(str(folder), streaming=streaming)
    assert list(corpus.documents("train")) == ["one", "two", "one"]
    assert corpus.own_validation
    assert list(corpus.documents("validation")) == ["three"]


@pytest.mark.parametrize("streaming", [False, True])
def test_without_a_validation_split_it_has_none_of_its_own(tmp_path: Path, streaming: bool) -> None:
    write(tmp_path, "train", ["one"])
    assert not Hub(str(tmp_path), streaming=streaming).own_validation


def test_parquet_directories_are_read(tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_dict({"body": ["a", "b"]}).to_parquet(tmp_path / "train-00000.parquet")
    assert list(Hub(str(tmp_path)).documents()) == ["a", "b"]


def test_what_save_to_disk_wrote_is_read(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    DatasetDict({"train": Dataset.from_dict({"text": ["a"]})}).save_to_disk(tmp_path / "saved")
    assert list(Hub(str(tmp_path / "saved")).documents()) == ["a"]


@pytest.mark.parametrize("streaming", [False, True])
def test_documents_can_be_limited(folder: Path, streaming: bool) -> None:
    assert list(Hub(str(folder), streaming=streaming, max_documents=2).documents()) == ["one", "two"]


def test_documents_can_be_deduplicated(folder: Path) -> None:
    assert list(Hub(str(folder), deduplicate=True).documents()) == ["one", "two"]


def test_a_slice_of_a_split_is_a_split(folder: Path) -> None:
    assert list(Hub(str(folder), split="train[:50%]").documents()) == ["one", "two"]


@pytest.mark.parametrize("streaming", [False, True])
def test_the_digest_follows_contents_and_choices(folder: Path, streaming: bool) -> None:
    before = Hub(str(folder), streaming=streaming).digest()
    assert Hub(str(folder), streaming=streaming).digest() == before
    assert Hub(str(folder), streaming=streaming, max_documents=1).digest() != before
    write(folder, "train", ["another"])
    assert Hub(str(folder), streaming=streaming).digest() != before


@pytest.mark.parametrize("streaming", [False, True])
def test_an_unknown_split_is_refused_with_the_nearest(folder: Path, streaming: bool) -> None:
    options = {"name": str(folder), "streaming": streaming}
    assert "no split 'trains' (did you mean 'train'?)" in refused("data.split", split="trains", **options)
    corpus = Hub(str(folder), validation_split="validations", streaming=streaming)
    with pytest.raises(ConfigError, match=r"data\.validation_split: .*'validation'"):
        list(corpus.documents("validation"))


def test_an_unknown_column_is_refused(folder: Path) -> None:
    problem = refused("data.text_column", name=str(folder), text_column="txt")
    assert "(did you mean 'text'?); its columns: text, id, title" in problem


def test_an_unknown_configuration_is_refused(folder: Path) -> None:
    assert "'nope' not found" in refused("data.config", name=str(folder), config="nope")


def test_a_directory_that_is_not_there_is_refused() -> None:
    assert "no directory './nothing'" in refused("data.name", name="./nothing")


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    assert "cannot be loaded" in refused("data.name", name=str(tmp_path))


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    import datasets

    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)


def test_a_dataset_that_the_hub_does_not_know_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets.exceptions import DatasetNotFoundError

    failing(monkeypatch, DatasetNotFoundError("Dataset 'a/b'\ndoesn't exist on the Hub"))
    assert "there is no dataset 'a/b'" in refused("data.name", name="a/b")


def test_no_network_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, ConnectionError("Couldn't reach the Hub\n(details)"))
    assert "the hub cannot be reached" in refused("data.name", name="a/b")
