"""Weights of a mixture as functions of the part of the run that is spent."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntp.config.errors import ConfigError
from ntp.objectives.weights import Weights

SWITCH = {"first": [[0.8, 1], [0.8, 0]], "then": [[0.8, 0], [0.8, 1]]}


def refused(key, problem, names=("causal", "mlm"), **weights):
    with pytest.raises(ConfigError, match=problem) as error:
        Weights(names, weights)
    assert error.value.key == key


def test_no_weights_are_equal_ones():
    weights = Weights(("a", "b", "c", "d"), None)
    assert weights.constant
    np.testing.assert_allclose(weights.mean(), [0.25] * 4)


def test_numbers_are_constant_and_only_their_ratios_count():
    weights = Weights(("a", "b"), {"b": 3, "a": 1})
    assert weights.constant
    np.testing.assert_array_equal(weights.at(0.7), [1, 3])
    np.testing.assert_allclose(weights.mean(), [0.25, 0.75])


def test_of_two_knots_at_one_place_the_later_one_holds_from_there_on():
    weights = Weights(("first", "then"), SWITCH)
    assert not weights.constant
    np.testing.assert_array_equal(weights.at(0.0), [1, 0])
    np.testing.assert_array_equal(weights.at(np.nextafter(0.8, 0)), [1, 0])
    np.testing.assert_array_equal(weights.at(0.8), [0, 1])
    np.testing.assert_array_equal(weights.at(1.0), [0, 1])
    np.testing.assert_allclose(weights.mean(), [0.8, 0.2])


def test_a_line_goes_through_its_knots_and_is_level_outside_of_them():
    (at,) = (Weights(("a",), {"a": [[0.2, 1], [0.6, 3], [0.7, 0.5]]}).at,)
    for place, value in ((0, 1), (0.2, 1), (0.3, 1.5), (0.4, 2), (0.6, 3), (0.65, 1.75), (0.7, 0.5), (1, 0.5)):
        assert at(place)[0] == pytest.approx(value, abs=1e-12)


def test_the_mean_is_that_of_the_shares_not_of_the_weights():
    # The share of a weight p beside a weight 1 is p / (1 + p), and its mean over [0, 1] is 1 - ln 2.
    np.testing.assert_allclose(Weights(("a", "b"), {"a": 1, "b": [[0, 0], [1, 1]]}).mean()[1], 1 - math.log(2))


knots = st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 10)), min_size=1, max_size=4).map(sorted)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.sampled_from("abc"), knots, min_size=1))
def test_the_mean_is_the_integral_of_the_shares(drawn):
    weights = Weights(tuple(drawn), drawn)
    shares = np.stack([weights.at(place) / weights.at(place).sum() for place in (np.arange(500) + 0.5) / 500])
    # The sum over 500 cells is wrong by at most a cell for each jump, of which there are at most nine.
    np.testing.assert_allclose(weights.mean(), shares.mean(0), atol=10 / 500)
    assert weights.mean().sum() == pytest.approx(1)


def test_what_is_wrong_with_weights_is_named():
    refused("objective.weights.mlm", "needs a value, as every component does", causal=1)
    refused("objective.weights.ml", r"no component of this name \(did you mean 'mlm'\?\)", causal=1, ml=1)
    refused("objective.weights.mlm", "the knot at 0.5 stands behind that at 0.8", causal=1, mlm=[[0.8, 1], [0.5, 0]])
    refused("objective.weights.mlm", "at least one knot", causal=1, mlm=[])


@pytest.mark.parametrize(
    ("causal", "mlm", "place"),
    [
        (0, 0, "0"),
        ([[0, 1], [0.4, 0]], [[0.4, 0], [0.5, 1]], "0.4"),
        ([[0, 1], [1, 0]], 0, "1"),
        ([[0.3, 1], [0.3, 0], [0.6, 0], [0.6, 1]], 0, "0.3"),
    ],
)
def test_weights_that_are_all_zero_somewhere_are_refused(causal, mlm, place):
    refused("objective.weights", f"all are 0 when {place} of the run is spent", causal=causal, mlm=mlm)
