"""Baselines that give every token a probability from those before it, and answer questions from left to right."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ntp.baselines.sequences import Sequences
from ntp.data.tokenizers import Tokenizer
from ntp.evaluation.encoding import altered, encode
from ntp.evaluation.examinee import Examinee, Scores, TextQuestion
from ntp.objectives.question import QuestionKind, Way


def words_of(tokenizer: Tokenizer) -> np.ndarray:
    """[W] int64, ids that a text can hold, its end included: what a uniform distribution spreads over.

    Tokens that objectives have reserved for themselves never occur in a text and are not among them.
    """
    unknown = [] if tokenizer.unknown is None else [tokenizer.unknown]
    return np.unique([*tokenizer.text_ids, tokenizer.end_of_text, *unknown])


class LeftToRight(Examinee):
    """Sums the tokens of what is asked for. What stands behind is not read.

    Args:
        nats: [T] float64 from sequences, -log p of each token given those before it.
        tokenizer: of the run.
    """

    def __init__(self, nats: Callable[[Sequences], np.ndarray], tokenizer: Tokenizer) -> None:
        self._nats = nats
        self._tokenizer = tokenizer

    def way(self, kind: QuestionKind) -> Way | None:
        """Exact, given the left side; in no other order."""
        return None if kind == "any_order" else Way("exact")

    def score(self, questions: Sequence[TextQuestion]) -> Scores:
        """Every document begins behind the end-of-text token, as in training."""
        encoded = [encode(one, self._tokenizer, begins=True) for one in questions]
        tokens = np.array([len(one.target) for one in encoded], dtype=np.int64)
        nats = np.zeros(len(questions))
        if questions:
            sequences = Sequences.of([np.concatenate([one.before, one.target]) for one in encoded])
            each = self._nats(sequences)
            ends = np.append(sequences.begins[1:], len(each))
            nats = np.array([each[end - size : end].sum() for end, size in zip(ends, tokens, strict=True)])
        return Scores(
            nats,
            np.zeros(len(questions)),
            tokens,
            np.zeros(len(questions), dtype=bool),
            altered(questions, self._tokenizer),
        )
