import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from ntp.config.errors import ConfigError
from ntp.data import prepare as prepare_module
from ntp.data.prepare import Prepared, prepare, prepare_text
from ntp.data.tokenizers import BytePair, Bytes, Characters, Unigram
from tests.data.conftest import Given

DOCUMENTS = [f"def f{number}(x):\n    return x + {number * number}\n" for number in range(200)]


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def decoded(prepared: Prepared, part: str) -> str:
    return prepared.tokenizer.decode(getattr(prepared, part).tokens)


def everything_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_both_parts_are_the_text(cache_dir: Path) -> None:
    prepared = prepare(Given(DOCUMENTS), BytePair(450), validation_fraction=0.2, cache_dir=cache_dir)
    assert prepared.train.documents + prepared.validation.documents == len(DOCUMENTS)
    assert prepared.train.total_bytes + prepared.validation.total_bytes == sum(map(len, DOCUMENTS))
    parts = decoded(prepared, "train") + decoded(prepared, "validation")
    assert all(text in parts for text in DOCUMENTS)


def test_the_tokenizer_learns_from_the_training_part_alone(cache_dir: Path) -> None:
    prepared = prepare(Given(["abcabcabz"]), Characters(), validation_fraction=0.2, cache_dir=cache_dir)
    assert prepared.tokenizer.token_to_id("c") is not None
    assert prepared.tokenizer.token_to_id("z") is None
    assert "1 tokens of the validation text are unknown to the tokenizer" in prepared.notes


def test_a_vocabulary_that_could_not_be_filled_is_said(cache_dir: Path) -> None:
    prepared = prepare(Given(DOCUMENTS), BytePair(5000), cache_dir=cache_dir)
    size = prepared.tokenizer.vocabulary_size
    assert f"the text is enough for a vocabulary of {size} tokens, not of 5000" in prepared.notes


def test_the_second_time_nothing_is_read_and_everything_is_the_same(cache_dir: Path) -> None:
    corpus = Given(["0123456789" * 20])
    first = prepare(corpus, Bytes(), cache_dir=cache_dir)
    again = Given(corpus.train)
    second = prepare(again, Bytes(), cache_dir=cache_dir)
    assert again.reads == 0
    assert (second.notes, second.digest) == (first.notes, first.digest)
    assert second.tokenizer.digest() == first.tokenizer.digest()
    assert np.array_equal(second.train.tokens, first.train.tokens)


def test_whatever_shapes_the_data_changes_the_digest(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(corpus: Given, recipe: Bytes | BytePair | Unigram, **options: float | str) -> str:
        return prepare(corpus, recipe, cache_dir=cache_dir, **options).digest  # type: ignore[arg-type]

    corpus = Given(DOCUMENTS)
    digests = [
        digest(corpus, Bytes()),
        digest(Given(DOCUMENTS[1:]), Bytes()),
        digest(corpus, Bytes(sentinels=3)),
        digest(corpus, BytePair(400)),
        digest(corpus, BytePair(401)),
        digest(corpus, Bytes(), validation_fraction=0.3),
        digest(corpus, Bytes(), validation="tail"),
        digest(Given(DOCUMENTS, ["own"]), Bytes()),
    ]
    monkeypatch.setattr(prepare_module, "CODE_VERSION", 0)
    digests.append(digest(corpus, Bytes()))
    assert len(set(digests)) == len(digests)


def test_the_fraction_does_not_matter_where_the_corpus_has_its_own_split(cache_dir: Path) -> None:
    digests = {
        prepare(Given(["a"], ["b"]), Bytes(), validation_fraction=fraction, cache_dir=cache_dir).digest
        for fraction in (0.1, 0.2)
    }
    assert len(digests) == 1


DAMAGES = {
    "a changed token file": lambda entry: (entry / "train" / "tokens.npy").write_bytes(b"\x93NUMPY nonsense"),
    "a missing manifest": lambda entry: (entry / "validation" / "manifest.json").unlink(),
    "an unreadable tokenizer": lambda entry: (entry / "tokenizer" / "tokenizer.json").write_text("{}"),
    "another tokenizer": lambda entry: Bytes(sentinels=1).train().save(entry / "tokenizer"),
    "missing notes": lambda entry: (entry / "prepared.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_made_again_and_that_is_said(cache_dir: Path, damage: str) -> None:
    first = prepare(Given(DOCUMENTS), Bytes(), cache_dir=cache_dir)
    tokens = first.train.tokens.tolist()
    DAMAGES[damage](first.train.directory.parent)
    second = prepare(Given(DOCUMENTS), Bytes(), cache_dir=cache_dir)
    assert second.train.tokens.tolist() == tokens
    assert "was damaged" in second.notes[-1]
    assert not prepare(Given(DOCUMENTS), Bytes(), cache_dir=cache_dir).notes


class Breaking(Given):
    """Fails in the middle of being tokenised."""

    def read(self, split: str) -> Iterator[str]:
        yield from self.train
        raise RuntimeError("the source is gone")


def test_a_failure_leaves_nothing_behind(cache_dir: Path) -> None:
    with pytest.raises(RuntimeError):
        prepare(Breaking(DOCUMENTS), Bytes(), cache_dir=cache_dir)
    assert everything_below(cache_dir) == []


def test_a_full_disk_is_said_and_leaves_nothing_behind(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ntp.data.store._ArrayFile.append", full)
    with pytest.raises(ConfigError, match=r"data\.cache_dir: no space left in"):
        prepare(Given(DOCUMENTS), Bytes(), cache_dir=cache_dir)
    assert everything_below(cache_dir) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_disk_that_is_really_full_is_told_from_other_errors(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def open_full(path: Path, mode: str = "r", *arguments: object, **options: object) -> object:
        return real(
            Path("/dev/full") if path.name == "tokens.npy" and "w" in mode else path, mode, *arguments, **options
        )  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(ConfigError, match="no space left"):
        prepare(Given(DOCUMENTS), Bytes(), cache_dir=cache_dir)
    assert everything_below(cache_dir) == []


def test_a_cache_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"data\.cache_dir: .* cannot be written"):
        prepare(Given(DOCUMENTS), Bytes(), cache_dir=tmp_path / "file")


def test_leftovers_of_a_killed_process_are_removed(cache_dir: Path) -> None:
    first = prepare(Given(DOCUMENTS), Bytes(), cache_dir=cache_dir)
    entry = first.train.directory.parent
    leftover = entry.parent / f".{entry.name}.abc.building"
    entry.rename(leftover)
    prepare(Given(DOCUMENTS), Bytes(), cache_dir=cache_dir)
    assert not leftover.exists()


def test_of_two_that_ask_at_once_one_works(cache_dir: Path) -> None:
    corpora = [Given(DOCUMENTS * 20) for _ in range(2)]
    threads = [
        threading.Thread(target=prepare, args=(one, BytePair(450)), kwargs={"cache_dir": cache_dir}) for one in corpora
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(corpus.reads for corpus in corpora) == [0, 1]


PREPARE = """
import sys
from ntp.data.corpora import Files
from ntp.data.prepare import prepare
from ntp.data.tokenizers import BytePair, Unigram, WordPiece
for recipe in (BytePair(700), WordPiece(900), Unigram(700)):
    one = prepare(Files(sys.argv[1], document="line"), recipe, cache_dir=sys.argv[2])
    print(one.digest, one.tokenizer.digest(), one.train.manifest["files"], one.validation.manifest["files"])
"""


def test_two_processes_prepare_the_same_files(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("".join(DOCUMENTS))
    outputs = [
        subprocess.run(
            [sys.executable, "-c", PREPARE, str(tmp_path / "text.txt"), str(tmp_path / f"cache{seed}")],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert len(outputs[0].splitlines()) == 3
    assert outputs[0] == outputs[1]


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, ntp.data.prepare, ntp.data.corpora; print([m for m in ('torch', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- any text with a tokenizer that exists


def test_a_whole_corpus_can_be_tokenised(cache_dir: Path) -> None:
    tokenizer = Bytes().train()
    store = prepare_text(Given(["ab", "cd"], ["ef"]), tokenizer, cache_dir=cache_dir)
    assert tokenizer.decode(store.tokens) == "abcdef"
    again = Given(["ab", "cd"], ["ef"])
    assert np.array_equal(prepare_text(again, tokenizer, cache_dir=cache_dir).tokens, store.tokens)
    assert again.reads == 0


def test_a_part_is_the_part_that_was_prepared(cache_dir: Path) -> None:
    prepared = prepare(Given(DOCUMENTS), BytePair(450), validation_fraction=0.2, cache_dir=cache_dir)
    for part in ("train", "validation"):
        store = prepare_text(
            Given(DOCUMENTS),
            prepared.tokenizer,
            split=part,
            validation_fraction=0.2,
            cache_dir=cache_dir,
        )
        assert np.array_equal(store.tokens, getattr(prepared, part).tokens)


def test_a_corpus_without_text_is_refused(cache_dir: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.given: there is no text in it"):
        prepare_text(Given([" "]), Bytes().train(), cache_dir=cache_dir)
