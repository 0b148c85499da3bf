"""What counts as a spike of the training loss."""

import statistics
from collections import deque

_SIGMAS_PER_MAD = 1.4826  # of a normal distribution
_LEAST_NOISE = 0.01  # of the median: a loss that hardly varies is no reason to call a small rise a spike


class SpikeDetector:
    """Compares the loss of each step with those of the steps before it.

    Median and median absolute deviation: a spike must not raise the bar for the next one, as it would with mean and
    standard deviation.

    Args:
        window: steps to compare with; until there are so many nothing is a spike.
        threshold: robust z-score, in standard deviations, above which a loss is a spike; None for no spikes.

    Attributes:
        losses: of the last steps, oldest first.
        high: whether the loss of the last step was above the threshold: a spike counts once, however long it lasts.
    """

    def __init__(self, window: int, threshold: float | None) -> None:
        self.threshold = threshold
        self.losses: deque[float] = deque(maxlen=window)
        self.high = False

    def begins(self, loss: float) -> float | None:
        """The score of a loss with which a spike begins; None for any other. The loss counts from here on."""
        score = self._score(loss)
        self.losses.append(loss)
        was_high, self.high = self.high, self.threshold is not None and score > self.threshold
        return score if self.high and not was_high else None

    def _score(self, loss: float) -> float:
        if self.threshold is None or len(self.losses) < (self.losses.maxlen or 0):
            return 0.0
        median = statistics.median(self.losses)
        deviation = statistics.median(abs(one - median) for one in self.losses)
        return (loss - median) / max(_SIGMAS_PER_MAD * deviation, _LEAST_NOISE * abs(median), 1e-12)
