"""Fill-in-the-middle (Bavarian et al. 2022, arXiv 2207.14255)."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Literal

import numpy as np

from ntp.config.errors import ConfigError
from ntp.config.types import Probability
from ntp.data.example import IGNORE, Draw, Example, Row
from ntp.data.special_tokens import FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX
from ntp.data.tokenizers import Tokenizer
from ntp.objectives.answers import LEFT_TO_RIGHT, score_left_to_right, written
from ntp.objectives.base import Context, Objective
from ntp.objectives.cuts import CharacterCuts
from ntp.objectives.query import Decode
from ntp.objectives.question import Likelihood, Question, QuestionKind, Way

_BOTH_SIDES = Way("exact", ("left", "right"))

Stretch = tuple[np.ndarray, np.ndarray]
"""Tokens, and the bytes of text that each of them covers."""


class FillInTheMiddle(Objective):
    """Every position predicts the next token, in documents of which many have their middle moved to the end.

    A document is cut at two places into a prefix p, a middle m and a suffix s, any of which may be empty: two
    independent draws, uniform over all places between two characters and both ends. Signs tell what follows:

        psm   PRE p SUF s MID m END
        spm   PRE SUF s MID p m END    (variant 2 of the paper: a psm whose prefix is empty looks the same)

    The loss is on all of it, the signs and the end too: trained on the middle alone, a model loses the ability to
    continue a text (section 3), and the end says that the middle has met the suffix. A moved document is a code for
    its text that also pays for the cuts, so that the loss is an upper bound of the negative log-likelihood.

    At the level of the context, a row is split behind every end-of-text token. Each piece is moved or not, keeps its
    end-of-text token if it has one, and what then exceeds the row is cut off at its end: each moved piece takes three
    positions more. Pieces without text stay as they are. At the level of the document, a document is moved as a whole,
    the same in all rows of an epoch that hold a part of it; its parts may then land in different rows. A row that held
    tokens b to e of the document's n holds tokens ⌊bn'/n⌋ to ⌊en'/n⌋ of the n' that it has become, less what
    exceeds the row. The paper finds the level of the context better (section 4.4).

    Cuts between characters split tokens, as a user's cursor does (section 4.3). The three parts are encoded by
    themselves; see `ntp.objectives.cuts` for long ones. Where a row begins or ends inside a character, a moved piece
    loses the bytes of that character that it holds, at most three at either end.

    Args:
        rate: share of the documents that are moved.
        spm_rate: share of these that have the form spm.
        level: ``context`` or ``document``.
        unit: cut between any two characters, or only between two tokens. ``auto`` is ``character`` with a tokenizer
            that gives every text back, and ``token`` with another.

    Attributes:
        cuts: what cuts between characters; None where cuts are between tokens.
    """

    attention = "causal"
    likelihood: Likelihood = "bound"
    inference = frozenset({"continue", "infill"})
    ways: Mapping[QuestionKind, Way] = LEFT_TO_RIGHT | {"infill": _BOTH_SIDES, "cloze": _BOTH_SIDES}
    forms: tuple[str, ...] = ("psm", "spm")
    lookahead = 1

    def __init__(
        self,
        rate: Probability = 0.5,
        spm_rate: Probability = 0.5,
        level: Literal["context", "document"] = "context",
        unit: Literal["auto", "character", "token"] = "auto",
    ) -> None:
        super().__init__()
        self.rate, self.spm_rate, self.level, self.unit = rate, spm_rate, level, unit
        if rate == 0:
            self.inference, self.likelihood = frozenset({"continue"}), "exact"
            self.ways, self.forms = LEFT_TO_RIGHT, ()
        elif spm_rate in (0, 1):
            self.forms = ("spm",) if spm_rate else ("psm",)
        self.tokenizer: Tokenizer | None = None
        self.cuts: CharacterCuts | None = None
        self.end = self.pre = self.suf = self.mid = -1
        self.sequence_length = 0

    def special_tokens(self) -> tuple[str, ...]:
        """The three signs."""
        return (FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE)

    def bind(self, context: Context) -> None:
        """Remember the tokenizer, its signs and the length of a row.

        Raises:
            ConfigError: characters are asked for, and the tokenizer does not give its texts back.
        """
        self.tokenizer, self.sequence_length = context.tokenizer, context.sequence_length
        self.end = context.tokenizer.end_of_text
        self.pre, self.suf, self.mid = (context.special_ids[one] for one in self.special_tokens())
        if self.unit == "character" and not context.tokenizer.lossless:
            problem = "this tokenizer does not give back the text of its tokens, so that they cannot be cut; use token"
            raise ConfigError("objective.unit", problem)
        self.cuts = CharacterCuts(context.tokenizer) if self.unit != "token" and context.tokenizer.lossless else None

    def extra_repr(self) -> str:
        """What is cut, for whoever prints the objective."""
        return f"level={self.level}, unit={self.unit if self.cuts is None else 'character'}"

    def corrupt(self, row: Row, draw: Draw) -> Example:
        """Move middles, then inputs are all tokens but the last and targets all but the first.

        Raises:
            ValueError: the level is that of the document, and the row does not know its documents.
        """
        pieces, segments = self._by_context(row, draw) if self.level == "context" else self._by_document(row, draw)
        room = self.sequence_length + 1
        lengths = [sum(len(tokens) for tokens, _ in piece) for piece in pieces]
        tokens, counts = (
            np.concatenate([stretch[field] for piece in pieces for stretch in piece])[:room].astype(np.int64)
            for field in (0, 1)
        )
        segments = np.repeat(segments, lengths)[:room]
        same_document = segments[1:] == segments[:-1]
        return Example(
            tokens=tokens[:-1],
            targets=np.where(same_document, tokens[1:], IGNORE),
            segments=segments[:-1],
            target_bytes=np.where(same_document, counts[1:], 0),
            read_bytes=int(counts[:-1].sum()),
        )

    def _by_context(self, row: Row, draw: Draw) -> tuple[list[list[Stretch]], np.ndarray]:
        """The pieces of a row, and the segment of each."""
        rng = draw.rng
        is_last = (row.tokens[:-1] == self.end) | (row.segments[1:] != row.segments[:-1])
        bounds = [0, *(np.flatnonzero(is_last) + 1).tolist(), len(row)]
        is_moved, is_spm = rng.random((2, len(bounds) - 1)) < [[self.rate], [self.spm_rate]]
        plans: list[list[Stretch | str]] = []
        for number, (begin, end) in enumerate(pairwise(bounds)):
            piece = row.tokens[begin:end], row.bytes[begin:end]
            plans.append(self._moved(*piece, bool(is_spm[number]), rng) if is_moved[number] else [piece])
        return self._encoded(plans), row.segments[bounds[:-1]]

    def _by_document(self, row: Row, draw: Draw) -> tuple[list[list[Stretch]], np.ndarray]:
        """The stretches of a row's documents, and the segment of each."""
        if row.extents is None:
            raise ValueError("level=document needs rows that know the documents that they are from; use level=context")
        extents = row.extents(0, len(row))
        plans: list[list[Stretch | str]] = []
        for extent in extents:
            rng = draw.document_rng(extent.document)
            is_moved, is_spm = rng.random(2) < [self.rate, self.spm_rate]
            whole = extent.tokens, extent.bytes
            plans.append(self._moved(*whole, bool(is_spm), rng) if is_moved else [whole])
        pieces, starts, start = [], [], 0
        for number, (extent, parts) in enumerate(zip(extents, self._encoded(plans), strict=True), start=1):
            before, now = len(extent.tokens), sum(len(tokens) for tokens, _ in parts)
            begin, end = extent.begin * now // before, extent.end * now // before
            if number == len(extents):
                # The row's last token is only predicted: the next row begins with it.
                end = (extent.end - 1) * now // before + 1
            pieces.append(_take(parts, begin, end))
            starts.append(start)
            start += extent.end - extent.begin
        return pieces, row.segments[starts]

    def _moved(
        self, tokens: np.ndarray, counts: np.ndarray, is_spm: bool, rng: np.random.Generator
    ) -> list[Stretch | str]:
        """A document with its middle at the end; strings in it are yet to be encoded."""
        length = len(tokens) - int(tokens[-1] == self.end)
        body = tokens[:length]
        parts = self._cut(body, rng) if length else None
        if parts is None:
            return [(tokens, counts)]
        prefix, middle, suffix = (
            [one if isinstance(one, str) else (body[one], counts[:length][one]) for one in part] for part in parts
        )
        pre, suf, mid = ((np.array([one]), np.zeros(1, dtype=np.int64)) for one in (self.pre, self.suf, self.mid))
        moved = [pre, suf, *suffix, mid, *prefix, *middle] if is_spm else [pre, *prefix, suf, *suffix, mid, *middle]
        return [*moved, (tokens[length:], counts[length:])]

    def _cut(self, body: np.ndarray, rng: np.random.Generator) -> list[list[str | slice]] | None:
        """Prefix, middle and suffix; None if there is nothing to cut."""
        if self.cuts is None:
            first, second = sorted(rng.integers(len(body) + 1, size=2).tolist())
            return [[slice(first)], [slice(first, second)], [slice(second, None)]]
        begin, end = self.cuts.edges(body)
        if begin == end:
            return None
        places = sorted(self.cuts.draw(body, end, rng) for _ in range(2))
        return [self.cuts.between(body, *part) for part in pairwise([begin, *places, end])]

    def _encoded(self, plans: list[list[Stretch | str]]) -> list[list[Stretch]]:
        """The plans with their strings encoded, all at once."""
        assert self.tokenizer is not None
        texts = [one for plan in plans for one in plan if isinstance(one, str)]
        encoded = iter(self.tokenizer.encode_batch(texts) if texts else [])
        return [[next(encoded) if isinstance(one, str) else one for one in plan] for plan in plans]

    def restore(self, example: Example) -> np.ndarray | None:
        """The text with its middles put back, as far as it is whole; None at the level of documents.

        A piece without an end-of-text token may have lost its end, and then gives only what lies before its suffix.
        """
        if self.level == "document":
            return None
        return np.concatenate([self._put_back(piece) for piece in self._pieces(example)])

    def _put_back(self, piece: np.ndarray) -> np.ndarray:
        prefix, middle, suffix, end = self._parts(piece)
        return np.concatenate([prefix, middle, suffix, end] if len(end) else [prefix, middle])

    def _pieces(self, example: Example) -> list[np.ndarray]:
        """What is read and predicted, split behind every end-of-text token."""
        last = example.targets[-1:]
        tokens = np.concatenate([example.tokens, last[last != IGNORE]])
        return np.split(tokens, np.flatnonzero(tokens == self.end) + 1)

    def _parts(self, piece: np.ndarray) -> tuple[np.ndarray, ...]:
        """Prefix, middle, suffix and end of a piece, without signs. One that is not moved is all prefix and end.

        A piece of the form spm is read as a psm with an empty prefix, whose middle is longer.
        """
        cuts = np.flatnonzero(np.isin(piece, [self.suf, self.mid, self.end]))
        if not len(piece) or piece[0] != self.pre:
            return piece[: len(piece) - len(cuts)], piece[:0], piece[:0], piece[len(piece) - len(cuts) :]
        prefix, suffix, middle, end = [*np.split(piece, cuts), *[piece[:0]] * 3][:4]
        return prefix[1:], middle[1:], suffix[1:], end

    def promises(self, row: Row, example: Example) -> dict[str, tuple[float, float]]:
        """How many pieces are moved, and how long their suffixes are: n(2n + 1) / (6(n + 1)) of n places for a cut.

        Only of pieces that fit into the row whatever becomes of them. Suffixes are as long in either form.
        """
        if self.level == "document":
            return {}
        moved = suffix = expected_moved = expected_suffix = 0.0
        room = self.sequence_length + 1
        originals = np.split(row.tokens, np.flatnonzero(row.tokens == self.end) + 1)
        for original, piece in zip(originals, self._pieces(example), strict=False):
            # However characters are encoded, they are no more tokens than bytes.
            room -= 4 + (len(original) if self.cuts is None else self.cuts.byte_length(original))
            if room < 0 or original[-1:] != self.end:
                break
            if (length := self._length(original[:-1])) == 0:
                continue
            expected_moved += self.rate
            if piece[0] == self.pre:
                moved += 1
                suffix += self._length(self._parts(piece)[2])
                expected_suffix += length * (2 * length + 1) / (6 * (length + 1))
        return {"moved": (moved, expected_moved), "suffix": (suffix, expected_suffix)}

    def _length(self, tokens: np.ndarray) -> int:
        return len(tokens) if self.cuts is None else self.cuts.character_length(tokens)

    def query(self, prefix: np.ndarray, suffix: np.ndarray | None, length: int, form: str | None = None) -> Decode:
        """To continue, the prefix as it is; to infill, a document up to its middle, behind the end of another."""
        return Decode(prefix if suffix is None else self._prompt(prefix, suffix, form or self.forms[0]))

    def _prompt(self, prefix: np.ndarray, suffix: np.ndarray, form: str) -> np.ndarray:
        """A document up to where its middle is written, behind the end of another."""
        start = int(len(prefix) > 0 and prefix[0] == self.end)
        before, own = prefix[:start], prefix[start:]
        if form == "spm":
            return np.concatenate([before, [self.pre, self.suf], suffix, [self.mid], own]).astype(np.int64)
        return np.concatenate([before, [self.pre], own, [self.suf], suffix, [self.mid]]).astype(np.int64)

    def score(self, question: Question, draw: Draw) -> Example:
        """Text as it is, or a middle in the first form, with the end-of-text token by which it ends.

        The end of the document is no part of a suffix: in a document that is moved it stands behind the middle.
        """
        if "right" not in self.ways[question.kind].given:
            return score_left_to_right(question)
        after = question.after
        suffix = after[:-1] if len(after) and after[-1] == self.end else after
        prompt = self._prompt(question.before, suffix, self.forms[0])
        return written(prompt, np.append(question.target, self.end))

    def score_length(self, question: Question) -> int:
        """Three signs more than the text has tokens; the end is only predicted."""
        behind = len(question.after) + 4 if "right" in self.ways[question.kind].given else 0
        return len(question.before) + len(question.target) - 1 + behind


def _take(parts: list[Stretch], begin: int, end: int) -> list[Stretch]:
    """Tokens ``begin`` to ``end`` of stretches that follow each other."""
    taken = []
    for tokens, counts in parts:
        stretch = slice(max(0, begin), max(0, end))
        taken.append((tokens[stretch], counts[stretch]))
        begin, end = begin - len(tokens), end - len(tokens)
    return taken
