"""Prefix language modelling (Raffel et al. 2020, arXiv 1910.10683, sections 3.2.1 and 3.2.2)."""

import numpy as np

from ntp.config.errors import ConfigError
from ntp.config.types import Probability
from ntp.data.example import IGNORE, Draw, Example, Row
from ntp.objectives.answers import LEFT_TO_RIGHT, left_to_right_length, written
from ntp.objectives.base import Context, Objective
from ntp.objectives.query import Decode
from ntp.objectives.question import Question


class PrefixLM(Objective):
    """The rest of each document is predicted token by token, from a prefix of it that sees itself in both directions.

    Each document of a row (the row itself, where documents are concatenated) has a prefix of its own, of 1 to n - 1 of
    its n tokens there. Positions of the prefix see the whole prefix, the others what stands before them. Only tokens
    behind the prefix are targets: a position within it could look at the token it must predict. The last position of
    the prefix is trained, for it predicts the first of them. A document of which the row holds a single token predicts
    nothing.

    The loss is the exact negative log-likelihood of the targets given their prefix. With uniform prefixes half of the
    tokens are targets, late ones more often than early ones: token i with a probability in proportion to i.

    Args:
        fraction: part of the document's tokens that is prefix; None draws its length, uniformly.
        mode_token: special token that stands in front of every prefix and says what is asked, as in UL2 (arXiv
            2205.05131, section 3.1.2); None for none.
    """

    attention = "prefix"
    likelihood = "exact"
    inference = frozenset({"continue"})
    ways = LEFT_TO_RIGHT
    lookahead = 1

    def __init__(self, fraction: Probability | None = None, mode_token: str | None = None) -> None:
        super().__init__()
        self.fraction, self.mode_token = fraction, mode_token
        self.mode_ids = np.zeros(0, dtype=np.int64)
        self.sequence_length = 0

    def special_tokens(self) -> tuple[str, ...]:
        """The mode token, if there is one."""
        return () if self.mode_token is None else (self.mode_token,)

    def raw_length(self, sequence_length: int) -> int:
        """One token more than positions, as the last one has a target too; one fewer for the mode token."""
        return sequence_length + 1 - len(self.special_tokens())

    def bind(self, context: Context) -> None:
        """Remember the length of a row and the id of the mode token.

        Raises:
            ConfigError: a row has no room for the mode token and another.
        """
        if self.mode_token is not None and context.sequence_length < 2:
            raise ConfigError("data.sequence_length", "a row holds a mode token and another token; at least 2")
        self.sequence_length = context.sequence_length
        self.mode_ids = np.array([context.special_ids[one] for one in self.special_tokens()], dtype=np.int64)

    def corrupt(self, row: Row, draw: Draw) -> Example:
        """Draw the prefixes. Where mode tokens make the row too long, its end is cut."""
        starts = np.flatnonzero(np.diff(row.segments, prepend=row.segments[:1] - 1))
        lengths = np.diff(starts, append=len(row))
        prefixes = np.repeat(self._prefix_lengths(lengths, draw.rng), lengths)
        index = np.arange(len(row)) - np.repeat(starts, lengths)
        is_target = index >= prefixes

        tokens, segments, counts = row.tokens[:-1], row.segments[:-1], row.bytes[:-1]
        order = np.maximum(index - prefixes + 1, 0)[:-1]
        targets = np.where(is_target[1:], row.tokens[1:], IGNORE)
        target_bytes = np.where(is_target[1:], row.bytes[1:], 0)
        if len(self.mode_ids):
            starts = starts[starts < len(tokens)]
            tokens, targets, order, segments, target_bytes, counts = (
                np.insert(array, starts, value)[: self.sequence_length]
                for array, value in (
                    (tokens, self.mode_ids[0]),
                    (targets, IGNORE),
                    (order, 0),
                    (segments, segments[starts]),
                    (target_bytes, 0),
                    (counts, 0),
                )
            )
        return Example(
            tokens=tokens,
            targets=targets,
            order=order,
            segments=segments,
            target_bytes=target_bytes,
            read_bytes=int(counts.sum()),
        )

    def _prefix_lengths(self, lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """[S], for each segment 1 to its length less 1. A segment of one token is all prefix."""
        longest = np.maximum(lengths - 1, 1)
        if self.fraction is None:
            return rng.integers(1, longest, endpoint=True)
        return np.clip(np.rint(self.fraction * lengths).astype(np.int64), 1, longest)

    def restore(self, example: Example) -> np.ndarray:
        """All that is read but the mode tokens, and the last target."""
        last = example.targets[-1:]
        return np.concatenate([example.tokens[~np.isin(example.tokens, self.mode_ids)], last[last != IGNORE]])

    def promises(self, row: Row, example: Example) -> dict[str, tuple[float, float]]:
        """How many targets there are: of n tokens n less the fraction, or on average n/2."""
        if len(example) < len(row) - 1 or self.mode_token is not None:
            return {}
        lengths = np.bincount(row.segments)
        lengths = lengths[lengths > 1]
        prefixes = lengths / 2 if self.fraction is None else np.clip(np.rint(self.fraction * lengths), 1, lengths - 1)
        return {"targets": (float(np.count_nonzero(example.targets != IGNORE)), float((lengths - prefixes).sum()))}

    def query(self, prefix: np.ndarray, suffix: np.ndarray | None, length: int, form: str | None = None) -> Decode:
        """The prompt is the prefix: it is read in both directions."""
        return Decode(self._prompt(prefix), attention="full")

    def score(self, question: Question, draw: Draw) -> Example:
        """All that stands before is the prefix; what stands behind is not read."""
        prompt = self._prompt(question.before)
        return written(prompt, question.target, source=len(prompt))

    def score_length(self, question: Question) -> int:
        """The mode token has a position too."""
        return len(self.mode_ids) + left_to_right_length(question)

    def _prompt(self, prefix: np.ndarray) -> np.ndarray:
        return np.concatenate([self.mode_ids, prefix])
