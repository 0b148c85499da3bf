"""How a trained model is examined: what is the likelihood of a stretch of text, given what stands around it?

An objective says what it can answer and how (`Objective.ways`), and makes the row whose loss is the answer
(`Objective.score`); `ntp.evaluation` runs it.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Likelihood = Literal["exact", "bound", "pseudo", "none"]
"""What a loss says of the text that it speaks for: its negative log-likelihood (given what was read), an upper bound
of it, something that looks like one, or nothing."""

QuestionKind = Literal["continue", "infill", "cloze", "any_order"]
"""A text from what stands before it; what stands between two texts; one word from all else; a text in random order."""

Given = Literal["left", "right", "length"]
"""What an answer was told: the text before, the text behind, how many tokens are asked for."""


@dataclass(frozen=True)
class Way:
    """How an objective answers questions of a kind.

    Attributes:
        likelihood: what the answer is.
        given: what it is told.
        drawn: whether it is an estimate, of which several draws are averaged.
    """

    likelihood: Likelihood
    given: tuple[Given, ...] = ("left",)
    drawn: bool = False


@dataclass(frozen=True, eq=False)
class Question:
    """A question in the tokens of a run.

    Attributes:
        kind: of the question.
        before: [P] ids that stand before; at least one. The end-of-text token where a document begins.
        target: [N] ids that are asked for, at least one, among them the end-of-text token where the document ends in
            them: an answer that does not pay for its end could not be decoded.
        after: [S] ids that stand behind; none where the rest of a text is asked for, to continue or in any order.
            The end-of-text token is the last of them where the document ends there.
    """

    kind: QuestionKind
    before: np.ndarray
    target: np.ndarray
    after: np.ndarray

    @property
    def tokens(self) -> np.ndarray:
        """[P + N + S], the text in its order."""
        return np.concatenate([self.before, self.target, self.after]).astype(np.int64)
