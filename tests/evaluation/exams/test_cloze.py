"""Single words and what is around them."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntp.evaluation.exams.cloze import Cloze
from ntp.evaluation.exams.exam import Document
from ntp.evaluation.exams.likelihood import text_question
from tests.evaluation.exams.texts import PROGRAM, PROSE


def words(text, seed=0, **arguments):
    """(group, text) of the questions about a text."""
    document = Document.of(text)
    items = Cloze(**arguments).items(document, np.random.default_rng(seed))
    return [(item["group"], document.content[slice(*item["asked"])].decode()) for item in items]


@given(st.text(st.sampled_from("ab1_ π.\n😀"), max_size=200), st.integers(0, 9), st.integers(4, 60))
def test_a_word_is_whole_and_has_something_around_it(text, seed, size):
    document = Document.of(text)
    for item in Cloze(window_bytes=size).items(document, np.random.default_rng(seed)):
        (begin, end), (first, last) = item["window"], item["asked"]
        assert begin <= first < last <= end
        assert (first, last) != (begin, end)
        word = document.content[first:last].decode("utf-8", "surrogatepass")
        assert re.fullmatch(r" ?\w+", word)
        before = document.content[:first].decode("utf-8", "surrogatepass")
        after = document.content[last:].decode("utf-8", "surrogatepass")
        assert word.startswith(" ") or not re.match(r"\w", before[-1:])
        assert not re.match(r"\w", after)


def test_words_are_asked_for_with_the_space_in_front_of_them_but_not_with_an_indentation():
    found = {word for seed in range(60) for _, word in words("x = (alone)\n  if y\n", seed, words=8)}
    assert " y" in found
    assert "alone" in found
    assert "if" in found
    assert " if" not in found


def test_in_a_program_names_keywords_and_words_of_text_are_told_apart():
    found = set(words(PROGRAM, window_bytes=2000, words=1000))
    assert {("name", "radius"), ("keyword", "return"), ("word", " stands"), ("word", "π"), ("word", " maps")} <= found
    # Words of comments and strings that look like keywords.
    assert {("word", " is"), ("word", " for"), ("word", " and"), ("word", " from")} <= found
    # Numbers, and whatever stands in the braces of an f-string, whose letter is no word.
    assert not {word.strip() for _, word in found} & {"2", "1", "f"}
    assert {group for group, word in found if word.strip() == "another"} == {"word"}


def test_in_another_text_all_words_are_words():
    found = set(words(PROSE, window_bytes=4000, words=1000))
    assert {group for group, _ in found} == {"word"}
    assert {" naïve", " café", " said", "Nobody", "s", " 5"} <= {word for _, word in found}


def test_data_without_spaces_has_no_words_of_hundreds_of_characters():
    assert words("x " + "a" * 100 + " " + "b" * 10 + " z.", words=10) == [
        ("word", "x"),
        ("word", " bbbbbbbbbb"),
        ("word", " z"),
    ]


def test_no_word_is_asked_for_twice():
    exam = Cloze(window_bytes=2000, words=1000).make("cloze", [PROGRAM])
    places = [tuple(item["asked"]) for item in exam.items]
    assert len(set(places)) == len(places)
    assert places == sorted(places)


@pytest.mark.parametrize("text", [PROGRAM, PROSE], ids=["program", "prose"])
def test_everything_else_is_given(text):
    exam = Cloze(windows=1, window_bytes=10_000).make("cloze", [text])
    assert len(exam.items) == 4
    for item in exam.items:
        question = text_question(exam, item, "cloze")
        assert question.before + question.target + question.after == text
