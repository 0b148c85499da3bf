import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntp.comparison.power import MOST_SEEDS, Spread, detectable, power, seeds_needed
from ntp.comparison.statistics import compare
from tests.comparison.simulation import World

SPREAD = Spread(seeds=0.02**2, documents=0.3**2, interaction=0.2**2)
spreads = st.builds(Spread, *[st.floats(1e-6, 1.0)] * 3, st.sampled_from([1, 2]))


def true_spread(world: World, *, paired: bool) -> Spread:
    """Of the difference of the two arms of a world, whose documents weigh 100, 200, 300 or 400 bytes each."""
    uneven = np.mean(np.square([1, 2, 3, 4])) / 2.5**2  # what unequal weights add to the variance of a mean
    heavy = 5 / 3  # the variance of a t with 5 degrees of freedom
    return Spread(
        seeds=2 * world.seeds**2 + (0.0 if paired else 2 * world.shared**2),
        documents=2 * world.documents**2 * heavy * uneven,
        interaction=2 * world.inside**2 * uneven,
        samples=1 if paired else 2,
    )


@pytest.mark.parametrize(("seeds", "paired"), [(2, False), (3, True), (5, True), (3, False)])
def test_a_difference_is_found_as_often_as_promised(seeds, paired):
    world, rng, trials = World(shared=0.0), np.random.default_rng(seeds), 200
    spread = true_spread(world, paired=paired)
    difference = detectable(spread, seeds, world.count)
    found = sum(
        compare(*world.pair(rng, seeds, better=difference, same_seeds=paired), resamples=300).resolved
        for _ in range(trials)
    )
    assert 0.68 < found / trials < 0.92


def test_equal_arms_are_found_different_as_often_as_the_level_says():
    assert power(0.0, SPREAD, 5, 10**9) == pytest.approx(0.05, abs=0.005)


@settings(max_examples=25)
@given(spreads, st.integers(2, 10), st.integers(1, 500))
def test_what_is_detectable_is_found_with_the_wanted_power(spread, seeds, documents):
    difference = detectable(spread, seeds, documents, wanted=0.8)
    assert power(difference, spread, seeds, documents) == pytest.approx(0.8, abs=1e-3)


@settings(max_examples=25)
@given(spreads, st.integers(2, 20), st.integers(1, 500))
def test_more_seeds_and_more_documents_detect_smaller_differences(spread, seeds, documents):
    now = detectable(spread, seeds, documents)
    assert detectable(spread, seeds + 1, documents) <= now * 1.001
    assert detectable(spread, seeds, documents + 10) <= now * 1.001


def test_one_seed_detects_nothing():
    assert power(100.0, SPREAD, 1, 64) == 0.0
    assert math.isinf(detectable(SPREAD, 1, 64))


def test_what_has_no_seeds_is_limited_by_documents_alone():
    fixed = Spread(0.0, 0.3**2, 0.0, samples=0)
    assert detectable(fixed, 1, 64) == pytest.approx((1.96 + 0.84) * 0.3 / 8, rel=0.01)


def test_the_seeds_needed_are_the_fewest_that_are_enough():
    needed = seeds_needed(0.15, SPREAD, 64)
    assert needed is not None
    assert power(0.15, SPREAD, needed, 64) >= 0.8 > power(0.15, SPREAD, needed - 1, 64)


def test_no_number_of_seeds_makes_up_for_too_few_documents():
    assert seeds_needed(0.01, SPREAD, 8) is None
    assert power(0.01, SPREAD, MOST_SEEDS, 8) < 0.8
