"""Learning rate schedules: pure functions of the step and of the part of the budget that is spent.

A function of progress works for every budget, also for one in minutes whose number of steps nobody knows beforehand;
and a schedule without state resumes exactly.
"""

import math
from abc import ABC, abstractmethod
from typing import Literal

from ntp.config.types import PositiveInt, Probability


class Schedule(ABC):
    """What the training module asks of a schedule."""

    @abstractmethod
    def factor(self, step: int, progress: float) -> float:
        """What to multiply the learning rate with.

        Args:
            step: optimizer steps including this one, from 1.
            progress: the part of the budget that is spent when this step is done, in [0, 1].
        """


class _Warmup(Schedule):
    """Linear warm-up, by steps or by a part of the budget, and then what a subclass says."""

    def __init__(self, warmup_steps: PositiveInt | None = None, warmup_fraction: Probability = 0.05) -> None:
        self.warmup_steps, self.warmup_fraction = warmup_steps, warmup_fraction

    def factor(self, step: int, progress: float) -> float:
        """Multiplier of the learning rate."""
        # A number of steps as a part of the budget: exact for budgets in steps, judged by the pace so far for a clock.
        warmup = self.warmup_fraction if self.warmup_steps is None else progress * self.warmup_steps / step
        if progress < warmup:
            return progress / warmup
        return self.after_warmup((progress - warmup) / (1 - warmup) if warmup < 1 else 1.0)

    @abstractmethod
    def after_warmup(self, progress: float) -> float:
        """Multiplier at a part of the budget that is left after warm-up, in [0, 1]."""


class Constant(_Warmup):
    """Warm-up, then the full learning rate."""

    def after_warmup(self, progress: float) -> float:
        """Always 1."""
        return 1.0


class _Falling(_Warmup):
    def __init__(
        self,
        warmup_steps: PositiveInt | None = None,
        warmup_fraction: Probability = 0.05,
        final_fraction: Probability = 0.1,
    ) -> None:
        super().__init__(warmup_steps, warmup_fraction)
        self.final_fraction = final_fraction


class Cosine(_Falling):
    """Warm-up, then half a cosine from 1 to ``final_fraction`` (SGDR without restarts, arXiv 1608.03983, eq. 5)."""

    def after_warmup(self, progress: float) -> float:
        """Half a cosine."""
        return self.final_fraction + (1 - self.final_fraction) * (1 + math.cos(math.pi * progress)) / 2


class Linear(_Falling):
    """Warm-up, then a straight line from 1 to ``final_fraction``."""

    def after_warmup(self, progress: float) -> float:
        """A straight line."""
        return 1 - (1 - self.final_fraction) * progress


class WarmupStableDecay(_Warmup):
    """Warm-up, stable, decay (MiniCPM, arXiv 2404.06395, section 4).

    Args:
        warmup_steps, warmup_fraction: length of the warm-up.
        decay_fraction: part of the whole budget that is decay.
        decay: ``1-sqrt`` (arXiv 2405.18392, section 4) or ``linear``.
        final_fraction: multiplier at the end.
    """

    def __init__(
        self,
        warmup_steps: PositiveInt | None = None,
        warmup_fraction: Probability = 0.05,
        decay_fraction: Probability = 0.2,
        decay: Literal["1-sqrt", "linear"] = "1-sqrt",
        final_fraction: Probability = 0.0,
    ) -> None:
        super().__init__(warmup_steps, warmup_fraction)
        if warmup_steps is None and warmup_fraction + decay_fraction > 1:
            raise ValueError(
                f"warmup_fraction {warmup_fraction} and decay_fraction {decay_fraction} are together more than the "
                f"budget; decay_fraction can be {1 - warmup_fraction:g}"
            )
        self.decay_fraction, self.decay, self.final_fraction = decay_fraction, decay, final_fraction

    def factor(self, step: int, progress: float) -> float:
        """Multiplier of the learning rate; the decay counts from the end of the whole budget."""
        decayed = (progress - (1 - self.decay_fraction)) / self.decay_fraction if self.decay_fraction else 0.0
        if decayed <= 0:
            return super().factor(step, progress)
        fall = min(decayed, 1.0) if self.decay == "linear" else math.sqrt(min(decayed, 1.0))
        return 1 - (1 - self.final_fraction) * fall

    def after_warmup(self, progress: float) -> float:
        """Stable."""
        return 1.0
