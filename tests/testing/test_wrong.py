"""Every check rejects what it is there to reject, and says where."""

import pytest

from ntp.testing import ConformanceError, check_names, check_objective, iter_checks
from tests.testing.wrong import WRONG, Hiding

SLOW = {check.name for check in iter_checks() if check.slow}


CASES = [
    pytest.param(wrong, check, id=wrong.__name__, marks=[pytest.mark.slow] * (check in SLOW))
    for wrong, check in WRONG.items()
]


@pytest.mark.parametrize(("wrong", "check"), CASES)
def test_a_wrong_objective_is_rejected_by_the_check_that_is_meant_for_it(wrong, check):
    (right_check,) = iter_checks(names=[check])
    with pytest.raises(ConformanceError) as caught:
        right_check(wrong)
    error = caught.value
    assert (error.objective, error.check) == (wrong.__name__, check)
    assert error.invariant in str(error)
    assert error.problem
    assert error.hint


QUICK = set(check_names(quick=True))


@pytest.mark.parametrize("wrong", [one for one, check in WRONG.items() if check in QUICK], ids=lambda one: one.__name__)
def test_the_quick_checks_find_what_they_are_meant_for_in_a_few_rows_too(wrong):
    with pytest.raises(ConformanceError):
        check_objective(wrong, quick=True, checks=[WRONG[wrong]])


def test_every_check_rejects_something():
    assert set(check_names()) == set(WRONG.values())


def test_what_the_wrong_ones_are_made_from_is_right():
    assert check_objective(Hiding, quick=True).passed
