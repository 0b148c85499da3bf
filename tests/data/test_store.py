import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from ntp.data import store as store_module
from ntp.data.store import DamagedStore, TokenStore, write_store
from ntp.data.tokenizers import Bytes, Characters, Tokenizer

TEXTS = ["first é\n", "second", "🙂" * 3]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Bytes().train()


@pytest.fixture
def store(tmp_path: Path, tokenizer: Tokenizer) -> TokenStore:
    return write_store(tmp_path / "store", TEXTS, tokenizer, {"corpus": {"name": "test"}})


def test_each_document_ends_with_the_end_of_text(store: TokenStore, tokenizer: Tokenizer) -> None:
    assert store.documents == 3
    for index, text in enumerate(TEXTS):
        ids = store.tokens[store.offsets[index] : store.offsets[index + 1]]
        assert ids[-1] == tokenizer.end_of_text
        assert tokenizer.decode(ids[:-1]) == text


def test_bytes_sum_to_the_text_and_the_end_of_text_has_none(store: TokenStore) -> None:
    size = sum(len(text.encode()) for text in TEXTS)
    assert store.bytes.sum() == store.total_bytes == size
    assert store.bytes[store.offsets[1:] - 1].tolist() == [0, 0, 0]
    assert store.bytes_per_token == size / len(store) == size / (size + 3)


def test_types_are_as_small_as_the_values_allow(store: TokenStore) -> None:
    assert (store.tokens.dtype, store.bytes.dtype, store.offsets.dtype) == (np.uint16, np.uint8, np.int64)


def test_numpy_reads_the_files(store: TokenStore) -> None:
    assert np.array_equal(np.load(store.directory / "tokens.npy"), store.tokens)


def test_a_token_of_many_bytes_widens_the_type(tmp_path: Path) -> None:
    # Whitespace in front of a word is no token here and counts for the word.
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers

    backend = Backend(models.WordLevel(vocab={"<|endoftext|>": 0, "a": 1, "?": 2}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    texts = ["a", " " * 300 + "a", "a", " " * 70_000 + "a", "a"]
    store = write_store(tmp_path / "store", texts, Tokenizer(backend), {})
    assert store.bytes.dtype == np.uint32
    assert store.bytes.tolist() == [1, 0, 301, 0, 1, 0, 70_001, 0, 1, 0]
    assert sorted(path.name for path in store.directory.iterdir()) == [
        "bytes.npy",
        "manifest.json",
        "offsets.npy",
        "tokens.npy",
    ]


def test_a_vocabulary_above_two_bytes_takes_four(tmp_path: Path) -> None:
    characters = "ab" + "".join(chr(point) for point in range(0x10000, 0x20000))
    tokenizer = Characters().train([characters])
    store = write_store(tmp_path / "store", ["ab"], tokenizer, {})
    assert store.tokens.dtype == np.uint32
    assert tokenizer.decode(store.tokens) == "ab"


def test_unknown_tokens_are_counted(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", ["abxx"], Characters().train(["ab"]), {})
    assert store.manifest["unknown_tokens"] == 2
    assert store.total_bytes == 4


def test_the_manifest_says_where_it_comes_from(store: TokenStore, tokenizer: Tokenizer) -> None:
    manifest = json.loads((store.directory / "manifest.json").read_text())
    assert manifest["corpus"] == {"name": "test"}
    assert manifest["tokenizer_digest"] == tokenizer.digest()
    assert (manifest["tokens"], manifest["documents"]) == (len(store), 3)
    assert manifest["files"].keys() == {"tokens.npy", "bytes.npy", "offsets.npy"}


def test_an_opened_store_is_the_one_that_was_written(store: TokenStore) -> None:
    opened = TokenStore.open(store.directory)
    assert np.array_equal(opened.tokens, store.tokens)
    assert opened.total_bytes == store.total_bytes


def test_another_process_maps_the_same_files(store: TokenStore) -> None:
    raw = pickle.dumps(store)
    assert len(raw) < 5000
    assert np.array_equal(pickle.loads(raw).tokens, store.tokens)


@pytest.mark.parametrize("name", ["tokens.npy", "bytes.npy", "offsets.npy", "manifest.json"])
def test_a_missing_file_is_damage(store: TokenStore, name: str) -> None:
    (store.directory / name).unlink()
    with pytest.raises(DamagedStore, match=name):
        TokenStore.open(store.directory)


def test_a_shortened_file_is_damage(store: TokenStore) -> None:
    path = store.directory / "tokens.npy"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(DamagedStore, match=r"tokens\.npy has \d+ bytes instead of"):
        TokenStore.open(store.directory)


def flip_a_bit(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(raw)


def test_a_flipped_bit_is_damage(store: TokenStore) -> None:
    flip_a_bit(store.directory / "tokens.npy")
    with pytest.raises(DamagedStore, match=r"contents of tokens\.npy have changed"):
        TokenStore.open(store.directory)


def test_contents_of_large_stores_are_compared_only_on_request(
    store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "VERIFIED_BELOW", 10)
    flip_a_bit(store.directory / "tokens.npy")
    TokenStore.open(store.directory)
    with pytest.raises(DamagedStore):
        TokenStore.open(store.directory, verify=True)


@pytest.mark.parametrize("manifest", ["", "{}", "[]", '{"format": 0}'])
def test_an_unreadable_manifest_is_damage(store: TokenStore, manifest: str) -> None:
    (store.directory / "manifest.json").write_text(manifest)
    with pytest.raises(DamagedStore):
        TokenStore.open(store.directory)
