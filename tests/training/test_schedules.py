import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntp.training.schedules import Constant, Cosine, Linear, WarmupStableDecay

ALL = [Constant(), Cosine(), Linear(), WarmupStableDecay(), Cosine(warmup_steps=7), WarmupStableDecay(warmup_steps=7)]


def factors(schedule, steps):
    return [schedule.factor(step, step / steps) for step in range(1, steps + 1)]


@given(schedule=st.sampled_from(ALL), steps=st.integers(1, 300))
def test_a_factor_is_between_0_and_1_and_never_jumps_above_the_top(schedule, steps):
    assert all(0 <= factor <= 1 for factor in factors(schedule, steps))


@pytest.mark.parametrize("schedule", [Cosine(warmup_steps=10), Linear(warmup_fraction=0.1), Constant(warmup_steps=10)])
def test_warm_up_rises_in_a_straight_line(schedule):
    assert factors(schedule, 100)[:10] == pytest.approx([step / 10 for step in range(1, 11)])


def test_cosine_passes_its_middle_halfway_and_ends_at_the_final_fraction():
    schedule = Cosine(warmup_fraction=0.0, final_fraction=0.1)
    assert schedule.factor(50, 0.5) == pytest.approx(0.55)
    assert schedule.factor(100, 1.0) == pytest.approx(0.1)


def test_linear_falls_evenly():
    schedule = Linear(warmup_fraction=0.0, final_fraction=0.0)
    assert factors(schedule, 4) == pytest.approx([0.75, 0.5, 0.25, 0.0])


def test_warmup_stable_decay_is_constant_and_then_falls():
    schedule = WarmupStableDecay(warmup_fraction=0.1, decay_fraction=0.2, decay="linear")
    assert schedule.factor(50, 0.5) == schedule.factor(80, 0.8) == 1.0
    assert schedule.factor(90, 0.9) == pytest.approx(0.5)
    assert schedule.factor(100, 1.0) == pytest.approx(0.0)


def test_the_square_root_decay_falls_fastest_at_first():
    schedule = WarmupStableDecay(decay="1-sqrt")
    assert schedule.factor(85, 0.85) == pytest.approx(0.5)


def test_a_warm_up_in_steps_needs_no_known_number_of_steps():
    # A run that a clock ends: step 20 of an unknown number, at a tenth of its time.
    assert Cosine(warmup_steps=10).factor(5, 0.025) == pytest.approx(0.5)
    assert Cosine(warmup_steps=10).factor(20, 0.1) < 1.0


def test_a_warm_up_and_a_decay_longer_than_the_budget_are_refused():
    with pytest.raises(ValueError, match=r"decay_fraction can be 0\.5"):
        WarmupStableDecay(warmup_fraction=0.5, decay_fraction=0.6)
