"""Masked language modelling, the objective of BERT (Devlin et al. 2018, arXiv 1810.04805), by token, word or span.

Legend: L positions of a row, W words of a row, N targets, V vocabulary.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from ntp.config.errors import ConfigError
from ntp.config.types import Count, PositiveInt, Probability
from ntp.data.example import IGNORE, Batch, Draw, Example, Row
from ntp.data.special_tokens import MASK
from ntp.objectives.base import Context, Objective, TargetNll
from ntp.objectives.diffusion import ANY_ORDER, score_hidden
from ntp.objectives.query import Query, canvas
from ntp.objectives.question import Question

Unit = Literal["token", "whole_word", "span"]


class MaskedLanguageModel(Objective):
    """Some tokens are hidden, and each of them is predicted from all that is left, on both sides of it.

    Special tokens are never selected, and no word or span reaches across documents. Of the selected tokens most become
    the mask token, some a random one, and the rest stay: a model that is to be used on text without mask tokens must
    not find them wherever it has something to say (section 3.1 of the paper). All selected tokens are targets.

    Rows that measure are corrupted alike under all arguments, so that runs may be compared: single tokens are selected
    at ``evaluation_rate`` and all of them masked, because an unchanged token gives its own answer away.

    Args:
        rate: probability that a token, or a word, is selected; for spans, part of a row's tokens.
        unit: what is selected at a time: tokens, whole words (of the tokenizer's pre-tokenizer), or spans of words
            (SpanBERT, Joshi et al. 2019, arXiv 1907.10529, section 3.1).
        mask_fraction: part of the selected tokens that become the mask token.
        random_fraction: part of them that become a random one, no special token. Which of the three happens is drawn
            for each token, and for spans once for each span.
        mean_span: for spans, 1 / p of the geometric distribution of their lengths in words.
        max_span: for spans, longest length; longer ones are not drawn. With 5 and 10 the mean is SpanBERT's 3.8.
        min_masked: tokens that are selected at the least, where a row has so many: chance would leave short rows
            without any. It raises the rate of short rows.
        evaluation_rate: the rate of rows that measure.

    Raises:
        ConfigError: the fractions sum to more than 1.
    """

    attention = "full"
    # The conditionals of single tokens given the others are not those of one joint distribution.
    likelihood = "pseudo"
    inference = frozenset({"infill"})
    # Masks at every rate make of the same conditionals the bound of masked diffusion, whatever the rate of training.
    ways = ANY_ORDER

    def __init__(
        self,
        rate: Probability = 0.15,
        unit: Unit = "token",
        mask_fraction: Probability = 0.8,
        random_fraction: Probability = 0.1,
        mean_span: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 5.0,
        max_span: PositiveInt = 10,
        min_masked: Count = 1,
        evaluation_rate: Probability = 0.15,
    ) -> None:
        super().__init__()
        if mask_fraction + random_fraction > 1 + 1e-9:
            problem = f"leaves no room beside a mask_fraction of {mask_fraction:g}; at most {1 - mask_fraction:g} fits"
            raise ConfigError("objective.random_fraction", problem)
        self.rate, self.unit, self.min_masked, self.evaluation_rate = rate, unit, min_masked, evaluation_rate
        self.mask_fraction, self.random_fraction = mask_fraction, random_fraction
        self.shows_some_targets = mask_fraction + random_fraction < 1
        self.length_cdf = np.cumsum((1 - 1 / mean_span) ** np.arange(max_span))
        self.length_cdf /= self.length_cdf[-1]

    def special_tokens(self) -> tuple[str, ...]:
        """The mask token."""
        return (MASK,)

    def bind(self, context: Context) -> None:
        """Remember which ids are text, and check that the tokenizer has words where they are needed."""
        self.tokenizer, self.mask_id = context.tokenizer, context.special_ids[MASK]
        self.text_ids = context.tokenizer.text_ids
        self.is_text_V = np.zeros(context.vocabulary_size, dtype=bool)
        self.is_text_V[self.text_ids] = True
        if self.unit != "token":
            self.tokenizer.word_starts(self.text_ids[:0])

    def corrupt(self, row: Row, draw: Draw) -> Example:
        """Select tokens; mask, replace or keep each of them. The target is the original in all three cases."""
        rng = draw.rng
        if draw.evaluation:
            decision_L = self._select(row, rng, "token", self.evaluation_rate, 1)
            mask_below, random_below = 1.0, 1.0
        else:
            decision_L = self._select(row, rng, self.unit, self.rate, self.min_masked)
            mask_below, random_below = self.mask_fraction, self.mask_fraction + self.random_fraction
        selected_L = decision_L >= 0
        fate_L = rng.random(len(row))[decision_L]
        masked_L = selected_L & (fate_L < mask_below)
        random_L = selected_L & ~masked_L & (fate_L < random_below)
        tokens = np.where(masked_L, self.mask_id, row.tokens)
        tokens[random_L] = rng.choice(self.text_ids, np.count_nonzero(random_L))
        return Example(
            tokens=tokens,
            targets=np.where(selected_L, row.tokens, IGNORE),
            segments=row.segments,
            target_bytes=np.where(selected_L, row.bytes, 0),
        )

    def _select(self, row: Row, rng: np.random.Generator, unit: Unit, rate: float, at_least: int) -> np.ndarray:
        """[L] int64: -1 where a token is not selected, else the number below L of the decision about its fate."""
        is_text_L = self.is_text_V[row.tokens]
        begins_L = is_text_L.copy()
        if unit != "token":
            begins_L &= self.tokenizer.word_starts(row.tokens) | (np.diff(row.segments, prepend=-1) != 0)
        word_L = np.where(is_text_L, np.cumsum(begins_L) - 1, -1)
        tokens_W = np.bincount(word_L[is_text_L])
        words = len(tokens_W)

        if unit == "span":
            begin_W = np.flatnonzero(begins_L)
            joined_W = is_text_L[begin_W - 1] & (row.segments[begin_W] == row.segments[begin_W - 1]) & (begin_W > 0)
            budget = max(round(rate * int(tokens_W.sum())), at_least)
            span_W = np.full(words, -1)
            for span, (begin, end) in enumerate(draw_spans(rng, tokens_W, joined_W, budget, self.length_cdf)):
                span_W[begin:end] = span
            return np.where(is_text_L, span_W[word_L], -1) if words else word_L

        selected_W = rng.random(words) < rate
        if (missing := at_least - int(tokens_W[selected_W].sum())) > 0:
            others = rng.permutation(np.flatnonzero(~selected_W))
            selected_W[others[: 1 + np.searchsorted(np.cumsum(tokens_W[others]), missing)]] = True
        selected_L = is_text_L & selected_W[word_L] if words else is_text_L
        return np.where(selected_L, np.arange(len(row)), -1)

    def metrics(self, batch: Batch, nll: TargetNll) -> dict[str, tuple[Tensor, int | Tensor]]:
        """``masked_nll``, of the targets behind mask tokens alone: in training, the one to compare with validation."""
        tokens_N = batch.tokens.flatten() if nll.index is None else batch.tokens.flatten()[nll.index]
        masked_N = tokens_N == self.mask_id
        return {"masked_nll": ((nll.nll * masked_N).sum(), masked_N.sum())}

    def restore(self, example: Example) -> np.ndarray:
        """Targets where there are any, tokens elsewhere."""
        return np.where(example.targets == IGNORE, example.tokens, example.targets)

    def query(self, prefix: np.ndarray, suffix: np.ndarray | None, length: int, form: str | None = None) -> Query:
        """``length`` mask tokens between prefix and suffix, the surest filled first.

        Nothing is put behind the suffix. A row of the training text ends anywhere, hardly ever with its document.
        """
        return canvas(prefix, suffix, length, self.mask_id, method="confidence")

    def score(self, question: Question, draw: Draw) -> Example:
        """Some of what is asked for is masked, and nothing of it is random or unchanged."""
        return score_hidden(question, self.mask_id, draw)


def draw_spans(
    rng: np.random.Generator, tokens_W: np.ndarray, joined_W: np.ndarray, budget: int, length_cdf: np.ndarray
) -> Iterator[tuple[int, int]]:
    """Draw spans of words that do not overlap, until they have enough tokens.

    Each has a length from the distribution and a place from all where so many words are free. If there is no such
    place it is as long as the largest gap. The last one ends with the word that meets the budget.

    Args:
        rng: of the row.
        tokens_W: [W] int, tokens of each word.
        joined_W: [W] bool, whether a span may go on to this word from the one before.
        budget: tokens.
        length_cdf: [M] cumulative probabilities of the lengths 1 to M, in words.

    Yields:
        The first word of a span, and the first behind it.
    """
    words = len(tokens_W)
    index_W, free_W = np.arange(words), np.ones(words, dtype=bool)
    missing = min(budget, int(tokens_W.sum()))
    while missing > 0:
        barrier_W = np.append(~(joined_W & free_W)[1:], True)
        behind_W = np.minimum.accumulate(np.where(barrier_W, index_W + 1, words)[::-1])[::-1]
        gap_W = np.where(free_W, behind_W - index_W, 0)
        length = min(1 + int(np.searchsorted(length_cdf, rng.random(), side="right")), int(gap_W.max()))
        begin = int(rng.choice(np.flatnonzero(gap_W >= length)))
        taken = np.cumsum(tokens_W[begin : begin + length])
        length = min(length, 1 + int(np.searchsorted(taken, missing)))
        missing -= int(taken[length - 1])
        free_W[begin : begin + length] = False
        yield begin, begin + length
