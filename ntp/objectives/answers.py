"""Rows that answer questions from left to right, in the ways that several objectives share."""

import numpy as np

from ntp.data.example import IGNORE, Example
from ntp.objectives.question import Question, QuestionKind, Way

LEFT_TO_RIGHT: dict[QuestionKind, Way] = dict.fromkeys(("continue", "infill", "cloze"), Way("exact"))
"""What reads only what stands before answers so, and never sees what stands behind."""


def written(prompt: np.ndarray, answer: np.ndarray, source: int | None = None) -> Example:
    """A row that reads a prompt and predicts an answer behind it, each token from all that stands before.

    Args:
        prompt: [T] ids, at least one.
        answer: [N] ids, at least one; the last one is only predicted.
        source: how many positions at the beginning see each other, for rows of ``prefix`` attention; None for rows of
            ``causal``.
    """
    tokens = np.concatenate([prompt, answer]).astype(np.int64)
    targets = tokens[1:].copy()
    targets[: len(prompt) - 1] = IGNORE
    order = None if source is None else np.maximum(np.arange(len(targets)) - source + 1, 0)
    return Example(tokens=tokens[:-1], targets=targets, order=order)


def score_left_to_right(question: Question) -> Example:
    """A row that reads the text, as far as it is asked for, and predicts the tokens that are, each from those before.

    Args:
        question: what stands behind is not read.
    """
    return written(question.before, question.target)


def left_to_right_length(question: Question) -> int:
    """Positions that `score_left_to_right` takes."""
    return len(question.before) + len(question.target) - 1
