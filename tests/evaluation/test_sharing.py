"""Work that processes share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from ntp.config.errors import ConfigError
from ntp.evaluation.sharing import shared
from tests.evaluation import company


@dataclass
class Member:
    process: int
    processes: int
    gather: Callable[[Any], list[Any]]


def together(processes: int, count: int, work: Callable[[int], Any]) -> list[Any]:
    """What each process gets or raises."""
    return company.together(processes, lambda process, gather: shared(Member(process, processes, gather), count, work))


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_every_process_has_everything_in_order(processes: int, count: int) -> None:
    assert together(processes, count, lambda number: number**2) == [[n**2 for n in range(count)]] * processes


def test_a_config_error_in_one_process_is_one_in_all() -> None:
    def work(number: int) -> int:
        if number == 1:
            raise ConfigError("evaluation.exams", "has a hole")
        return number

    outcomes = together(3, 6, work)

    assert [(type(one), str(one)) for one in outcomes] == [(ConfigError, str(outcomes[1]))] * 3


def test_any_other_error_ends_all_and_keeps_its_name() -> None:
    class Strange(Exception):
        """One that can't be pickled: its class is local."""

    def work(number: int) -> int:
        if number == 0:
            raise Strange("broke")
        return number

    first, second = together(2, 2, work)

    assert type(first) is Strange
    assert type(second) is RuntimeError
    assert str(second) == "in another process: Strange: broke"
