import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntp.comparison.curves import Curve
from ntp.comparison.matching import measure_at, value_at
from ntp.evaluation.exams.result import Measure


def line(*points: tuple[float, float], axis: str = "flops") -> Curve:
    amounts, values = zip(*points, strict=True) if points else ((), ())
    return Curve("val/bits_per_byte", axis, np.array(amounts, float), np.array(values, float))


points = st.lists(
    st.tuples(st.floats(1, 1e6), st.floats(-10, 10)), min_size=2, max_size=8, unique_by=lambda point: point[0]
).map(sorted)


@given(points)
def test_a_curve_goes_through_its_points(found):
    one = line(*found)
    for amount, value in found:
        assert value_at(one, amount) == pytest.approx(value, abs=1e-6)


@given(points, st.floats(0, 1))
def test_between_two_points_a_curve_stays_between_their_values(found, share):
    (first, a), (second, b) = found[0], found[1]
    value = value_at(line(*found), first + share * (second - first))
    assert min(a, b) - 1e-9 <= value <= max(a, b) + 1e-9


def test_halfway_is_halfway_in_the_logarithm():
    assert value_at(line((1, 4.0), (100, 2.0)), 10) == pytest.approx(3.0)


def test_a_power_law_is_read_better_in_the_logarithm_than_in_the_amount():
    amounts = np.array([1, 2, 4, 8, 16, 32], float) * 1e6
    law = 1.0 + 20 * amounts**-0.2
    between = np.sqrt(amounts[:-1] * amounts[1:])
    truth = 1.0 + 20 * between**-0.2
    one = Curve("val/bits_per_byte", "flops", amounts, law)
    by_logarithm = np.array([value_at(one, at) for at in between]) - truth
    assert np.abs(by_logarithm).max() < 0.5 * np.abs(np.interp(between, amounts, law) - truth).max()


@pytest.mark.parametrize("at", [9.0, 101.0])
def test_nothing_is_extrapolated(at):
    with pytest.raises(ValueError, match="is not between"):
        value_at(line((10, 4.0), (100, 2.0)), at)


def test_an_exam_is_read_between_two_steps_question_by_question():
    measures = [
        Measure(np.array([8.0, 4.0]), np.ones(2), np.full(2, 0.4), "bits per byte", "lower"),
        Measure(np.array([4.0, 2.0]), np.ones(2), np.full(2, 0.4), "bits per byte", "lower"),
    ]
    found = measure_at([1.0, 100.0], measures, 10.0)
    assert found.sums.tolist() == pytest.approx([6.0, 3.0])
    # The same draws at both steps: their errors do not average out.
    assert found.variances.tolist() == pytest.approx([0.4, 0.4])
    assert (found.unit, found.better) == ("bits per byte", "lower")
    assert measure_at([1.0, 100.0], measures, 100.0).sums.tolist() == [4.0, 2.0]
    with pytest.raises(ValueError, match="is not between"):
        measure_at([1.0, 100.0], measures, 200.0)
    other = Measure(np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match="not of the same questions"):
        measure_at([1.0, 100.0], [measures[0], other], 10.0)


def test_a_question_that_was_answered_at_one_step_only_weighs_nothing():
    measures = [Measure(np.array([8.0, 0.0]), np.array([1.0, 0.0])), Measure(np.array([4.0, 9.0]), np.ones(2))]
    found = measure_at([1.0, 100.0], measures, 10.0)
    assert found.sums.tolist() == pytest.approx([6.0, 0.0])
    assert found.weights.tolist() == [1.0, 0.0]
