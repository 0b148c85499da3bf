import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntp.data.sampling import DataOrder, StepSampler


def orders(rows, batch_size=4, seed=0, **options):
    return DataOrder(rows, stride=8, batch_size=batch_size, seed=seed, **options)


@given(rows=st.integers(1, 50), epoch=st.integers(0, 3), seed=st.integers(0, 5))
def test_every_row_is_seen_exactly_once_an_epoch(rows, epoch, seed):
    order = orders(rows, seed=seed)
    seen = [order.place(example).row for example in range(epoch * rows, (epoch + 1) * rows)]
    assert sorted(seen) == list(range(rows))


def test_the_place_of_an_example_does_not_depend_on_what_was_asked_before():
    forwards, backwards = orders(10), orders(10)
    there = [forwards.place(example) for example in range(40)]
    back = [backwards.place(example) for example in reversed(range(40))]
    assert there == back[::-1]


def test_epochs_differ_in_order_and_offset():
    order = orders(50)
    first, second = ([order.place(example) for example in range(e * 50, (e + 1) * 50)] for e in range(2))
    assert [one.row for one in first] != [one.row for one in second]
    assert len({orders(1).place(epoch).offset for epoch in range(20)}) > 4


def test_seeds_differ():
    assert [orders(50, seed=0).place(one).row for one in range(50)] != [
        orders(50, seed=1).place(one).row for one in range(50)
    ]


def test_the_stratum_is_the_place_in_the_global_batch():
    order = orders(10, batch_size=4)
    assert [order.place(example).stratum for example in range(6)] == [(0, 4), (1, 4), (2, 4), (3, 4), (0, 4), (1, 4)]


@given(skipped=st.integers(0, 6), example=st.integers(0, 60))
def test_batches_that_are_left_out_move_up_what_comes_behind_them(skipped, example):
    place = orders(10, skipped_batches=skipped).place(example)
    assert place == orders(10).place(example + 4 * skipped)
    assert place.stratum == (example % 4, 4)


def test_repeating_the_first_batch_gives_the_same_rows_for_ever():
    order = orders(50, batch_size=4, repeat_first_batch=True)
    assert [order.place(one) for one in range(4)] == [order.place(one) for one in range(400, 404)]


@given(
    world_size=st.sampled_from([1, 2, 4]),
    micro_batch=st.sampled_from([1, 2, 3]),
    accumulate=st.integers(1, 3),
    steps=st.integers(1, 4),
)
def test_a_step_holds_the_same_examples_at_any_world_size(world_size, micro_batch, accumulate, steps):
    batch_size = world_size * micro_batch * accumulate
    by_step: list[set[int]] = [set() for _ in range(steps)]
    for rank in range(world_size):
        sampler = StepSampler(steps, batch_size, micro_batch, rank, world_size)
        batches = list(sampler)
        assert len(batches) == len(sampler) == steps * accumulate
        for number, batch in enumerate(batches):
            step = by_step[number // accumulate]
            assert not step & set(batch)
            step |= set(batch)
    assert by_step == [set(range(step * batch_size, (step + 1) * batch_size)) for step in range(steps)]


@given(rows=st.integers(1, 40), world_size=st.sampled_from([1, 2, 4]), micro_batch=st.sampled_from([1, 2, 4]))
def test_every_row_is_seen_once_an_epoch_and_in_the_same_step_at_any_world_size(rows, world_size, micro_batch):
    batch_size, epochs = 16, 3
    steps = -(-epochs * rows // batch_size)
    order = orders(rows, batch_size=batch_size)
    alone = [order.place(example) for batch in StepSampler(steps, batch_size, batch_size, 0, 1) for example in batch]
    shares = [StepSampler(steps, batch_size, micro_batch, rank, world_size) for rank in range(world_size)]
    together = [
        order.place(example)
        for micro_batches in zip(*shares, strict=True)  # what the devices train on at the same time
        for batch in micro_batches
        for example in batch
    ]
    assert together == alone
    for epoch in range(epochs):
        assert sorted(one.row for one in together if one.epoch == epoch) == list(range(rows))


@pytest.mark.parametrize("first", [0, 3])
def test_a_sampler_can_start_late_and_keeps_its_length(first):
    sampler = StepSampler(5, batch_size=4, micro_batch_size=2, rank=0, world_size=1)
    everything = list(sampler)
    sampler.first_step = first
    assert list(sampler) == everything[first * 2 :]
    assert len(sampler) == len(everything)


def test_a_run_that_a_clock_ends_has_examples_for_ever():
    sampler = iter(StepSampler(None, batch_size=2, micro_batch_size=2, rank=0, world_size=1))
    assert [next(sampler) for _ in range(3)] == [[0, 1], [2, 3], [4, 5]]
    assert np.isfinite(len(StepSampler(None, 2, 2, 0, 1)))
