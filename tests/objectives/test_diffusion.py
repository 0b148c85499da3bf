"""What is hidden: strata that share out the range, and two estimators of one bound."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntp.objectives.diffusion import hide_by_count, hide_by_rate, strata
from tests.objectives.making import Table, draw

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=6).map(np.array)
BATCH_SIZES = st.sampled_from([1, 2, 3, 7, 8, 12, 32])


def used(batch_size, parts, evaluation, epoch=0):
    rows = [draw(row, row, batch_size, evaluation=evaluation, epoch=epoch) for row in range(batch_size)]
    return np.array([strata(one, parts, one.rng) for one in rows])


@given(BATCH_SIZES, st.integers(1, 5), st.booleans())
@settings(deadline=None)
def test_a_global_batch_uses_every_stratum_once(batch_size, parts, evaluation):
    assert sorted(used(batch_size, parts, evaluation).ravel()) == list(range(batch_size * parts))


@given(BATCH_SIZES, st.integers(1, 5))
@settings(deadline=None)
def test_the_parts_of_a_row_share_out_the_range(batch_size, parts):
    for row in used(batch_size, parts, evaluation=False):
        assert sorted(row // batch_size) == list(range(parts))


@pytest.mark.parametrize("share", [4, 8, 16])
def test_any_share_of_a_batch_covers_the_range_evenly(share):
    places = used(32, 1, evaluation=False)[:, 0]
    for begin in range(0, 32, share):
        assert sorted(places[begin : begin + share] * share // 32) == list(range(share))


def test_in_evaluation_a_row_has_any_stratum_over_passes():
    passes, size = 4000, 8
    places = np.array([strata(one := draw(3, 2, size, evaluation=True, epoch=e), 1, one.rng)[0] for e in range(passes)])
    counts = np.bincount(places, minlength=size)
    assert abs(counts - passes / size).max() < 5 * np.sqrt(passes / size)


@given(SIZES, BATCH_SIZES, st.integers(0, 50), st.floats(0.001, 1), st.floats(0.001, 1))
@settings(deadline=None)
def test_rates_stay_in_their_range_and_weights_are_their_inverse(sizes, batch_size, row, one, other):
    lowest, highest = sorted((one, other))
    this = draw(row, row % batch_size, batch_size)
    hidden, weights = hide_by_rate(sizes, this, this.rng, lowest, highest)
    assert len(hidden) == len(weights) == sizes.sum()
    assert ((weights == 0) == ~hidden).all()
    assert (weights[hidden] <= 1 / lowest * (1 + 1e-12)).all()
    assert (weights[hidden] >= 1 / highest * (1 - 1e-12)).all()


def test_all_is_hidden_at_rate_one():
    this = draw()
    hidden, weights = hide_by_rate(np.array([5, 3]), this, this.rng, 1.0)
    assert hidden.all()
    assert (weights == 1).all()


@given(SIZES, BATCH_SIZES, st.integers(0, 50))
@settings(deadline=None)
def test_a_count_is_between_one_and_all_and_weights_are_all_over_it(sizes, batch_size, row):
    this = draw(row, row % batch_size, batch_size, evaluation=True)
    hidden, weights = hide_by_count(sizes, this, this.rng)
    for size, part, weight in zip(
        sizes, np.split(hidden, np.cumsum(sizes)), np.split(weights, np.cumsum(sizes)), strict=False
    ):
        assert 1 <= part.sum() <= size
        np.testing.assert_allclose(weight, np.where(part, size / part.sum(), 0))


class EveryInteger:
    """A generator whose integers run through their range, one call after another."""

    def __init__(self, step: int) -> None:
        self.step, self.rng = step, np.random.default_rng(0)

    def permutation(self, size):
        return np.arange(size)

    def integers(self, high):
        return np.full_like(high, self.step)

    def random(self, size):
        return self.rng.random(size)


@pytest.mark.parametrize("batch_size", [1, 4, 6, 16])
@pytest.mark.parametrize("size", [1, 5, 6, 8, 24])
def test_over_all_strata_every_count_is_exactly_as_frequent(size, batch_size):
    counts = [
        hide_by_count(np.array([size]), draw(0, place, batch_size), EveryInteger(step))[0].sum()
        for place in range(batch_size)
        for step in range(size)
    ]
    assert (np.bincount(counts, minlength=size + 1)[1:] == batch_size).all()


@pytest.mark.parametrize(("size", "batch_size"), [(8, 8), (24, 8), (32, 16)])
def test_a_batch_holds_every_equal_range_of_counts_once(size, batch_size):
    counts = []
    for row in range(batch_size):
        this = draw(row, row, batch_size, evaluation=True)
        counts.append(hide_by_count(np.array([size]), this, this.rng)[0].sum())
    assert sorted((np.array(counts) - 1) * batch_size // size) == list(range(batch_size))


@given(st.integers(2, 8), st.integers(1, 8))
@settings(max_examples=20, deadline=None)
def test_given_the_count_any_token_is_hidden_equally_often(size, count):
    count = min(count, size)
    times = np.zeros(size)
    draws = 400
    for row in range(draws):
        this = draw(row, 0, 1)

        class Fixed:
            permutation = this.rng.permutation
            random = this.rng.random

            def integers(self, high):
                return np.full_like(high, count - 1)

        times += hide_by_count(np.array([size]), this, Fixed())[0]
    rate = count / size
    assert abs(times / draws - rate).max() <= 5 * np.sqrt(rate * (1 - rate) / draws)


def test_the_bound_is_the_mean_over_all_orders_of_the_likelihood_in_that_order():
    table = Table.random(4)
    orders = [sum(table.given(order[step:])[order[step]] for step in range(4)) for order in permutations(range(4))]
    assert table.bound() == pytest.approx(np.mean(orders), rel=1e-12)


def test_the_bound_of_two_tokens_by_hand():
    # 1 nat for the first token alone, 2 for the second alone, 5 and 7 where both are hidden: 1 + 2 + (5 + 7) / 2, each
    # set of one token having weight 1/2 and the set of both 1/2.
    assert Table(np.array([[0, 0], [1, 0], [0, 2], [5, 7]])).bound() == 7.5
