"""Causal next-token prediction, the objective of GPT (Radford et al. 2018, section 3.1)."""

import numpy as np

from ntp.data.example import IGNORE, Draw, Example, Row
from ntp.objectives.answers import LEFT_TO_RIGHT, left_to_right_length, score_left_to_right
from ntp.objectives.base import Objective
from ntp.objectives.question import Question


class Causal(Objective):
    """Every position predicts the next token and sees only itself and what stands before.

    The end-of-text token is a target like any other. Where documents are isolated, the first token of a document is
    nobody's target: nothing that may be seen stands before it.
    """

    attention = "causal"
    likelihood = "exact"
    inference = frozenset({"continue"})
    ways = LEFT_TO_RIGHT
    # A row of L positions needs L + 1 tokens, or its last position would have no target.
    lookahead = 1

    def corrupt(self, row: Row, draw: Draw) -> Example:
        """Inputs are all tokens but the last, targets all but the first."""
        same_document = row.segments[1:] == row.segments[:-1]
        return Example(
            tokens=row.tokens[:-1],
            targets=np.where(same_document, row.tokens[1:], IGNORE),
            segments=row.segments[:-1],
            target_bytes=np.where(same_document, row.bytes[1:], 0),
        )

    def restore(self, example: Example) -> np.ndarray:
        """All inputs and the last target."""
        last = example.targets[-1:]
        return np.concatenate([example.tokens, last[last != IGNORE]])

    def score(self, question: Question, draw: Draw) -> Example:
        """The text up to the end of what is asked for."""
        return score_left_to_right(question)

    def score_length(self, question: Question) -> int:
        """What stands behind takes no room."""
        return left_to_right_length(question)
