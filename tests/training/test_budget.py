import pytest

from ntp.config.schema import BudgetConfig
from ntp.training.budget import StepCost, translate
from tests.conftest import call, read_summary

COST = StepCost(rows=4, tokens=1000, targets=150.5, bytes=2500.0, flops=1e9)
EMPTY = dict.fromkeys(("steps", "rows", "tokens", "targets", "bytes", "flops", "minutes"))


def budget(**given):
    return translate(BudgetConfig(**(EMPTY | {"otherwise_steps": 77} | given)), COST)


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ({"steps": 12}, 12),
        ({"rows": 48}, 12),
        ({"rows": 49}, 13),
        ({"tokens": 12_000}, 12),
        ({"tokens": 12_001}, 13),
        ({"targets": 1505}, 10),
        ({"targets": 1506}, 11),
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


RANDOM = ("mlm", "masked_diffusion", "prefix_lm", "span_corruption", "block_diffusion")


@pytest.mark.parametrize("objective", RANDOM)
def test_a_budget_of_targets_is_spent_on_average(tiny, tmp_path, objective):
    """The number of steps is known beforehand; what they train is random, and comes near what was asked for."""
    asked = 3000
    outcome = call(
        *("train", *tiny, f"objective={objective}", "model.width=16", "model.layers=1", "budget.steps=null"),
        *(
            f"budget.targets={asked}",
            "evaluation.every_steps=null",
            "evaluation.sample_tokens=0",
            f"run_dir={tmp_path}/run",
        ),
    )
    assert outcome.status == 0, outcome.stderr
    summary = read_summary(tmp_path / "run")
    of_a_step = summary["progress/targets"] / summary["progress/step"]
    assert abs(summary["progress/targets"] - asked) < of_a_step + 0.05 * asked


def test_a_budget_of_rows_is_spent_to_the_row(tiny, tmp_path):
    outcome = call("train", *tiny, "budget.steps=null", "budget.rows=10", f"run_dir={tmp_path}/run")
    assert outcome.status == 0, outcome.stderr
    summary = read_summary(tmp_path / "run")
    assert (summary["progress/step"], summary["progress/rows"]) == (3, 12)


def test_a_stored_budget_without_the_younger_units_is_read():
    old = {name: value for name, value in EMPTY.items() if name not in ("rows", "targets")}
    assert translate(BudgetConfig(**old, otherwise_steps=5), COST).steps == 5
