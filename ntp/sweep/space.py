"""What a search searches: Hydra's own override grammar, read as distributions.

optimizer.learning_rate=tag(log,interval(1e-4,1e-2))    anything between, evenly in the logarithm
model.layers=range(2,8)                                  2 to 7, as in Python and in a grid
objective=causal,mlm                                     one of them
seed=0                                                   fixed
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    RangeSweep,
    Transformer,
)
from hydra.errors import HydraException, OverrideParseException

from ntp.config.errors import ConfigError
from ntp.config.nearest import suggestion

PARAMS = "hydra.sweeper.params"
TAGS = ("log",)
KNOWN = "a key varies by a,b,c or range(1,9) or interval(0.1,0.9) or tag(log,interval(1e-4,1e-2))"


@dataclass(frozen=True)
class Choice:
    """One of several values, each as it is written in an override."""

    texts: tuple[str, ...]

    def at(self, quantile: float) -> str:
        """The value below which this part of the probability lies, for a quantile in [0, 1)."""
        return self.texts[int(quantile * len(self.texts))]

    def text(self, value: str) -> str:
        """The value as it is written in an override."""
        return value

    def every(self) -> tuple[str, ...]:
        """All values."""
        return self.texts

    def corners(self) -> tuple[str, ...]:
        """All values: each may be wrong in its own way."""
        return self.texts


@dataclass(frozen=True)
class Integers:
    """Whole numbers from ``low`` to ``high``, both included, ``step`` apart; with ``log`` the small ones are dense."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    def at(self, quantile: float) -> str:
        """The value at a quantile in [0, 1)."""
        if self.log:
            # Every whole number owns the stretch of half a unit to both sides.
            edges = math.log(self.low - 0.5), math.log(self.high + 0.5)
            value = round(math.exp(edges[0] + quantile * (edges[1] - edges[0])))
            return self.text(min(max(value, self.low), self.high))
        return self.text(self.low + self.step * int(quantile * ((self.high - self.low) // self.step + 1)))

    def text(self, value: int) -> str:
        """The value as it is written in an override."""
        return str(value)

    def every(self) -> tuple[str, ...]:
        """All values."""
        return tuple(map(self.text, range(self.low, self.high + 1, self.step)))

    def corners(self) -> tuple[str, ...]:
        """The smallest and the largest."""
        return tuple(dict.fromkeys((self.text(self.low), self.text(self.high))))


@dataclass(frozen=True)
class Floats:
    """Numbers from ``low`` to ``high``, ``step`` apart where there is one, evenly in the logarithm with ``log``."""

    low: float
    high: float
    step: float | None = None
    log: bool = False

    def at(self, quantile: float) -> str:
        """The value at a quantile in [0, 1)."""
        if self.step is not None:
            return (every := self.every())[int(quantile * len(every))]
        if self.log:
            return self.text(self.low * (self.high / self.low) ** quantile)
        return self.text(self.low + quantile * (self.high - self.low))

    def text(self, value: float) -> str:
        """The value as it is written in an override: six digits, which name a directory and can be typed again."""
        return str(min(max(float(f"{value:.6g}"), self.low), self.high))

    def every(self) -> tuple[str, ...]:
        """All values; empty without a step, when there are too many."""
        if self.step is None:
            return ()
        steps = round((self.high - self.low) / self.step)
        return tuple(self.text(self.low + self.step * number) for number in range(steps + 1))

    def corners(self) -> tuple[str, ...]:
        """The smallest and the largest."""
        return tuple(dict.fromkeys((self.text(self.low), self.text(self.high))))


Distribution = Choice | Integers | Floats


@dataclass(frozen=True)
class Space:
    """What the jobs of a search share, and what they vary.

    Attributes:
        fixed: overrides, as they were written.
        varied: distributions by the key of their override.
    """

    fixed: tuple[str, ...]
    varied: dict[str, Distribution]

    def overrides(self, values: Mapping[str, str]) -> list[str]:
        """The overrides of a job.

        Args:
            values: of each varied key, as it is written.
        """
        return [*self.fixed, *(f"{key}={values[key]}" for key in self.varied)]

    def combinations(self) -> list[dict[str, str]]:
        """The values of every job of a grid; the last key varies fastest.

        Raises:
            ConfigError: a distribution can't be enumerated.
        """
        for key, one in self.varied.items():
            if not one.every():
                raise ConfigError(
                    key, "a grid can't hold an interval; write a choice or a range, or search with hydra/sweeper=random"
                )
        combined = itertools.product(*(one.every() for one in self.varied.values()))
        return [dict(zip(self.varied, texts, strict=True)) for texts in combined]

    def corners(self) -> list[list[str]]:
        """Overrides of a few jobs in which every choice and every end of a range occurs.

        What composes and validates here does so for every job, unless keys are wrong only together.
        """
        corners = {key: one.corners() for key, one in self.varied.items()}
        first = {key: texts[0] for key, texts in corners.items()}
        others = [first | {key: text} for key, texts in corners.items() for text in texts[1:]]
        return [self.overrides(values) for values in (first, *others)]

    def describe(self) -> dict[str, str]:
        """The varied part as text, to recognise it by."""
        return {key: repr(one) for key, one in self.varied.items()}


def read_space(
    arguments: Sequence[str],
    params: Mapping[str, Any] | None = None,
    loader: ConfigLoader | None = None,
    *,
    must_vary: bool = True,
) -> Space:
    """Read a search space.

    Args:
        arguments: overrides of the command line.
        params: more of them, as ``hydra.sweeper.params`` holds them; the command line goes before.
        loader: for ``glob``, which asks for the options of a group.
        must_vary: refuse overrides that are all fixed.

    Raises:
        ConfigError: a distribution can't be, or nothing varies.
    """
    parser = OverridesParser.create(config_loader=loader)
    overrides: dict[str, Override] = {}
    for line in [*(f"{key}={_written(value)}" for key, value in (params or {}).items()), *arguments]:
        try:
            override = parser.parse_overrides([line])[0]
        except OverrideParseException as error:
            problem = str(error.__cause__ or error).split("\n")
            said = next((one for one in problem if not one.startswith("Error parsing override")), problem[0])
            raise ConfigError(PARAMS, f"{line} can't be read ({said}); {KNOWN}") from None
        overrides[override.get_key_element()] = override
    varied = {key: _distribution(key, one) for key, one in overrides.items() if one.is_sweep_override()}
    if must_vary and not varied:
        raise ConfigError("hydra/sweeper", f"nothing varies; {KNOWN}")
    return Space(tuple(str(one.input_line) for key, one in overrides.items() if key not in varied), varied)


def value_of(text: str) -> Any:
    """What Hydra reads in a value of an override: ``0.001`` is a number, ``null`` is None."""
    return OverridesParser.create().parse_override(f"key={text}").value()


def _written(value: Any) -> str:
    """A value of a YAML file as it would be written on the command line."""
    if isinstance(value, str):
        return value
    return str(Transformer.str(value))


def _distribution(key: str, override: Override) -> Distribution:
    sweep: Any = override._value
    tags = sorted(getattr(sweep, "tags", ()))
    for tag in tags:
        if tag not in TAGS:
            raise ConfigError(key, f"there is no tag '{tag}'{suggestion(tag, TAGS)}")
    log = "log" in tags
    if isinstance(sweep, IntervalSweep):
        return _interval(key, sweep, log)
    if isinstance(sweep, RangeSweep):
        return _range(key, sweep, log)
    if log:
        raise ConfigError(key, "a choice has no logarithm; tag a range or an interval with log")
    # In the order that was written: a search that is run again must find the same jobs, whatever shuffle() says.
    if isinstance(sweep, ChoiceSweep):
        texts = [str(Transformer.str(one)) for one in sweep.list]
    else:
        texts = list(override.sweep_string_iterator())
    if not texts:
        raise ConfigError(key, f"{override.get_value_string()} matches no option")
    return Choice(tuple(dict.fromkeys(texts)))


def _interval(key: str, sweep: IntervalSweep, log: bool) -> Distribution:
    low, high = sweep.start, sweep.end
    assert low is not None
    assert high is not None
    _check_ends(key, low, high, log, f"interval({low},{high})")
    # int(interval(1,9)) is how Hydra's grammar says that only whole numbers are meant.
    if isinstance(low, int) and isinstance(high, int):
        return Integers(low, high, log=log)
    return Floats(float(low), float(high), log=log)


def _range(key: str, sweep: RangeSweep, log: bool) -> Distribution:
    start, stop, step = sweep.start, sweep.stop, sweep.step
    assert start is not None
    assert stop is not None
    written = f"range({start},{stop})" if step == 1 else f"range({start},{stop},{step})"
    if not step:
        raise ConfigError(key, f"{written} never moves on")
    try:
        values = list(sweep.range())
    except HydraException as error:
        raise ConfigError(key, str(error)) from None
    if not values:
        raise ConfigError(key, f"{written} is empty: it ends before {stop}")
    low, high = min(values), max(values)
    _check_ends(key, low, high, log, written)
    if log and (abs(step) != 1 or not isinstance(low, int)):
        raise ConfigError(key, f"{written} has a step, and steps in a logarithm are not even; write an interval")
    if isinstance(low, int):
        return Integers(low, int(high), abs(int(step)), log)
    return Floats(low, high, float(abs(Decimal(str(step)))))


def _check_ends(key: str, low: float, high: float, log: bool, written: str) -> None:
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ConfigError(key, f"{written} has no end")
    if low > high:
        raise ConfigError(key, f"{written} ends before it begins; write the smaller number first")
    if log and low <= 0:
        raise ConfigError(key, f"{written} reaches {low}, which has no logarithm; begin above 0")
