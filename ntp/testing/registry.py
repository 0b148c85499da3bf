"""The list of checks, and how one is run."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ntp.config.errors import ConfigError
from ntp.testing.bench import Bench
from ntp.testing.errors import Broken, ConformanceError, NotApplicable

THEMES = ("facts", "randomness", "shapes", "text", "flow", "answers", "loss", "training")
"""Modules of checks, in the order in which they run: what later ones rely on comes first."""

_checks: dict[str, Check] = {}


@dataclass(frozen=True)
class Check:
    """One invariant, and how it is tested.

    Attributes:
        name: of the check.
        invariant: what must hold, in one sentence.
        theme: the module that it stands in.
        quick: whether it is cheap enough to run before a training run.
        slow: whether it takes seconds.
        function: raises `Broken` or `NotApplicable`.
    """

    name: str
    invariant: str
    theme: str
    quick: bool
    slow: bool
    function: Callable[[Bench], None]

    def __str__(self) -> str:
        return self.name

    def __call__(self, objective: Any, **options: Any) -> None:
        """Run this check alone.

        Args:
            objective: see `ntp.testing.check_objective`, like the options.
            options: ``tokenizer``, ``corpus``, ``model``, ``sequence_length`` and ``quick``.

        Raises:
            ConformanceError: the invariant does not hold.
            NotApplicable: it says nothing of this objective.
        """
        __tracebackhide__ = True
        self.run(Bench(objective, **options))

    def run(self, bench: Bench) -> None:
        """Run on a bench that exists; raises like `__call__`."""
        __tracebackhide__ = True
        try:
            with bench.seeded():
                self.function(bench)
        except Broken as broken:
            problem, hint = broken.problem, broken.hint
        except (NotApplicable, ConfigError):
            raise
        except Exception as error:
            problem = f"{type(error).__name__} was raised: {error}"
            hint = "where it is raised: check_objective of ntp.testing shows it; nothing unusual was asked for"
            raise ConformanceError(bench.name, self.name, self.invariant, problem, hint) from error
        else:
            return
        raise ConformanceError(bench.name, self.name, self.invariant, problem, hint)


def check(*, quick: bool = False, slow: bool = False) -> Callable[[Callable[[Bench], None]], Callable[[Bench], None]]:
    """Register a function as a check. Its name is the check's, the first line of its docstring the invariant."""

    def register(function: Callable[[Bench], None]) -> Callable[[Bench], None]:
        name, theme = function.__name__, function.__module__.rpartition(".")[2]
        invariant = (function.__doc__ or "").strip().splitlines()[0].rstrip(".")
        _checks[name] = Check(name, invariant[0].lower() + invariant[1:], theme, quick, slow, function)
        return function

    return register


def all_checks() -> list[Check]:
    """Every check, in the order in which they run."""
    for theme in THEMES:
        importlib.import_module(f"ntp.testing.{theme}")
    return sorted(_checks.values(), key=lambda one: THEMES.index(one.theme))
