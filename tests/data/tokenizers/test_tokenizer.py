import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntp.config.errors import ConfigError
from ntp.data.tokenizers import Bytes, Characters, Tokenizer
from tests.data.tokenizers.conftest import LOSSLESS, TEXTS

ANY_TEXT = st.text() | st.text(alphabet=" \n\t ab1_#⁀é日🙂\u0301<|>")


def lower_casing() -> Tokenizer:
    """BERT's way: accents and control characters are dropped, whitespace is lost, words may be unknown."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, normalizers, pre_tokenizers

    vocabulary = ["[PAD]", "[UNK]", "[SEP]", "a", "b", "##a", "##b", "e", "##e", "1"]
    model = models.WordPiece(vocab={one: index for index, one in enumerate(vocabulary)}, unk_token="[UNK]")
    backend = Backend(model)
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(["[PAD]", "[UNK]", "[SEP]"])
    return Tokenizer(backend, {"<|endoftext|>": "[SEP]", "<|padding|>": "[PAD]"})


def sentence_piece() -> Tokenizer:
    """Llama's way: spaces are marked, unknown characters fall back to bytes."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers

    pieces = [("<unk>", 0.0), ("</s>", 0.0), *((f"<0x{byte:02X}>", -9.0) for byte in range(256))]
    pieces += [("▁", -2.0), ("a", -2.0), ("b", -2.0), ("▁ab", -1.0)]
    backend = Backend(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    backend.add_special_tokens(["<unk>", "</s>"])
    return Tokenizer(backend, {"<|endoftext|>": "</s>"})


def composing() -> Tokenizer:
    """Qwen's way: byte-level, after composing accents with their letters, which changes the bytes."""
    from tokenizers import normalizers

    tokenizer = Bytes().train()
    tokenizer.backend.normalizer = normalizers.NFC()
    return Tokenizer(tokenizer.backend)


@settings(deadline=None, max_examples=200)
@given(text=ANY_TEXT)
def test_lossless_tokenizers_give_every_text_back(tokenizers: dict[str, Tokenizer], text: str) -> None:
    for name in LOSSLESS:
        tokenizer = tokenizers[name]
        assert tokenizer.lossless
        assert tokenizer.decode(tokenizer.encode(text)) == text


@settings(deadline=None, max_examples=200)
@given(texts=st.lists(ANY_TEXT, max_size=3))
def test_byte_counts_sum_to_the_length_of_the_text(tokenizers: dict[str, Tokenizer], texts: list[str]) -> None:
    for tokenizer in tokenizers.values():
        for text, (ids, counts) in zip(texts, tokenizer.encode_batch(texts), strict=True):
            assert len(ids) == len(counts)
            assert counts.sum() == len(text.encode())


LOSSY = {make.__name__: make() for make in (lower_casing, sentence_piece, composing)}


@pytest.mark.parametrize("kind", LOSSY)
@settings(deadline=None, max_examples=200)
@given(text=ANY_TEXT)
def test_byte_counts_are_exact_where_the_tokenizer_is_not(kind: str, text: str) -> None:
    tokenizer = LOSSY[kind]
    assert not tokenizer.lossless
    ids, counts = tokenizer.encode_batch([text])[0]
    assert len(ids) == len(counts)
    assert (counts >= 0).all()
    assert counts.sum() == len(text.encode())


def test_dropped_whitespace_counts_for_the_token_behind_it() -> None:
    ids, counts = LOSSY["lower_casing"].encode_batch(["  Éa b  "])[0]
    assert [LOSSY["lower_casing"].id_to_token(one) for one in ids] == ["e", "##a", "b"]
    assert counts.tolist() == [4, 1, 4]


def test_a_text_of_which_nothing_is_kept_is_one_unknown_token() -> None:
    ids, counts = LOSSY["lower_casing"].encode_batch([" \n"])[0]
    assert ids.tolist() == [LOSSY["lower_casing"].unknown]
    assert counts.tolist() == [2]


def test_the_table_of_bytes_agrees_with_the_tokens_of_a_lossless_tokenizer(tokenizers: dict[str, Tokenizer]) -> None:
    for name in LOSSLESS:
        tokenizer = tokenizers[name]
        ids, counts = tokenizer.encode_batch([TEXTS[0]])[0]
        assert (tokenizer.token_bytes[ids] == counts).all()
        assert len(tokenizer.token_bytes) == tokenizer.vocabulary_size
        assert tokenizer.token_bytes[list(tokenizer.special_ids)].sum() == 0


@settings(deadline=None)
@given(text=ANY_TEXT)
def test_the_texts_of_lossless_tokens_put_together_are_the_text(tokenizers: dict[str, Tokenizer], text: str) -> None:
    for name in LOSSLESS:
        tokenizer = tokenizers[name]
        parts = [tokenizer.token_texts[one] for one in tokenizer.encode(text)]
        assert b"".join(parts) == text.encode()
        assert [len(one) for one in tokenizer.token_texts] == tokenizer.token_bytes.tolist()


def test_tokens_that_do_not_tell_their_text_have_none() -> None:
    with pytest.raises(ValueError, match="do not tell the text"):
        _ = Characters().train(["abc"]).token_texts


def test_characters_are_in_the_order_of_their_code_points() -> None:
    tokenizer = Characters(sentinels=0).train(["cab é\n"])
    first = len(tokenizer.special_ids)
    assert [tokenizer.id_to_token(first + index) for index in range(6)] == ["\n", " ", "a", "b", "c", "é"]
    assert tokenizer.token_bytes[first:].tolist() == [1, 1, 1, 1, 1, 2]
    assert tokenizer.decode(tokenizer.encode("a é\nb")) == "a é\nb"


def test_a_character_that_training_did_not_see_is_unknown_and_keeps_its_bytes() -> None:
    tokenizer = Characters().train(["abc"])
    ids, counts = tokenizer.encode_batch(["a🙂b"])[0]
    assert ids[1] == tokenizer.unknown
    assert counts.tolist() == [1, 4, 1]
    assert not tokenizer.lossless


def test_bytes_have_their_own_value_behind_the_special_tokens() -> None:
    tokenizer = Bytes().train()
    ids = tokenizer.encode("aé\n") - len(tokenizer.special_ids)
    assert ids.tolist() == list("aé\n".encode())


def test_words_of_any_length_are_encoded(tokenizers: dict[str, Tokenizer]) -> None:
    text = "日本" * 3000 + " " * 1000 + "a" * 5000
    for name in LOSSLESS:
        assert tokenizers[name].decode(tokenizers[name].encode(text)) == text


def test_the_continuation_mark_of_wordpiece_is_not_mistaken_for_text(tokenizers: dict[str, Tokenizer]) -> None:
    for text in ("⁀a", "##a", "a⁀a ##ab"):
        assert tokenizers["wordpiece"].decode(tokenizers["wordpiece"].encode(text)) == text


def test_special_tokens_can_be_shown_in_decoding(tokenizer: Tokenizer) -> None:
    ids = [tokenizer.end_of_text, *tokenizer.encode("def").tolist()]
    assert tokenizer.decode(ids) == "def"
    assert tokenizer.decode(ids, skip_special=False) == "<|endoftext|>def"


def test_a_saved_tokenizer_is_the_same_when_loaded(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        loaded = Tokenizer.load(path)
        assert loaded.digest() == tokenizer.digest()
        text = f"{TEXTS[0]}<|endoftext|>"
        assert np.array_equal(loaded.encode(text), tokenizer.encode(text))


def test_names_of_special_tokens_are_saved(tmp_path: Path) -> None:
    LOSSY["lower_casing"].save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.id_to_token(loaded.end_of_text) == "[SEP]"
    assert loaded.id_to_token(loaded.padding) == "[PAD]"
    assert loaded.token_to_id("<|mask|>") is None


def test_transformers_reads_what_is_saved(tokenizers: dict[str, Tokenizer], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizers["bpe"].save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.eos_token == "<|endoftext|>"
    assert theirs(TEXTS[0])["input_ids"] == tokenizers["bpe"].encode(TEXTS[0]).tolist()


def test_a_damaged_file_is_a_value_error(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": 1}))
    with pytest.raises(ValueError, match="is not a tokenizer"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_in_another_process_reads_no_special_tokens_either(
    tokenizers: dict[str, Tokenizer], clone: Callable[[Tokenizer], Tokenizer]
) -> None:
    copied = clone(tokenizers["bpe"])
    assert copied.end_of_text not in copied.encode("<|endoftext|>")
    assert copied.digest() == tokenizers["bpe"].digest()


def test_without_an_end_of_text_there_is_no_tokenizer() -> None:
    from tokenizers import Tokenizer as Backend
    from tokenizers import models

    with pytest.raises(ConfigError, match=r"data\.tokenizer\.end_of_text"):
        Tokenizer(Backend(models.WordLevel(vocab={"a": 0}, unk_token="a")))
