import numpy as np
import pytest

from ntp.data.example import IGNORE, Draw, Row
from ntp.objectives.causal import Causal

DRAW = Draw(seed=0, epoch=0, row=0, stratum=(0, 1))


def make_row(tokens, segments=None, sizes=None):
    tokens = np.array(tokens)
    return Row(
        tokens,
        np.zeros_like(tokens) if segments is None else np.array(segments),
        np.ones_like(tokens) if sizes is None else np.array(sizes),
    )


def test_every_position_predicts_the_token_behind_it():
    example = Causal().corrupt(make_row([5, 6, 7, 8]), DRAW)
    assert example.tokens.tolist() == [5, 6, 7]
    assert example.targets.tolist() == [6, 7, 8]


def test_a_row_of_the_raw_length_fills_the_sequence():
    objective = Causal()
    example = objective.corrupt(make_row(range(objective.raw_length(16))), DRAW)
    assert len(example) == 16
    assert (example.targets != IGNORE).all()


def test_nothing_is_predicted_across_isolated_documents_and_their_ends_are():
    end = 9
    example = Causal().corrupt(make_row([1, 2, end, 3, end, 4], segments=[0, 0, 0, 1, 1, 2]), DRAW)
    assert example.targets.tolist() == [2, end, IGNORE, end, IGNORE]
    assert example.segments is not None
    assert example.segments.tolist() == [0, 0, 0, 1, 1]


def test_bytes_are_those_of_the_predicted_text():
    example = Causal().corrupt(make_row([1, 2, 9, 3], segments=[0, 0, 0, 1], sizes=[4, 3, 0, 2]), DRAW)
    assert example.target_bytes is not None
    assert example.target_bytes.tolist() == [3, 0, 0]


@pytest.mark.parametrize("length", [1, 2])
def test_tiny_rows_make_tiny_examples(length):
    assert len(Causal().corrupt(make_row(range(length)), DRAW)) == length - 1
