import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ntp.data.collate import collate, restart
from ntp.data.example import IGNORE, Example

TOKEN_BYTES = np.arange(100)
LENGTH = 6


def batch_of(*examples, attention="causal"):
    return collate(examples, LENGTH, attention, TOKEN_BYTES, padding_id=99)


def full(**fields):
    return Example(tokens=np.arange(LENGTH), targets=np.arange(1, LENGTH + 1), **fields)


def short(length=4, **fields):
    return Example(tokens=np.arange(length), targets=np.arange(1, length + 1), **fields)


def test_a_full_causal_batch_carries_tokens_and_targets_and_nothing_else():
    batch = batch_of(full(), full())
    assert batch.tokens.shape == (2, LENGTH)
    for name in ("target_index", "weights", "order", "private", "segments", "positions"):
        assert getattr(batch, name) is None, name


def test_padding_has_no_targets_and_is_not_counted_as_read():
    batch = batch_of(short(), full())
    assert batch.tokens[0, 4:].tolist() == [99, 99]
    assert batch.targets[0, 4:].tolist() == [IGNORE, IGNORE]
    assert batch.read_tokens == 10
    assert batch.target_count == 10


def test_padding_behind_a_causal_row_needs_no_mask_and_behind_a_full_row_it_does():
    assert batch_of(short()).segments is None
    segments = batch_of(short(), attention="full").segments
    assert segments is not None
    assert segments.tolist() == [[0, 0, 0, 0, -1, -1]]


def test_padding_in_the_middle_of_a_causal_row_is_masked():
    segments = np.array([0, 0, -1, 0, 0, 0])
    assert batch_of(full(segments=segments)).segments is not None


def test_isolated_documents_carry_segments_and_positions_that_restart():
    batch = batch_of(full(segments=np.array([0, 0, 1, 1, 1, 2])))
    assert batch.segments is not None
    assert batch.positions is not None
    assert batch.positions.tolist() == [[0, 1, 0, 1, 2, 0]]


def test_the_target_index_points_at_the_targets():
    targets = np.array([IGNORE, 3, IGNORE, IGNORE, 7, IGNORE])
    batch = batch_of(full(), Example(np.arange(LENGTH), targets))
    assert batch.target_index is not None
    assert batch.targets.flatten()[batch.target_index].tolist() == [1, 2, 3, 4, 5, 6, 3, 7]
    assert batch.target_count == 8


def test_bytes_of_targets_come_from_the_example_or_from_the_table():
    assert batch_of(full()).target_bytes == sum(range(1, 7))
    assert batch_of(full(target_bytes=np.full(LENGTH, 2))).target_bytes == 2 * LENGTH


def test_an_ordered_row_carries_its_order_and_privacy():
    private = np.arange(LENGTH) > 3
    batch = batch_of(full(order=np.arange(LENGTH), private=private), full(), attention="ordered")
    assert batch.order is not None
    assert batch.private is not None
    assert batch.order.tolist() == [[0, 1, 2, 3, 4, 5], [0] * LENGTH]
    assert batch.private.tolist() == [private.tolist(), [False] * LENGTH]


def test_absent_weights_are_one_and_padding_weighs_nothing():
    weights = np.array([0.5, 2.0, 1.0, 4.0])
    batch = batch_of(short(weights=weights), full())
    assert batch.weights is not None
    assert batch.weights.dtype == torch.float32
    assert batch.weights.tolist() == [[0.5, 2.0, 1.0, 4.0, 0.0, 0.0], [1.0] * LENGTH]


def test_an_example_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="7 positions does not fit into a row of 6"):
        batch_of(short(7))


def test_arrays_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="6 tokens has 5 segments"):
        batch_of(full(segments=np.zeros(5, dtype=int)))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_positions_restart_in_every_segment(lengths):
    segments = np.repeat(np.arange(len(lengths)), lengths)
    assert restart(segments).tolist() == [place for length in lengths for place in range(length)]
