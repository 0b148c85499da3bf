"""Windows of documents, the questions about them, and what becomes of the answers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ntp.evaluation.exams.likelihood import AnyOrder, Continue, cut_windows, text_question
from ntp.evaluation.taking import candidate_of
from ntp.training.load import load_run
from tests.evaluation.exams.texts import PACKED, PROSE, Told

TEXTS = st.text(st.sampled_from("ab π\n\r€😀"), max_size=300)


@given(TEXTS, st.integers(1, 4), st.integers(1, 80), st.integers(0, 5))
def test_windows_are_parts_of_the_text_that_do_not_overlap(text, count, size, seed):
    content = text.encode("utf-8", "surrogatepass")
    windows = cut_windows(content, count, size, np.random.default_rng(seed))
    assert len(windows) <= count
    assert bool(windows) == bool(content) or size < 4  # less than a character
    places = [place for window in windows for place in window]
    assert places == sorted(places)
    for begin, end in windows:
        assert begin < end
        content[begin:end].decode("utf-8", "surrogatepass")
        assert end - begin <= size + 3  # a character is not cut


def test_a_text_that_is_no_longer_than_a_window_is_one():
    assert cut_windows(b"x" * 10, 3, 10, np.random.default_rng(0)) == [(0, 10)]


def test_windows_begin_and_end_with_lines_where_there_are_some_near():
    content = b"a line of text\n" * 100
    windows = cut_windows(content, 4, 120, np.random.default_rng(0))
    assert len(windows) == 4
    for begin, end in windows:
        assert begin == 0 or content[begin - 1 : begin] == b"\n"
        assert content[end - 1 : end] == b"\n"
        assert end - begin >= 60


def test_a_text_is_asked_for_as_a_whole_and_behind_its_first_half():
    text = "ab€" * 10
    exam = Continue(window_bytes=1000).make("continue", [text])
    whole, rest = (text_question(exam, item, "continue") for item in exam.items)
    assert (whole.before, whole.target, whole.ends) == ("", text, True)
    assert rest.before + rest.target == text
    assert len(rest.before.encode()) == 25
    (everything,) = (text_question(exam, item, "any_order") for item in AnyOrder().make("any", [text]).items)
    assert everything.target == text


def test_only_the_window_at_the_end_of_a_document_asks_for_its_end():
    exam = Continue(windows=8, window_bytes=64).make("continue", [PROSE])
    questions = [text_question(exam, item, "continue") for item in exam.items]
    ends = [one.ends for one in questions]
    assert not all(ends)
    last = max(item["window"][1] for item in exam.items)
    assert any(ends) == (last == len(PROSE.encode()))


def test_numbers_are_bits_over_the_bytes_of_what_was_asked_for():
    exam = Continue(window_bytes=1000, given=0.5).make("continue", ["abcd"])
    result = Continue().grade(exam, Told([4 * math.log(2), 1 * math.log(2)]))
    assert result.primary == "bits_per_byte"
    assert {name: one.value for name, one in result.measures.items()} == {
        "bits_per_byte": pytest.approx(1.0),
        "rest/bits_per_byte": pytest.approx(0.5),
    }
    assert result.measures["bits_per_byte"].standard_error is None
    assert (result.likelihood, result.given, result.groups) == ("exact", ("left",), ["whole", "rest"])
    assert len(result.documents) == 2


def test_errors_of_estimates_add_up_as_independent_ones_do():
    exam = AnyOrder().make("any_order", PACKED)
    one = Continue().make("continue", PACKED)
    result = Continue().grade(one, Told([1.0], "bound", drawn=True, variance=4.0))
    weights = sum(len(text) for text in PACKED)
    expected = math.sqrt(len(PACKED) * 4.0) / math.log(2) / weights
    assert result.measures["bits_per_byte"].standard_error == pytest.approx(expected)
    assert len(exam.items) == len(PACKED)


def test_a_single_estimate_has_no_error_that_anybody_knows():
    exam = Continue().make("continue", PACKED)
    result = Continue().grade(exam, Told([1.0], "bound", drawn=True, variance=math.nan))
    assert result.measures["bits_per_byte"].standard_error is None
    assert any("one estimate" in note for note in result.notes)


def test_questions_without_an_answer_are_left_out_and_counted():
    exam = Continue().make("continue", ["abcdefgh", "ijklmnop"])
    result = Continue().grade(exam, Told([math.nan, 1.0, 8 * math.log(2), 1.0]))
    assert result.measures["bits_per_byte"].value == pytest.approx(1.0)
    assert result.caveats == ("1 of 4 questions are longer than a row and are left out",)
    refused = Continue().grade(exam, Told([math.nan]))
    assert refused.refusal == "every question is longer than a row of the model"
    assert not refused.measures


def test_who_has_no_means_to_answer_says_so():
    exam = AnyOrder().make("any_order", PACKED)
    result = AnyOrder().grade(exam, Told([1.0]))
    assert (result.refusal, dict(result.measures)) == ("it has no native means to any order", {})


def test_answers_whose_tokens_do_not_tell_the_text_are_no_likelihoods_of_it():
    exam = Continue().make("continue", PACKED)
    result = Continue().grade(exam, Told([1.0], altered=True))
    assert result.likelihood == "pseudo"
    assert "does not keep all of 80 of 80 answers" in result.caveats[0]


def test_continuing_costs_what_a_plain_forward_pass_says(trained):
    run = load_run(str(trained), "last", [], torch.device("cpu"))
    text = "def f1(x):\n    return"
    exam = Continue(given=0.4).make("continue", [text])
    result = Continue().grade(exam, candidate_of(run, draws=1, precision="32-true", device=torch.device("cpu")))
    ids = torch.tensor([run.tokenizer.end_of_text, *run.tokenizer.encode(text), run.tokenizer.end_of_text])
    with torch.no_grad():
        hidden = run.model(ids[None, :-1], attention="causal")
        nats = torch.nn.functional.cross_entropy(run.model.logits(hidden)[0], ids[1:], reduction="none").double()
    first = exam.items[1]["asked"][0]  # characters are tokens, and bytes
    whole, rest = result.measures["bits_per_byte"], result.measures["rest/bits_per_byte"]
    assert whole.value == pytest.approx(nats.sum().item() / math.log(2) / len(text), rel=1e-6)
    assert rest.value == pytest.approx(nats[first:].sum().item() / math.log(2) / (len(text) - first), rel=1e-6)
