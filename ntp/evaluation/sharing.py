"""Work that processes share: each does a part of it, and what goes wrong in one goes wrong in all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from ntp.config.errors import ConfigError

T = TypeVar("T")


class Sharing(Protocol):
    """One of the processes; see `ntp.evaluation.taking.Company`."""

    @property
    def process(self) -> int:
        """Which."""

    @property
    def processes(self) -> int:
        """Of how many."""

    @property
    def gather(self) -> Callable[[Any], list[Any]]:
        """One object of every process, in their order."""


def shared(company: Sharing, count: int, work: Callable[[int], T]) -> list[T]:
    """Do some pieces of work, each in one of the processes.

    Args:
        company: all of which call this with the same count.
        count: of the pieces.
        work: does one of them, by its number; gives what can be pickled.

    Returns:
        In every process what came of all, in their order.

    Raises:
        Exception: what a piece has raised, in the process that did it.
        ConfigError, RuntimeError: the same, in the others: no process waits for one that has given up.
    """
    own: dict[int, T] = {}
    failure: Exception | None = None
    try:
        for number in range(company.process, count, company.processes):
            own[number] = work(number)
    except Exception as error:
        failure = error
    everything: dict[int, T] = {}
    failures: list[tuple[str | None, str]] = []
    for done, failed in company.gather((own, _told(failure))):
        everything |= done
        failures += failed
    if failure is not None:
        raise failure
    for key, problem in failures:
        raise ConfigError(key, problem) if key is not None else RuntimeError(f"in another process: {problem}")
    return [everything[number] for number in range(count)]


def _told(error: Exception | None) -> list[tuple[str | None, str]]:
    """In plain values: not every exception can be pickled."""
    if error is None:
        return []
    return [
        (error.key, error.problem) if isinstance(error, ConfigError) else (None, f"{type(error).__name__}: {error}")
    ]
