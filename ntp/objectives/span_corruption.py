"""Span corruption, the objective of T5 (Raffel et al. 2020, arXiv 1910.10683, sections 3.1.4 and 3.3.4)."""

from collections.abc import Mapping
from itertools import count, pairwise, takewhile
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ntp.config.errors import ConfigError
from ntp.data.example import IGNORE, Batch, Draw, Example, Row
from ntp.data.special_tokens import sentinel
from ntp.objectives.answers import written
from ntp.objectives.base import Context, Objective, TargetNll
from ntp.objectives.query import Decode
from ntp.objectives.question import Question, QuestionKind, Way

Density = Annotated[float, Field(gt=0, lt=1)]
SpanLength = Annotated[float, Field(ge=1, allow_inf_nan=False)]


class SpanCorruption(Objective):
    """Removed spans of a text are written one after the other, from what is left of it.

    In what is left (the inputs) a sentinel stands for each span, S0 for the first, S1 for the second; the answer is
    every sentinel with its span:

        text     a b c d e f g h i j
        inputs   a b S0 e f g S1 END
        answer   S0 c d S1 h i j END

    A row is both, one behind the other. The inputs have order 0 and see each other, and their last position predicts
    the first token of the answer. So a decoder reads a prefix, an encoder-decoder a source and a target.

    Of n tokens ``round(n * density)`` are removed, in ``round(removed / mean_span)`` spans. All ways of cutting the
    removed tokens and the others into that many parts are equally likely, and the parts alternate, what is kept first:
    the first token is never removed and the last one always. Where documents are isolated, each is corrupted by
    itself, with sentinels from S0 on and ends of its own; those that do not fit into the row any more are cut or left
    out at its end, as are pieces of fewer than two tokens. Where they are concatenated, the row is one text. An
    end-of-text token of the text itself is a token like any other and may be removed.

    The loss is over the answer: it is the negative log-likelihood of spans given the rest, at places that the inputs
    tell. It says nothing of the likelihood of a text. Sentinels are nearly free and lower the mean; the metric
    ``noise_nll`` leaves them and the end-of-text tokens out.

    Args:
        density: part of the tokens that is removed; at least one is, and at least one is not.
        mean_span: mean length of a removed span, in tokens.
        random_roll: turn the row of parts by a random number of tokens, so that removed spans may stand anywhere.
            Without, a single long span is always the end of its text. A span that is turned around the end is two.
        mode_token: special token that stands in front of the inputs and says what is asked, as in UL2 (arXiv
            2205.05131, section 3.1.2); None for none.
    """

    attention = "prefix"
    likelihood = "pseudo"
    inference = frozenset({"infill", "continue"})
    ways: Mapping[QuestionKind, Way] = {
        "continue": Way("exact"),
        "infill": Way("exact", ("left", "right")),
        "cloze": Way("exact", ("left", "right")),
    }

    def __init__(
        self,
        density: Density = 0.15,
        mean_span: SpanLength = 3.0,
        random_roll: bool = False,
        mode_token: str | None = None,
    ) -> None:
        super().__init__()
        self.density, self.mean_span, self.random_roll, self.mode_token = density, mean_span, random_roll, mode_token
        self.mode_ids = self.sentinels = np.zeros(0, dtype=np.int64)
        self.end = self.sequence_length = 0
        self.register_buffer("is_text", torch.zeros(0, dtype=torch.bool), persistent=False)
        self.is_text: Tensor

    def special_tokens(self) -> tuple[str, ...]:
        """The first sentinel, and the mode token if there is one."""
        return (sentinel(0),) if self.mode_token is None else (sentinel(0), self.mode_token)

    def positions(self, length: int) -> int:
        """Most positions that a text of ``length`` tokens takes: each span costs two sentinels."""
        return length + 2 * self._most_spans(length) + 1 + (self.mode_token is not None)

    def _most_spans(self, length: int) -> int:
        removed, spans = noise_shape(length, self.density, self.mean_span)
        return min(removed, spans + self.random_roll)

    def raw_length(self, sequence_length: int) -> int:
        """The longest text that fits, with all that is added to it; at least the two tokens that corruption needs."""
        return self._fitting(sequence_length, sequence_length) or 2

    def _fitting(self, longest: int, room: int) -> int:
        """The most of ``longest`` tokens that take at most ``room`` positions; 0 if not even two do."""
        return next((one for one in range(min(longest, room), 1, -1) if self.positions(one) <= room), 0)

    def bind(self, context: Context) -> None:
        """Remember sizes and ids.

        Raises:
            ConfigError: the row is too short, or has more spans than there are sentinels.
        """
        length, ids = context.sequence_length, context.special_ids
        if length < self.positions(2):
            problem = f"{length} is too short for two tokens and what is added to them; at least {self.positions(2)}"
            raise ConfigError("data.sequence_length", problem)
        names = takewhile(ids.__contains__, (sentinel(index) for index in count()))
        self.sentinels = np.array([ids[name] for name in names], dtype=np.int64)
        # To infill takes two: the second stands for what follows the suffix.
        needed = max(2, self._most_spans(self.raw_length(length)))
        if len(self.sentinels) < needed:
            problem = (
                f"a row of {length} positions may have {needed} spans, and the tokenizer has {len(self.sentinels)} "
                f"sentinels; {needed} are enough"
            )
            raise ConfigError("data.tokenizer.sentinels", problem)
        self.mode_ids = np.array([ids[one] for one in self.special_tokens()[1:]], dtype=np.int64)
        self.sequence_length, self.end = length, context.tokenizer.end_of_text
        self.is_text = torch.ones(context.vocabulary_size, dtype=torch.bool)
        self.is_text[[*self.sentinels.tolist(), self.end]] = False

    def corrupt(self, row: Row, draw: Draw) -> Example:
        """Corrupt every document of the row, as long as there is room."""
        rng, room = draw.rng, self.sequence_length
        bounds = np.flatnonzero(np.diff(row.segments, prepend=-1, append=-1)).tolist()
        made: list[tuple[np.ndarray, ...]] = []
        read_bytes = 0
        for begin, end in pairwise(bounds):
            fitting = self._fitting(end - begin, room)
            if fitting < 2:
                continue
            part = slice(begin, begin + fitting)
            made.append(self._corrupted(row.tokens[part], row.bytes[part], len(made), rng))
            read_bytes += int(row.bytes[part].sum())
            room -= len(made[-1][0])
        if not made:
            made.append((np.zeros(0, dtype=np.int64),) * 5)
        tokens, targets, order, segments, target_bytes = (np.concatenate(field) for field in zip(*made, strict=True))
        return Example(
            tokens=tokens,
            targets=targets,
            order=order,
            segments=segments,
            target_bytes=target_bytes,
            read_bytes=read_bytes,
        )

    def _corrupted(
        self, tokens: np.ndarray, counts: np.ndarray, segment: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, ...]:
        """Tokens, targets, order, segments and bytes of one text of at least two tokens."""
        noise = noise_mask(len(tokens), self.density, self.mean_span, rng)
        if self.random_roll:
            noise = np.roll(noise, rng.integers(len(noise)))
        starts = noise & ~np.concatenate(([False], noise[:-1]))
        span = np.cumsum(starts) - 1
        inputs = np.where(starts, self.sentinels[span], tokens)[starts | ~noise]
        begins = np.flatnonzero(starts[noise])
        answer = np.insert(tokens[noise], begins, self.sentinels[: len(begins)])
        answer_bytes = np.insert(counts[noise], begins, 0)

        source = np.concatenate((self.mode_ids, inputs, [self.end]))
        nothing = np.full(len(source) - 1, IGNORE)
        return (
            np.concatenate((source, answer)),
            np.concatenate((nothing, answer, [self.end])),
            np.concatenate((np.zeros(len(source), dtype=np.int64), np.arange(1, len(answer) + 1))),
            np.full(len(source) + len(answer), segment),
            np.concatenate((np.zeros_like(nothing), answer_bytes, [0])),
        )

    def metrics(self, batch: Batch, nll: TargetNll) -> dict[str, tuple[Tensor, int | Tensor]]:
        """Nats of a removed token: those of the answer without sentinels and ends."""
        is_text_N = self.is_text.to(nll.nll.device)[nll.targets]
        return {"noise_nll": ((nll.nll * is_text_N).sum().detach(), is_text_N.sum())}

    def restore(self, example: Example) -> np.ndarray:
        """Every text with its spans put back."""
        assert example.segments is not None
        assert example.order is not None
        texts = [np.zeros(0, dtype=np.int64)]
        for segment in range(int(example.segments.max(initial=-1)) + 1):
            own = example.segments == segment
            source = example.tokens[own & (example.order == 0)][len(self.mode_ids) : -1]
            answer = example.tokens[own & (example.order > 0)]
            spans = np.split(answer, np.flatnonzero(np.isin(answer, self.sentinels)))[1:]
            parts = np.split(source, np.flatnonzero(np.isin(source, self.sentinels)))
            texts.append(parts[0])
            for span, part in zip(spans, parts[1:], strict=True):
                texts += [span[1:], part[1:]]
        return np.concatenate(texts)

    def promises(self, row: Row, example: Example) -> dict[str, tuple[float, float]]:
        """Tokens and spans that are removed of a text that is the whole row, and how much is kept before the first."""
        if len(row) < 2 or row.segments[-1] != row.segments[0] or self.positions(len(row)) > self.sequence_length:
            return {}
        assert example.order is not None
        is_sentinel = np.isin(example.tokens, self.sentinels)
        is_answer = example.order > 0
        removed, spans = noise_shape(len(row), self.density, self.mean_span)
        promises = {"removed": (float((is_answer & ~is_sentinel).sum()), float(removed))}
        if not self.random_roll:
            before = float(np.argmax(is_sentinel)) - len(self.mode_ids)
            promises["spans"] = (float((is_answer & is_sentinel).sum()), float(spans))
            promises["kept before the first span"] = (before, (len(row) - removed) / spans)
        return promises

    def query(self, prefix: np.ndarray, suffix: np.ndarray | None, length: int, form: str | None = None) -> Decode:
        """A text in which S0 stands for what is asked; the answer is what the model writes behind S0.

        In training the inputs end in a sentinel, unless they are rolled: one stands behind a suffix, too. Never do two
        stand together, so an empty suffix is none.
        """
        return Decode(
            self._inputs(prefix, suffix),
            attention="full",
            stop=frozenset(self.sentinels.tolist()),
            forced=self.sentinels[:1].tolist(),
        )

    def _inputs(self, prefix: np.ndarray, suffix: np.ndarray | None) -> np.ndarray:
        gap, behind = self.sentinels[:1], self.sentinels[1:2]
        inputs = [self.mode_ids, prefix, gap]
        if suffix is not None and len(suffix):
            inputs += [suffix] if self.random_roll else [suffix, behind]
        return np.concatenate([*inputs, [self.end]]).astype(np.int64)

    def score(self, question: Question, draw: Draw) -> Example:
        """The inputs of `query`, S0, which they force, and what is asked for with the sign that ends it: S1 or END.

        Without a roll the end of a document is always removed, so that S1 stands for it and no suffix has it.
        """
        suffix = question.after if question.kind != "continue" else question.after[:0]
        if not self.random_roll and len(suffix) and suffix[-1] == self.end:
            suffix = suffix[:-1]
        inputs = self._inputs(question.before, suffix)
        ends = self.sentinels[1] if len(suffix) and not self.random_roll else self.end
        return written(np.append(inputs, self.sentinels[0]), np.append(question.target, ends), source=len(inputs))

    def score_length(self, question: Question) -> int:
        """The signs of `score` beside the text: S0 twice, S1 where there is a suffix, END, and the mode token."""
        signs = len(self.mode_ids) + (3 if question.kind == "continue" or self.random_roll else 4)
        return len(question.before) + len(question.target) + len(question.after) + signs


def noise_shape(length: int, density: float, mean_span: float) -> tuple[int, int]:
    """(tokens, spans) that are removed of a text of ``length`` tokens, at least 2.

    Halves are rounded to even, in double precision here and wherever a length is computed from it. (In single
    precision some counts differ, and then the lengths do.)
    """
    removed = min(max(round(length * density), 1), length - 1)
    return removed, max(1, min(round(removed / mean_span), length - removed))


def noise_mask(length: int, density: float, mean_span: float, rng: np.random.Generator) -> np.ndarray:
    """[length] bool, the tokens that are removed: parts that are kept and removed alternate, a kept one first."""
    removed, spans = noise_shape(length, density, mean_span)
    parts = np.stack((_composition(length - removed, spans, rng), _composition(removed, spans, rng)), axis=1)
    return np.repeat(np.arange(2 * spans) % 2 == 1, parts.ravel())


def _composition(total: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """[parts] whole numbers above 0 that sum to ``total``; all such lists are equally likely."""
    cuts = np.sort(rng.choice(total - 1, parts - 1, replace=False, shuffle=False)) + 1
    return np.diff(cuts, prepend=0, append=total)


def t5_lengths(inputs: int, density: float, mean_span: float) -> tuple[int, int]:
    """T5's own helper: the longest text whose inputs fit into ``inputs`` positions, their end-of-text token included.

    With a density of 0.5, where the answer would be longer than the inputs, the text is one token shorter, so that the
    two are equal. `SpanCorruption.raw_length` instead fits inputs and answer into one row.

    Args:
        inputs: positions of the encoder.
        density, mean_span: see `SpanCorruption`.

    Returns:
        Tokens of the text, and the positions that its answer takes, its end-of-text token included.
    """

    def lengths(raw: int) -> tuple[int, int]:
        removed, spans = noise_shape(raw, density, mean_span)
        return raw - removed + spans + 1, removed + spans + 1

    raw = inputs
    while lengths(raw + 1)[0] <= inputs:
        raw += 1
    inputs, targets = lengths(raw)
    shorter = density == 0.5 and targets > inputs
    return raw - shorter, targets - shorter
