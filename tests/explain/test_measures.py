"""Counts become lines of a table."""

from collections import Counter

from ntp.explain.explanation import Counts
from ntp.explain.measures import measures

ROW = Counts(1, 40, 8, 10, 10, 10.0, 40, 100, 25, Counter(mask=8))
SAMPLE = Counts(4, 160, 32, 30, 30, 30.0, 160, 400, 50, Counter(mask=20))


def lines(row, sample):
    return {one.name: one for one in measures(row, sample)}


def test_a_line_has_the_row_its_mean_over_the_sample_and_the_rate_of_the_sample():
    line = lines(ROW, SAMPLE)["targets"]
    assert (line.row, line.mean, line.rate) == ("10", "7.5", "18.8% of positions")
    line = lines(ROW, SAMPLE)["bytes predicted"]
    assert (line.row, line.mean, line.rate) == ("25", "12.5", "12.5% of bytes read")


def test_what_says_nothing_is_left_out():
    assert not {"sentinels", "sum of weights", "divisor of the loss"} & lines(ROW, SAMPLE).keys()
    assert "padding" not in lines(Counts(1, 48, 0, 1, 1, 1.0, 48, 1, 1), Counts(1, 48, 0, 1, 1, 1.0, 48, 1, 1))


def test_weights_and_divisor_appear_where_they_differ_from_the_targets():
    weighted = Counts(1, 40, 8, 10, 40, 42.5, 40, 100, 100)
    shown = lines(weighted, weighted)
    assert (shown["sum of weights"].row, shown["sum of weights"].rate) == ("42.5", "4.25 a target")
    assert shown["divisor of the loss"].row == "40"


def test_a_component_that_the_sample_lacks_has_numbers_of_its_row_alone():
    line = lines(ROW, Counts())["targets"]
    assert (line.row, line.mean, line.rate) == ("10", "", "")


def test_a_row_without_positions_or_targets_is_counted_too():
    assert lines(Counts(1), Counts(1))["targets"].row == "0"
