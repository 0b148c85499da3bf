"""Documents to ask about, and somebody who answers as told."""

from collections.abc import Sequence

import numpy as np

from ntp.evaluation.examinee import Examinee, Scores, TextQuestion
from ntp.objectives.question import Likelihood, QuestionKind, Way

PROGRAM = '''"""What stands in front."""

import math


def area(radius: float, *, scale: float = 1.0) -> float:
    # The scale is for maps, and "π" is taken from math.
    if radius < 0:
        raise ValueError(f"a radius of {radius + 0} is for another world")
    return math.pi * (radius * scale) ** 2


class Circle:
    def __init__(self, radius):
        self.radius = radius

    def grow(self, factor=2, *others):
        for one in [factor, *others]:
            self.radius *= one
        return Circle(self.radius)
'''
PROSE = "The naïve café owner said: it's 5 °C – far too cold.\nNobody came.\n\n" * 12
PACKED = [f"x{number} = [{', '.join(str(one) for one in range(number % 9 + 2))}]\n" for number in range(40)]


class Told(Examinee):
    """Answers with given numbers.

    Args:
        nats: of the questions, in their order; the last one for all that follow.
        likelihood, drawn: of the answers.
        variance: of each estimate.
        altered: whether its tokens tell all of the answers.
    """

    def __init__(
        self,
        nats: Sequence[float],
        likelihood: Likelihood = "exact",
        drawn: bool = False,
        variance: float = 0.0,
        altered: bool = False,
    ) -> None:
        self.nats, self.likelihood, self.drawn = list(nats), likelihood, drawn
        self.variance, self.altered = variance, altered
        self.asked: list[TextQuestion] = []

    def way(self, kind: QuestionKind) -> Way | None:
        """The same for every kind but one that it can't."""
        return None if kind == "any_order" else Way(self.likelihood, ("left",), self.drawn)

    def score(self, questions: Sequence[TextQuestion]) -> Scores:
        """What it was told to answer."""
        self.asked = list(questions)
        count = len(questions)
        nats = (self.nats + [self.nats[-1]] * count)[:count]
        return Scores(
            np.array(nats),
            np.full(count, self.variance),
            np.ones(count, dtype=np.int64),
            np.zeros(count, dtype=bool),
            np.full(count, self.altered),
        )
