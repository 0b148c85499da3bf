import math

import pytest

from ntp.comparison.curves import AXES, curve, metrics_in
from ntp.config.errors import ConfigError
from tests.conftest import read_metrics, read_summary

LINES = [
    {"step": 1, "progress/step": 1, "progress/tokens": 10, "train/loss": 5.0},
    {"step": 2, "progress/step": 2, "progress/tokens": 20, "val/loss": 4.0},
    {"step": 4, "progress/step": 4, "progress/tokens": 40, "val/loss": math.nan},
    {"step": 6, "progress/step": 6, "progress/tokens": 60, "val/loss": 3.0},
    {"step": 6, "progress/step": 6, "progress/tokens": 60, "val/loss": 3.5},
]


def test_a_curve_has_the_lines_that_have_its_metric():
    found = curve(LINES, "val/loss", "tokens")
    assert found.amounts.tolist() == [20, 60]
    assert found.values.tolist() == [4.0, 3.0]


def test_the_same_rows_count_where_the_end_is_measured_twice():
    assert curve(LINES, "val/loss", "steps").values[-1] == 3.0


def test_a_run_older_than_a_column_of_the_ledger_has_no_curve_against_it():
    assert len(curve(LINES, "val/loss", "rows")) == 0
    assert len(curve(LINES, "val/accuracy", "tokens")) == 0


def test_an_unknown_axis_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"axis: there is no 'token' in the ledger \(did you mean 'tokens'\?\)"):
        curve(LINES, "val/loss", "token")


def test_metrics_are_found_by_their_beginning():
    assert metrics_in(LINES, "val/") == ["val/loss"]
    assert "progress/step" in metrics_in(LINES)


@pytest.mark.parametrize("axis", AXES)
def test_a_real_run_has_a_curve_against_every_column_of_the_ledger(trained, axis):
    lines = read_metrics(trained)
    found = curve(lines, "val/bits_per_byte", axis)
    validated = [line for line in lines if "val/bits_per_byte" in line]
    assert found.values.tolist() == list(dict.fromkeys(line["val/bits_per_byte"] for line in validated))
    assert found.amounts[-1] == read_summary(trained)[AXES[axis].metric]
