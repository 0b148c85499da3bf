"""Questions that do not fit into a row: pieces of long answers, and the nearest of far context."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ntp.evaluation.candidate import Candidate
from ntp.evaluation.examinee import TextQuestion
from ntp.evaluation.fitting import fitted
from ntp.objectives.block_diffusion import BlockDiffusion
from ntp.objectives.causal import Causal
from ntp.objectives.fim import FillInTheMiddle
from ntp.objectives.masked_diffusion import MaskedDiffusion
from ntp.objectives.permutation import PermutationLM
from ntp.objectives.prefix_lm import PrefixLM
from ntp.objectives.question import Question
from ntp.objectives.span_corruption import SpanCorruption
from tests.objectives.making import TOKENIZER, bound, transformer

ANY_ORDER = {one.__name__: one().score_length for one in (MaskedDiffusion, BlockDiffusion, PermutationLM)}
LENGTHS = ANY_ORDER | {one.__name__: one().score_length for one in (Causal, FillInTheMiddle, PrefixLM, SpanCorruption)}
SIZE = st.integers(0, 60)
ROOM = st.integers(2, 48)
named = pytest.mark.parametrize("length", LENGTHS.values(), ids=LENGTHS)


def question(kind: str, before: int, target: int, after: int = 0) -> Question:
    """Every token is its own place in the text."""
    return Question(kind, *np.split(np.arange(before + target + after), [before, before + target]))


def pieces_of(kind, length, room, before, target, after=0):
    whole = question(kind, before + 1, target + 1, after)
    return whole, fitted(whole, length, room)


CASES = [("continue", name) for name in LENGTHS] + [("any_order", name) for name in ANY_ORDER]


@pytest.mark.parametrize(("kind", "name"), CASES)
@given(room=ROOM, before=SIZE, target=SIZE)
def test_pieces_of_an_answer_fit_and_are_the_whole_answer(kind, name, room, before, target):
    length = LENGTHS[name]
    whole, pieces = pieces_of(kind, length, room, before, target)
    assert pieces or length(question(kind, 1, 1)) > room
    assume(pieces)
    assert all(length(piece) <= room and len(piece.target) and len(piece.before) for piece in pieces)
    np.testing.assert_array_equal(np.concatenate([piece.target for piece in pieces]), whole.target)


@named
@given(room=ROOM, before=SIZE, target=SIZE)
def test_the_context_of_a_piece_is_what_stands_right_before_it(length, room, before, target):
    _, pieces = pieces_of("continue", length, room, before, target)
    for piece in pieces:
        first = piece.target[0]
        np.testing.assert_array_equal(piece.before, np.arange(first - len(piece.before), first))


@named
@given(room=st.integers(24, 48), before=SIZE, target=SIZE)
def test_a_piece_has_as_much_context_as_its_row_has_room_for(length, room, before, target):
    whole, pieces = pieces_of("continue", length, room, before, target)
    text = whole.tokens
    for piece in pieces:
        first = int(piece.target[0])
        more = Question("continue", text[first - len(piece.before) - 1 : first], piece.target, piece.after)
        assert first == len(piece.before) or length(more) > room


@named
@given(room=st.integers(24, 48), target=st.integers(60, 200))
def test_what_stands_before_a_piece_takes_no_more_than_half_of_a_row_unless_the_text_ends(length, room, target):
    _, pieces = pieces_of("continue", length, room, 0, target)
    for piece in pieces[:-1]:
        alone = Question("continue", piece.before[1:], piece.target[:1], piece.after)
        assert length(alone) <= room // 2


@named
@given(room=ROOM, before=SIZE, target=st.integers(0, 12), after=SIZE)
def test_around_a_gap_the_nearest_context_is_kept_and_all_of_the_gap(length, room, before, target, after):
    whole, pieces = pieces_of("infill", length, room, before, target, after)
    if not pieces:
        assert length(question("infill", 1, target + 1)) > room
        return
    (piece,) = pieces
    assert length(piece) <= room
    np.testing.assert_array_equal(piece.target, whole.target)
    first, behind = int(whole.target[0]), int(whole.target[-1]) + 1
    np.testing.assert_array_equal(piece.before, np.arange(first - len(piece.before), first))
    np.testing.assert_array_equal(piece.after, np.arange(behind, behind + len(piece.after)))
    assert len(piece.before)


@given(room=ROOM, before=SIZE, target=st.integers(0, 12), after=SIZE)
def test_a_gap_is_given_as_much_on_both_sides_or_all_there_is(room, before, target, after):
    whole, pieces = pieces_of("infill", MaskedDiffusion().score_length, room, before, target, after)
    assume(pieces)
    left, right = len(pieces[0].before), len(pieces[0].after)
    assert left + right == min(len(whole.before) + after, room - len(whole.target))
    assert abs(left - right) <= 1 or (left < right and left == len(whole.before)) or (right < left and right == after)


@given(room=ROOM, before=SIZE, target=SIZE)
def test_a_question_that_fits_is_asked_as_it_is(room, before, target):
    whole, pieces = pieces_of("continue", Causal().score_length, room, before, target)
    assert (pieces == [whole]) == (before + target + 1 <= room)


def candidate(objective, room):
    return Candidate(transformer(), bound(objective, room), TOKENIZER, True, room)


def test_what_was_asked_with_less_context_is_said_to_be():
    asked = [TextQuestion("infill", "long " * 9, "gap", " behind"), TextQuestion("infill", "short", "gap", "behind")]
    scores = candidate(FillInTheMiddle(), 32).score(asked)
    assert scores.shortened.tolist() == [True, False]
    assert np.isfinite(scores.nats).all()


def test_what_stands_behind_shortens_no_answer_of_who_does_not_read_it():
    asked = TextQuestion("infill", "before", "gap", "far behind " * 9)
    assert candidate(Causal(), 16).score([asked]).shortened.tolist() == [False]


def test_a_gap_that_is_longer_than_a_row_has_no_answer():
    scores = candidate(MaskedDiffusion(), 16).score([TextQuestion("infill", "before", "x" * 20, "behind")])
    assert np.isnan(scores.nats).all()


def test_a_long_text_costs_the_sum_of_its_pieces():
    causal = candidate(Causal(), 16)
    text = "abcdefghijklmnopqrstuvwxyz"
    (scored,) = causal.score([TextQuestion("continue", "", text)]).nats
    pieces = fitted(causal.encode(TextQuestion("continue", "", text)), Causal().score_length, 16)
    assert len(pieces) > 1
    questions = [
        TextQuestion("continue", TOKENIZER.decode(one.before.tolist()), TOKENIZER.decode(one.target.tolist()), ends=end)
        for one, end in zip(pieces, [False] * (len(pieces) - 1) + [True], strict=True)
    ]
    assert scored == pytest.approx(float(causal.score(questions).nats.sum()), rel=1e-6)
