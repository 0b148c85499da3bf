"""How long a run lasts, in whatever unit the user counts, as optimizer steps or as a clock."""

import math
from dataclasses import dataclass

from ntp.config.schema import BudgetConfig


@dataclass(frozen=True)
class StepCost:
    """What one optimizer step costs, over all devices.

    Attributes:
        tokens: positions of rows.
        bytes: bytes of text, on average.
        flops: floating-point operations of forward and backward passes.
    """

    tokens: int
    bytes: float
    flops: float


@dataclass(frozen=True)
class Budget:
    """The length of a run.

    Attributes:
        steps: optimizer steps; None when the clock decides.
        seconds: seconds from the first step; None when steps decide.
        unit, amount: what the user asked for.
    """

    steps: int | None
    seconds: float | None
    unit: str
    amount: float

    def progress(self, step: int, seconds: float) -> float:
        """Which part of the budget is spent, in [0, 1], after ``step`` steps and ``seconds``."""
        spent = step / self.steps if self.steps is not None else seconds / (self.seconds or 1.0)
        return min(spent, 1.0)


def translate(config: BudgetConfig, cost: StepCost) -> Budget:
    """Turn the user's unit into steps: the smallest number that spends at least the amount."""
    if config.minutes is not None:
        return Budget(None, config.minutes * 60, "minutes", config.minutes)
    if config.tokens is not None:
        return Budget(math.ceil(config.tokens / cost.tokens), None, "tokens", config.tokens)
    if config.bytes is not None:
        return Budget(math.ceil(config.bytes / cost.bytes), None, "bytes", config.bytes)
    if config.flops is not None:
        return Budget(math.ceil(config.flops / cost.flops), None, "flops", config.flops)
    steps = config.steps if config.steps is not None else config.otherwise_steps
    return Budget(steps, None, "steps", steps)
