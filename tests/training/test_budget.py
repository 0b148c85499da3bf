import pytest

from ntp.config.schema import BudgetConfig
from ntp.training.budget import StepCost, translate

COST = StepCost(tokens=1000, bytes=2500.0, flops=1e9)
EMPTY = dict.fromkeys(("steps", "tokens", "bytes", "flops", "minutes"))


def budget(**given):
    return translate(BudgetConfig(**(EMPTY | {"otherwise_steps": 77} | given)), COST)


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ({"steps": 12}, 12),
        ({"tokens": 12_000}, 12),
        ({"tokens": 12_001}, 13),
        ({"bytes": 25_000}, 10),
        ({"flops": 5.5e9}, 6),
        ({}, 77),
    ],
)
def test_each_unit_is_translated_into_the_fewest_steps_that_spend_it(given, steps):
    assert budget(**given).steps == steps


def test_progress_follows_steps():
    assert budget(steps=10).progress(4, seconds=1e9) == pytest.approx(0.4)


def test_progress_follows_the_clock_when_the_budget_is_in_minutes():
    spent = budget(minutes=2)
    assert spent.steps is None
    assert spent.progress(10**6, seconds=30) == pytest.approx(0.25)
    assert spent.progress(1, seconds=1000) == 1.0


def test_two_units_at_once_are_refused():
    with pytest.raises(ValueError, match="steps and tokens are both given"):
        budget(steps=1, tokens=2)
