"""Permutation language modelling (XLNet, Yang et al. 2019, arXiv 1906.08237)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ntp.config.errors import ConfigError
from ntp.config.types import PositiveInt
from ntp.data.collate import restart
from ntp.data.example import IGNORE, Draw, Example, Row
from ntp.data.special_tokens import MASK
from ntp.objectives.base import Context, Objective
from ntp.objectives.query import Unmask, canvas
from ntp.objectives.question import Question, QuestionKind, Way


class PermutationLM(Objective):
    """The last tokens of a random order are predicted, each from all that come before it in that order.

    Two streams (arXiv 1906.08237, section 2.3) are two kinds of position of one row. The content of every token is
    read as it is. Each target also has a query: a position that reads the mask token, at the place in the text of the
    token that it must predict. Contents of tokens that are no targets have order 1: they see each other, and all see
    them. The target of rank r has content of order 2r + 1 and a private query of order 2r. So a query sees itself,
    the context, and the earlier targets as they are, but never its own content or a later one's, and nobody else sees
    it. Both streams run through the same weights.

    Only the last 1/K tokens of the order are predicted (section 2.3, partial prediction). They are spans of 1 to 5
    tokens, with probability in proportion to 1/length, each at a random place in a window of its own, K times as long
    as it. The order of the targets is uniform over all their permutations: tokens of a span do not stay together, as
    in the authors' code. Unlike there, spans begin anywhere and not at the beginning of words, no single tokens are
    added to reach a fixed number, and there is no memory of earlier rows, within whose stretches that code permutes:
    the order is that of the whole row. Where documents are isolated, an order restricted to a document is an order of
    it, and a span that would cross a boundary is two.

    The loss is the exact negative log-likelihood of the targets given the other tokens, in the order drawn. With K = 1
    every token is a target, and it is that of the whole text in a random order.

    Args:
        predict_one_in: K; of this many tokens one is a target, at least one of a row.
        longest_span: tokens of the longest span of targets.
    """

    attention = "ordered"
    likelihood = "exact"
    inference = frozenset({"continue", "infill"})
    ways: Mapping[QuestionKind, Way] = {
        "continue": Way("exact"),
        "infill": Way("exact", ("left", "right", "length")),
        "cloze": Way("exact", ("left", "right", "length")),
        "any_order": Way("bound", ("length",), drawn=True),
    }

    def __init__(self, predict_one_in: PositiveInt = 6, longest_span: PositiveInt = 5) -> None:
        super().__init__()
        self.predict_one_in, self.longest_span = predict_one_in, longest_span
        self.mask_id = -1

    def special_tokens(self) -> tuple[str, ...]:
        """What a query reads."""
        return (MASK,)

    def raw_length(self, sequence_length: int) -> int:
        """The most tokens R that fit together with their max(1, R // K) queries."""
        windows, rest = divmod(sequence_length, self.predict_one_in + 1)
        return min(windows * self.predict_one_in + min(rest, self.predict_one_in - 1), sequence_length - 1)

    def bind(self, context: Context) -> None:
        """Remember the id of the mask token.

        Raises:
            ConfigError: a row has no room for a token and its query.
        """
        if context.sequence_length < 2:
            raise ConfigError("data.sequence_length", "a row holds a token and its query; at least 2")
        self.mask_id = context.special_ids[MASK]

    def corrupt(self, row: Row, draw: Draw) -> Example:
        """Contents of all tokens, and behind them the queries of the targets, in the order of the text."""
        rng, length = draw.rng, len(row)
        chosen = self._targets(length, rng)
        made = self._two_streams(row.tokens, restart(row.segments), chosen, 1 + rng.permutation(len(chosen)))
        return replace(
            made,
            segments=np.concatenate((row.segments, row.segments[chosen])),
            target_bytes=np.concatenate((np.zeros(length, dtype=np.int64), row.bytes[chosen])),
        )

    def _two_streams(self, tokens: np.ndarray, positions: np.ndarray, chosen: np.ndarray, rank: np.ndarray) -> Example:
        """Contents of all tokens, and queries of those that are chosen, which have ranks from 1 on."""
        order = np.ones(len(tokens), dtype=np.int64)
        order[chosen] = 2 * rank + 1
        return Example(
            tokens=np.concatenate((tokens, np.full(len(chosen), self.mask_id))),
            targets=np.concatenate((np.full(len(tokens), IGNORE), tokens[chosen])),
            order=np.concatenate((order, 2 * rank)),
            private=np.arange(len(tokens) + len(chosen)) >= len(tokens),
            positions=np.concatenate((positions, positions[chosen])),
        )

    def _targets(self, length: int, rng: np.random.Generator) -> np.ndarray:
        """Sorted indices of the targets of a row; each token is as likely as any other.

        Windows are laid on a ring, which is then turned. Whatever is left of it belongs to no window.
        """
        count = max(1, length // self.predict_one_in)
        sizes = np.arange(1, self.longest_span + 1)
        odds = 1 / sizes
        spans = rng.choice(sizes, size=count, p=odds / odds.sum())
        ends = np.cumsum(spans)
        spans = spans[: int(np.searchsorted(ends, count)) + 1]
        spans[-1] -= spans.sum() - count
        context = (self.predict_one_in - 1) * spans
        # At least one token of context follows, which keeps the spans of neighbouring windows apart.
        before = rng.integers(np.maximum(context, 1))
        starts = np.cumsum(spans + context) - (spans + context) + before
        within = np.arange(count) - np.repeat(np.cumsum(spans) - spans, spans)
        return np.sort((np.repeat(starts, spans) + within + rng.integers(length)) % length)

    def restore(self, example: Example) -> np.ndarray:
        """The contents."""
        assert example.private is not None
        return example.tokens[~example.private]

    def query(self, prefix: np.ndarray, suffix: np.ndarray | None, length: int, form: str | None = None) -> Unmask:
        """Unknown tokens are filled from left to right, one at a time, each from all that are known."""
        return canvas(prefix, suffix, length, self.mask_id, block=1, read=self._read)

    def score(self, question: Question, draw: Draw) -> Example:
        """All that is asked for are targets: from left to right, or for a code in any order in one that is drawn.

        The mean over orders of such a code length bounds that of the mixture over all orders from above.
        """
        tokens, asked = question.tokens, len(question.target)
        rank = 1 + np.arange(asked)
        if question.kind == "any_order":
            rank = draw.rng.permutation(rank)
        return self._two_streams(tokens, np.arange(len(tokens)), len(question.before) + np.arange(asked), rank)

    def score_length(self, question: Question) -> int:
        """Contents and queries, and no more text than a row of training has beside its queries."""
        length = len(question.before) + len(question.target) + len(question.after)
        return length + max(len(question.target), length // self.predict_one_in)

    def _read(self, model: Any, tokens_BT: Tensor, known_BT: Tensor) -> Tensor:
        """Known tokens are contents of the context; each unknown one is a query that sees them and itself alone."""
        own_T = 2 + torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        order_BT = torch.where(known_BT, 1, own_T)
        hidden_BTD: Tensor = model(tokens_BT, attention="ordered", order=order_BT, private=~known_BT)
        return hidden_BTD
