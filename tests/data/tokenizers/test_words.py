"""Which tokens begin a word, for every kind of tokenizer."""

import copy
import pickle
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntp.config.errors import ConfigError
from ntp.data.special_tokens import MASK
from ntp.data.tokenizers import BytePair, Tokenizer
from ntp.data.tokenizers.byte_counts import byte_alphabet
from ntp.data.tokenizers.byte_level import byte_level_words
from tests.data.tokenizers.conftest import LOSSLESS, TEXTS

ANY_TEXT = st.text() | st.text(alphabet=" \n\t'saé日🙂\u03011_#.⁀▁")
CODE = "def foo(x):\n    return x.bar(1234, naïve)  # it's 日本語 🙂🙂!!\n\n\n"


def byte_level(add_prefix_space: bool = False, normalizer: Any = None) -> Tokenizer:
    """GPT-2's way: one pre-tokenizer that cuts and spells, and no pieces but bytes and a merge."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers

    alphabet = sorted(byte_alphabet())
    vocabulary = {one: index for index, one in enumerate([*alphabet, "Ġa", "ab", "</s>"])}
    backend = Backend(models.BPE(vocab=vocabulary, merges=[("Ġ", "a"), ("a", "b")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    backend.decoder = decoders.ByteLevel()
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.add_special_tokens(["</s>"])
    return Tokenizer(backend, {"<|endoftext|>": "</s>"})


def bert() -> Tokenizer:
    """Lower-cases, drops whitespace, marks pieces inside a word; some words are unknown."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, normalizers, pre_tokenizers

    pieces = ["[UNK]", "[SEP]", *(mark + one for mark in ("", "##") for one in "abs'.1"), "ab", "##s'", "def", "foo"]
    backend = Backend(models.WordPiece(vocab={one: index for index, one in enumerate(pieces)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(["[UNK]", "[SEP]"])
    return Tokenizer(backend, {"<|endoftext|>": "[SEP]"})


def sentence_piece(by_normalizer: bool = False) -> Tokenizer:
    """Llama's way: spaces are marked, unknown characters fall back to bytes."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, normalizers, pre_tokenizers

    pieces = [("<unk>", 0.0), ("</s>", 0.0), *((f"<0x{byte:02X}>", -9.0) for byte in range(256))]
    pieces += [("▁", -2.0), ("a", -2.0), ("b", -2.0), ("▁ab", -1.0)]
    backend = Backend(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    if by_normalizer:
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    backend.add_special_tokens(["<unk>", "</s>"])
    return Tokenizer(backend, {"<|endoftext|>": "</s>"})


def clip() -> Tokenizer:
    """CLIP's way: a mark at the end of each word; whitespace is dropped."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers

    pieces = ["</s>", "a", "b", "a</w>", "b</w>", "ab</w>"]
    model = models.BPE(
        vocab={one: index for index, one in enumerate(pieces)}, merges=[("a", "b</w>")], end_of_word_suffix="</w>"
    )
    backend = Backend(model)
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(["</s>"])
    return Tokenizer(backend, {"<|endoftext|>": "</s>"})


def pre_tokenized(tokenizer: Tokenizer, text: str, cutter: Any = None) -> list[bytes]:
    """The words that a byte-level tokenizer itself makes of a text."""
    alphabet = byte_alphabet()
    cutter = tokenizer.backend.pre_tokenizer if cutter is None else cutter
    if tokenizer.backend.normalizer is not None:
        text = tokenizer.backend.normalizer.normalize_str(text)
    return [bytes(alphabet[one] for one in word) for word, _ in cutter.pre_tokenize_str(text)]


def words(tokenizer: Tokenizer, ids: np.ndarray) -> list[np.ndarray]:
    """The ids of each word."""
    starts = tokenizer.word_starts(ids)
    assert starts.dtype == bool
    assert len(starts) == len(ids)
    return np.split(ids, np.flatnonzero(starts))[1:]


def spelled(tokenizer: Tokenizer, ids: np.ndarray) -> bytes:
    """The bytes of tokens of a byte-level vocabulary."""
    prefix = "⁀"
    return bytes(
        byte_alphabet()[one] for index in ids for one in str(tokenizer.id_to_token(index)).removeprefix(prefix)
    )


@settings(deadline=None, max_examples=80)
@given(text=ANY_TEXT)
def test_words_are_those_of_the_pre_tokenizer(tokenizers: dict[str, Tokenizer], text: str) -> None:
    for name in ("bpe", "wordpiece", "unigram"):
        tokenizer = tokenizers[name]
        found = [spelled(tokenizer, word) for word in words(tokenizer, tokenizer.encode(text))]
        assert found == pre_tokenized(tokenizer, text), name


@settings(deadline=None, max_examples=60)
@given(text=ANY_TEXT)
def test_one_token_a_byte_has_the_words_of_gpt2(tokenizers: dict[str, Tokenizer], text: str) -> None:
    tokenizer = tokenizers["bytes"]
    found = [spelled(tokenizer, word) for word in words(tokenizer, tokenizer.encode(text))]
    assert found == pre_tokenized(tokenizer, text, byte_level_words(None))


@settings(deadline=None, max_examples=60)
@given(text=ANY_TEXT)
def test_every_character_is_a_word_of_its_own(tokenizers: dict[str, Tokenizer], text: str) -> None:
    tokenizer = tokenizers["char"]
    assert tokenizer.word_starts(tokenizer.encode(text)).all()


def composing() -> Tokenizer:
    """Qwen's way: accents are composed with their letters first."""
    from tokenizers import normalizers

    return byte_level(normalizer=normalizers.NFC())


@pytest.mark.parametrize("make", [byte_level, lambda: byte_level(add_prefix_space=True), composing])
def test_words_of_other_byte_level_tokenizers_are_those_of_their_pre_tokenizers(make: Callable[[], Tokenizer]) -> None:
    tokenizer = make()

    @settings(deadline=None, max_examples=60)
    @given(text=ANY_TEXT)
    def check(text: str) -> None:
        found = [spelled(tokenizer, word) for word in words(tokenizer, tokenizer.encode(text))]
        assert found == pre_tokenized(tokenizer, text)

    check()


def test_a_prefix_space_is_not_added_to_a_row_that_begins_inside_a_word() -> None:
    tokenizer = byte_level(add_prefix_space=True)
    ids = tokenizer.encode("xyz uvw")
    assert tokenizer.word_starts(ids[2:]).tolist() == [True, False, True, False, False, False]


@settings(deadline=None, max_examples=80)
@given(text=st.text(alphabet=" \n'aabbsf.1é日"))
def test_words_of_wordpiece_are_those_of_its_pre_tokenizer(text: str) -> None:
    tokenizer = bert()
    ids = tokenizer.backend.encode(text, add_special_tokens=False).ids
    theirs = tokenizer.backend.pre_tokenizer.pre_tokenize_str(tokenizer.backend.normalizer.normalize_str(text))
    found = words(tokenizer, np.array(ids, dtype=np.int64))
    assert len(found) == len(theirs)
    for ours, (word, _) in zip(found, theirs, strict=True):
        pieces = [str(tokenizer.id_to_token(one)) for one in ours]
        assert pieces == ["[UNK]"] or "".join(one.removeprefix("##") for one in pieces) == word


@settings(deadline=None, max_examples=60)
@given(text=st.text(alphabet=" aabb日"))
def test_words_of_metaspace_are_those_of_its_pre_tokenizer(text: str) -> None:
    tokenizer = sentence_piece()
    ids = tokenizer.backend.encode(text, add_special_tokens=False).ids
    found = words(tokenizer, np.array(ids, dtype=np.int64))
    assert len(found) == len(tokenizer.backend.pre_tokenizer.pre_tokenize_str(text))


def test_a_marker_that_the_normalizer_writes_begins_a_word_too() -> None:
    tokenizer = sentence_piece(by_normalizer=True)
    ids = tokenizer.encode("ab a ab")
    pieces = [[tokenizer.id_to_token(one) for one in word] for word in words(tokenizer, ids)]
    assert pieces == [["▁ab"], ["▁", "a"], ["▁ab"]]


def test_a_marker_at_the_end_of_words_is_understood() -> None:
    tokenizer = clip()
    pieces = [[tokenizer.id_to_token(one) for one in word] for word in words(tokenizer, tokenizer.encode("ab aab b"))]
    assert pieces == [["ab</w>"], ["a", "ab</w>"], ["b</w>"]]


def test_gaps_of_whitespace_would_make_one_word_of_a_whole_text(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["bpe"]
    offsets = tokenizer.backend.encode(CODE, add_special_tokens=False).offsets
    gaps = sum(begin > end for (_, end), (begin, _) in pairwise(offsets))
    assert gaps == 0
    assert len(words(tokenizer, tokenizer.encode(CODE))) == len(pre_tokenized(tokenizer, CODE)) == 22


@settings(deadline=None, max_examples=60)
@given(texts=st.lists(ANY_TEXT, min_size=1, max_size=5))
def test_special_tokens_are_words_of_their_own_and_break_the_text(
    tokenizers: dict[str, Tokenizer], texts: list[str]
) -> None:
    for tokenizer in tokenizers.values():
        mask = tokenizer.special_tokens[MASK]
        parts = [part for text in texts for part in (tokenizer.encode(text), np.array([mask]))]
        expected = [start for part in parts for start in tokenizer.word_starts(part).tolist()]
        assert tokenizer.word_starts(np.concatenate(parts)).tolist() == expected


def test_an_added_token_that_is_not_special_breaks_the_text_too() -> None:
    from tokenizers import AddedToken

    tokenizer = byte_level()
    tokenizer.backend.add_tokens([AddedToken("xx")])
    tokenizer = Tokenizer(tokenizer.backend, tokenizer.names)
    ids = tokenizer.encode("cdxxef")
    assert len(ids) == 5
    assert tokenizer.word_starts(ids).tolist() == [True, False, True, True, False]


@settings(deadline=None, max_examples=80)
@given(text=st.lists(st.text(alphabet="aé日𝒳", min_size=1), min_size=1).map(" ".join), data=st.data())
def test_a_row_cut_anywhere_even_inside_a_character_has_the_words_of_the_text(
    tokenizers: dict[str, Tokenizer], text: str, data: st.DataObject
) -> None:
    for name in LOSSLESS:
        tokenizer = tokenizers[name]
        ids = tokenizer.encode(text)
        begin = data.draw(st.integers(0, len(ids) - 1))
        end = data.draw(st.integers(begin + 1, len(ids)))
        expected = tokenizer.word_starts(ids)[begin:end]
        expected[0] = True
        assert tokenizer.word_starts(ids[begin:end]).tolist() == expected.tolist()


@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_any_ids_at_all_have_words(tokenizers: dict[str, Tokenizer], data: st.DataObject) -> None:
    for tokenizer in tokenizers.values():
        ids = np.array(data.draw(st.lists(st.integers(0, tokenizer.vocabulary_size - 1))), dtype=np.int64)
        starts = tokenizer.word_starts(ids)
        assert len(starts) == len(ids)
        assert starts[:1].all()


def test_tokens_that_do_not_tell_where_words_begin_are_refused() -> None:
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers

    backend = Backend(models.BPE(vocab={"a": 0, "</s>": 1}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens(["</s>"])
    with pytest.raises(ConfigError, match=r"data\.tokenizer: its tokens do not tell where words begin"):
        Tokenizer(backend, {"<|endoftext|>": "</s>"}).word_starts(np.array([0]))


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_in_another_process_has_the_same_words(clone: Callable[[Tokenizer], Tokenizer]) -> None:
    tokenizer = BytePair(450).train(TEXTS)
    ids = tokenizer.encode(CODE)
    before = tokenizer.word_starts(ids)
    assert np.array_equal(clone(tokenizer).word_starts(ids), before)


def test_ids_of_text_are_all_but_the_special_ones(tokenizer: Tokenizer) -> None:
    ids = tokenizer.text_ids
    assert set(ids.tolist()) == set(range(tokenizer.vocabulary_size)) - tokenizer.special_ids
    assert (np.diff(ids) > 0).all()
