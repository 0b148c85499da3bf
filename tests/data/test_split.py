from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntp.config.errors import ConfigError
from ntp.data import split
from ntp.data.split import Texts, divide, hash_place
from tests.data.conftest import Given

DOCUMENTS = [f"document {number}" for number in range(1000)]


def parts(documents: list[str], validation: Any, fraction: float) -> tuple[list[str], list[str]]:
    division = divide(Given(documents), validation, fraction)
    return list(division.train), list(division.validation)


def test_every_document_falls_on_one_side_by_its_hash() -> None:
    train, held_out = parts(DOCUMENTS, "auto", 0.1)
    assert sorted(train + held_out) == sorted(DOCUMENTS)
    assert held_out == [text for text in DOCUMENTS if hash_place(text) < 0.1]
    assert 70 < len(held_out) < 130


def test_adding_documents_moves_none_across_the_line() -> None:
    _, before = parts(DOCUMENTS[::2], "hash", 0.1)
    _, after = parts(DOCUMENTS, "hash", 0.1)
    assert set(before) <= set(after)


def test_a_larger_fraction_holds_out_the_same_and_more() -> None:
    _, small = parts(DOCUMENTS, "hash", 0.05)
    _, large = parts(DOCUMENTS, "hash", 0.2)
    assert set(small) < set(large)


@given(
    documents=st.lists(st.text(min_size=1).filter(lambda text: not text.isspace()), min_size=2, unique=True),
    fraction=st.floats(0.001, 0.999),
)
def test_neither_side_of_the_hash_is_empty(documents: list[str], fraction: float) -> None:
    train, held_out = parts(documents, "hash", fraction)
    assert train
    assert held_out
    assert sorted(train + held_out) == sorted(documents)


def test_the_tail_of_tiny_shakespeare_begins_at_its_published_place() -> None:
    train, held_out = parts(["x" * 1_115_394], "tail", 0.1)
    assert [len(text) for text in train] == [1_003_854]
    assert [len(text) for text in held_out] == [111_540]


def test_the_tail_cuts_across_documents() -> None:
    assert parts(["aaaa", "bbbb", "cc"], "tail", 0.4) == (["aaaa", "bb"], ["bb", "cc"])
    assert parts(["aaaa", "bbbb", "cc"], "tail", 0.2) == (["aaaa", "bbbb"], ["cc"])


@given(
    documents=st.lists(st.text(min_size=1).filter(lambda text: not text.isspace()), min_size=1),
    fraction=st.floats(0.01, 0.99),
)
def test_both_sides_of_the_tail_are_the_whole_text(documents: list[str], fraction: float) -> None:
    text = "".join(documents)
    cut = int(len(text) * (1 - fraction))
    if 0 < cut < len(text):
        train, held_out = parts(documents, "tail", fraction)
        assert ("".join(train), "".join(held_out)) == (text[:cut], text[cut:])
        assert "" not in train + held_out
    else:
        with pytest.raises(ConfigError):
            divide(Given(documents), "tail", fraction)


@pytest.mark.parametrize("validation", ["auto", "hash"])
def test_a_single_document_is_divided_by_its_tail_and_that_is_said(validation: Any) -> None:
    division = divide(Given(["0123456789"]), validation, 0.2)
    assert (list(division.train), list(division.validation)) == (["01234567"], ["89"])
    assert division.method == "tail"
    assert "one document only" in division.notes[0]
    assert divide(Given(["0123456789"]), "tail", 0.2).notes == ()


def test_a_corpus_with_its_own_validation_split_keeps_it() -> None:
    division = divide(Given(["a", "b"], ["c"]), "auto", 0.5)
    assert (list(division.train), list(division.validation)) == (["a", "b"], ["c"])
    assert division.method == "own"


def test_its_own_validation_split_is_left_out_where_another_is_asked_for() -> None:
    division = divide(Given(["a", "b"], ["c"]), "tail", 0.5)
    assert (list(division.train), list(division.validation)) == (["a"], ["b"])


def test_a_corpus_without_text_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.given: there is no text in it"):
        divide(Given(["", " "]), "auto", 0.1)


def test_an_own_validation_split_without_text_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.given: the validation split holds no text"):
        divide(Given(["a"], [" "]), "auto", 0.1)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0])
def test_a_fraction_that_is_none_is_refused(fraction: float) -> None:
    with pytest.raises(ConfigError, match=r"data\.validation_fraction"):
        divide(Given(["a", "b"]), "hash", fraction)


def test_a_tail_without_a_character_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.validation_fraction: 0.99 of 3 characters leaves one part empty"):
        divide(Given(["abc"]), "tail", 0.99)


def test_equal_documents_cannot_be_told_apart_by_hash() -> None:
    with pytest.raises(ConfigError, match=r"data\.validation: .* use tail"):
        divide(Given(["a", "a"]), "hash", 0.5)


def test_a_small_corpus_is_read_once() -> None:
    corpus = Given(DOCUMENTS)
    division = divide(corpus, "hash", 0.1)
    for _ in range(3):
        assert len(list(division.train)) + len(list(division.validation)) == len(DOCUMENTS)
    assert corpus.reads == 1


def test_a_large_corpus_is_read_again_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split, "_KEPT_CHARACTERS", 100)
    corpus = Given(DOCUMENTS)
    texts = Texts(corpus.documents)
    assert list(texts) == list(texts) == DOCUMENTS
    assert texts.characters == sum(map(len, DOCUMENTS))
    assert corpus.reads == 2
