import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntp.config.errors import ConfigError
from ntp.data.example import IGNORE
from ntp.data.special_tokens import MODES
from ntp.objectives.causal import Causal
from ntp.objectives.prefix_lm import PrefixLM
from tests.objectives.texts import BYTES, DOCUMENTS, bound, distance, draw, off, row_of, rows, seen

END = BYTES.end_of_text
SEQUENTIAL = BYTES.special_tokens[MODES[2]]


def half():
    return bound(PrefixLM(fraction=0.5))


def prefix_lengths(objective, row, draws):
    """The first target of a row stands behind its prefix."""
    examples = [objective.corrupt(row, draw(number)) for number in range(draws)]
    return [int(np.argmax(one.targets != IGNORE)) + 1 for one in examples]


def test_six_tokens_with_a_prefix_of_three_have_the_mask_and_targets_of_the_definition():
    example = half().corrupt(row_of(range(200, 206)), draw())
    assert example.tokens.tolist() == [200, 201, 202, 203, 204]
    assert example.targets.tolist() == [IGNORE, IGNORE, 203, 204, 205]
    assert seen(example).astype(int).tolist() == [
        [1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1],
    ]


def test_every_isolated_document_has_a_prefix_of_its_own():
    row = row_of([200, 201, 202, END, 203, 204, 205, END, 206, 207], segments=[0, 0, 0, 0, 1, 1, 1, 1, 2, 2])
    example = half().corrupt(row, draw())
    assert example.order.tolist() == [0, 0, 1, 2, 0, 0, 1, 2, 0]
    assert example.targets.tolist() == [IGNORE, 202, END, IGNORE, IGNORE, 205, END, IGNORE, 207]
    assert not seen(example)[:4, 4:].any()
    assert not seen(example)[4:, :4].any()


def test_the_prefixes_of_a_row_are_drawn_apart():
    objective, row = bound(PrefixLM()), row_of([200] * 20, segments=[0] * 10 + [1] * 10)
    pairs = {tuple(objective.corrupt(row, draw(number)).order[[5, 15]].tolist()) for number in range(200)}
    assert len({first for first, _ in pairs}) > 3
    assert any(first != second for first, second in pairs)


@pytest.mark.parametrize("segments", [[0, 1, 2, 3], [0, 0, 1, 2], [0, 1, 1, 2]])
def test_a_document_of_one_token_predicts_nothing_and_is_predicted_by_nothing(segments):
    example = bound(PrefixLM()).corrupt(row_of([200, 201, 202, 203], segments=segments), draw())
    pairs = np.flatnonzero(np.diff(segments) == 0)
    assert np.flatnonzero(example.targets != IGNORE).tolist() == pairs.tolist()


def test_prefixes_are_uniform_and_leave_at_least_one_target():
    lengths = prefix_lengths(bound(PrefixLM()), row_of([200] * 8), draws=4000)
    assert distance(lengths, dict.fromkeys(range(1, 8), 1 / 7)) < 5


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, 1), (0.3, 3), (0.5, 5), (0.99, 9), (1.0, 9)])
def test_a_fixed_fraction_leaves_a_token_on_either_side(fraction, expected):
    assert set(prefix_lengths(bound(PrefixLM(fraction)), row_of([200] * 10), draws=3)) == {expected}


def test_a_prefix_of_one_token_is_causal_prediction():
    row = row_of(range(200, 210))
    ours, causal = bound(PrefixLM(0.0)).corrupt(row, draw()), Causal().corrupt(row, draw())
    assert ours.targets.tolist() == causal.targets.tolist()
    assert (seen(ours) == np.tri(9, dtype=bool)).all()


@settings(deadline=None, max_examples=50)
@given(texts=DOCUMENTS, documents=st.sampled_from(["concatenate", "isolate"]), mode=st.sampled_from([None, MODES[2]]))
def test_no_trained_position_sees_its_target(texts, documents, mode):
    objective = bound(PrefixLM(mode_token=mode), length=16)
    for number, row in enumerate(rows(texts, objective, documents, length=16)):
        example = objective.corrupt(row, draw(number))
        assert len(example) <= 16
        trained = np.flatnonzero(example.targets[:-1] != IGNORE)
        assert (example.tokens[trained + 1] == example.targets[trained]).all()
        assert not seen(example)[trained, trained + 1].any()


@settings(deadline=None, max_examples=50)
@given(texts=DOCUMENTS, documents=st.sampled_from(["concatenate", "isolate"]))
def test_all_behind_a_prefix_is_trained_and_so_is_the_last_position_of_it(texts, documents):
    objective = bound(PrefixLM(), length=16)
    for number, row in enumerate(rows(texts, objective, documents, length=16)):
        example = objective.corrupt(row, draw(number))
        order = np.append(example.order, -1)
        is_last_of_prefix = (order[:-1] == 0) & (order[1:] != 0)
        document_goes_on = row.segments[1:] == row.segments[:-1]
        expected = document_goes_on & ((example.order > 0) | is_last_of_prefix)
        assert ((example.targets != IGNORE) == expected).all()


@settings(deadline=None, max_examples=50)
@given(texts=DOCUMENTS, documents=st.sampled_from(["concatenate", "isolate"]), mode=st.sampled_from([None, MODES[2]]))
def test_the_text_of_a_row_is_restored_as_far_as_it_fits(texts, documents, mode):
    objective = bound(PrefixLM(mode_token=mode), length=16)
    for number, row in enumerate(rows(texts, objective, documents, length=16)):
        example = objective.corrupt(row, draw(number))
        restored = objective.restore(example)
        assert restored.tolist() == row.tokens[: len(restored)].tolist()
        if len(example) < 16:
            assert row.bytes[: len(restored)].sum() >= row.bytes[:-1].sum()


def test_bytes_are_those_of_the_targets():
    row = row_of([200] * 4)
    sized = type(row)(row.tokens, row.segments, np.array([2, 3, 4, 5]))
    example = half().corrupt(sized, draw())
    assert example.target_bytes.tolist() == [0, 4, 5]
    assert example.read_bytes == 9


@pytest.mark.parametrize("length", [1, 2])
def test_tiny_rows_make_tiny_examples(length):
    example = bound(PrefixLM()).corrupt(row_of(range(200, 200 + length)), draw())
    assert len(example) == length - 1
    assert (example.targets != IGNORE).all()


def test_a_row_of_the_raw_length_fills_the_sequence_with_a_mode_token_or_without():
    for objective in (bound(PrefixLM()), bound(PrefixLM(mode_token=MODES[2]))):
        assert len(objective.corrupt(row_of([200] * objective.raw_length(64)), draw())) == 64


def test_a_mode_token_belongs_to_every_prefix():
    objective = bound(PrefixLM(0.5, mode_token=MODES[2]), length=8)
    row = row_of([200, 201, 202, END, 203, 204, 205, END], segments=[0, 0, 0, 0, 1, 1, 1, 1])
    example = objective.corrupt(row, draw())
    # One position too many: the row's end is cut.
    assert example.tokens.tolist() == [SEQUENTIAL, 200, 201, 202, END, SEQUENTIAL, 203, 204]
    assert example.order.tolist() == [0, 0, 0, 1, 2, 0, 0, 0]
    assert example.targets.tolist() == [IGNORE, IGNORE, 202, END, IGNORE, IGNORE, IGNORE, 205]
    assert example.segments.tolist() == [0] * 5 + [1] * 3
    assert example.read_bytes == 5


def test_a_mode_token_needs_room():
    with pytest.raises(ConfigError, match=r"data\.sequence_length: .* at least 2"):
        bound(PrefixLM(mode_token=MODES[2]), length=1)


def test_a_prompt_is_a_prefix():
    query = bound(PrefixLM()).query(np.array([END, 200, 201]), None, 8)
    assert (query.prompt.tolist(), query.attention) == ([END, 200, 201], "full")
    query = bound(PrefixLM(mode_token=MODES[2])).query(np.array([END, 200, 201]), None, 8)
    assert query.prompt.tolist() == [SEQUENTIAL, END, 200, 201]


@pytest.mark.parametrize("fraction", [None, 0.25])
def test_it_promises_as_many_targets_as_there_are(fraction):
    objective, row = bound(PrefixLM(fraction)), row_of([200] * 31, segments=[0] * 10 + [1] * 20 + [2])
    pairs = [objective.promises(row, objective.corrupt(row, draw(number)))["targets"] for number in range(2000)]
    observed, expected = np.array(pairs).T
    assert expected[0] == (15 if fraction is None else 23)
    assert (observed == expected).all() if fraction else off(observed, expected[0]) < 5
