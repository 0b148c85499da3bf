"""How long a run lasts, in whatever unit the user counts, as optimizer steps or as a clock."""

import math
from dataclasses import dataclass

from ntp.config.schema import BudgetConfig

AMOUNTS = ("rows", "tokens", "targets", "bytes", "flops")
"""Units of which every step takes some; each is a field of `StepCost`."""


@dataclass(frozen=True)
class StepCost:
    """What one optimizer step costs, over all devices.

    Attributes:
        rows: of the global batch.
        tokens: positions of rows.
        targets: trained, on average.
        bytes: bytes of text, on average.
        flops: floating-point operations of forward and backward passes.
    """

    rows: int
    tokens: int
    targets: float
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
    """Turn the user's unit into steps: the smallest number that spends at least the amount.

    The length of a run is known before it begins, because the learning rate and some objectives follow it. Where what a
    step costs is random, the amount is spent on average: exactly as many as `StepCost` expects.
    """
    if config.minutes is not None:
        return Budget(None, config.minutes * 60, "minutes", config.minutes)
    for unit in AMOUNTS:
        amount = getattr(config, unit)
        if amount is not None:
            return Budget(math.ceil(amount / getattr(cost, unit)), None, unit, amount)
    steps = config.steps if config.steps is not None else config.otherwise_steps
    return Budget(steps, None, "steps", steps)
