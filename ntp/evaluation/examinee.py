"""Who takes an exam: a trained run, or a baseline that knows no objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ntp.objectives.question import QuestionKind, Way


@dataclass(frozen=True)
class TextQuestion:
    """How likely is a stretch of text, given what stands around it?

    Attributes:
        kind: of the question.
        before: text that stands before.
        target: text that is asked for, not empty.
        after: text that stands behind.
        starts: whether a document begins here: where ``before`` begins.
        ends: whether the document ends here: where ``after`` ends, or ``target`` if there is nothing behind it. Then
            its end is asked for too.
        like: a question with whose draws it is answered, where answers are drawn; None for its own. A pair of texts
            that is told apart by draws in common is told apart more surely.
    """

    kind: QuestionKind
    before: str
    target: str
    after: str = ""
    starts: bool = True
    ends: bool = True
    like: TextQuestion | None = None

    @property
    def target_bytes(self) -> int:
        """UTF-8 bytes of what is asked for."""
        return len(self.target.encode("utf-8", "surrogatepass"))


@dataclass(frozen=True)
class Scores:
    """Answers to questions of one kind.

    Attributes:
        nats: [Q] float64, negative log-likelihoods or bounds of them; NaN where a question did not fit, infinite where
            an answer is no finite number, as those of a model that has diverged.
        variances: [Q] float64, of the nats as estimates; zeros where they are exact, NaN where a single estimate does
            not tell, and where the nats are infinite.
        tokens: [Q] int64, targets, the end-of-text token included.
        shortened: [Q] bool, whether the context was cut to what could be read.
        altered: [Q] bool, whether the tokens of the target are not all of its text, so that something was answered for
            nothing: capitals, blanks, unknown characters. None if that can't be.
    """

    nats: np.ndarray
    variances: np.ndarray
    tokens: np.ndarray
    shortened: np.ndarray
    altered: np.ndarray | None = None


class Examinee(ABC):
    """What an exam may ask for. Exams that need more than likelihoods take a `ntp.evaluation.candidate.Candidate`."""

    @abstractmethod
    def way(self, kind: QuestionKind) -> Way | None:
        """How it answers questions of a kind; None if it can't."""

    @abstractmethod
    def score(self, questions: Sequence[TextQuestion]) -> Scores:
        """Answer questions of kinds that it can answer, in their order."""
