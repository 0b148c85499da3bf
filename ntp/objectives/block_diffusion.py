"""Block diffusion language modelling (BD3-LM, Arriola et al. 2025, arXiv 2503.09573)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ntp.config.errors import ConfigError
from ntp.config.types import PositiveInt, PositiveProbability
from ntp.data.collate import restart
from ntp.data.example import IGNORE, Draw, Example, Row
from ntp.objectives.base import Context
from ntp.objectives.diffusion import LOWEST_RATE, AbsorbingDiffusion, hide_by_count, hide_by_rate
from ntp.objectives.query import Unmask, canvas
from ntp.objectives.question import Question, QuestionKind, Way

_KINDS: tuple[QuestionKind, ...] = ("continue", "infill", "cloze", "any_order")


class BlockDiffusion(AbsorbingDiffusion):
    """Blocks of tokens are predicted from left to right, and the tokens of a block by masked diffusion.

    All blocks of a row are trained in one pass (arXiv 2503.09573, section 3.1). The row holds its tokens twice: a clean
    copy, and a noisy one in which tokens are hidden. Block b of the clean copy has order 2b + 1 and sees itself and the
    clean blocks before it. Block b of the noisy copy has order 2b and is private: it sees itself and the clean blocks
    before b, and nobody else sees it. Both copies have the same positions. Half of a row is text, therefore.

    A block has a time of its own, stratified over the blocks of the row and over the global batch; its hidden tokens
    count 1/p, and all tokens of the text divide. Validation and evaluation hide k of the n tokens of each block, with
    k uniform in 1 .. n, and count them n/k.

    The loss bounds the negative log-likelihood of the text from above: by the chain rule over blocks it is the sum of
    the bounds of masked diffusion for each block given those before it. Two limits: with one block it is masked
    diffusion; with blocks of one token the bound is the likelihood itself, that of a causal model whose last position
    reads the mask token, and it is declared exact.

    Blocks are counted from the beginning of each document where documents are isolated, else of the row. The last one
    of a document may be shorter.

    Args:
        block_size: tokens of a block.
        lowest_rate, highest_rate: training draws rates of hiding uniformly in between (the clipped schedules of arXiv
            2503.09573, section 5.2, which avoid gradients of much variance). Hidden tokens count 1/p all the same, so
            only with the whole range is the training loss an estimate of the bound; validation and evaluation always
            use the whole range.
        subs: give the mask token no probability (arXiv 2406.07524, section 3.2.3).

    Raises:
        ConfigError: the lowest rate is above the highest.
    """

    attention = "ordered"
    inference = frozenset({"continue"})
    # Where the text ends, the last block does: it may be shorter.
    ways: Mapping[QuestionKind, Way] = dict.fromkeys(_KINDS, Way("bound", ("left", "length"), drawn=True))

    def __init__(
        self,
        block_size: PositiveInt = 16,
        lowest_rate: PositiveProbability = LOWEST_RATE,
        highest_rate: PositiveProbability = 1.0,
        subs: bool = True,
    ) -> None:
        super().__init__(subs)
        if lowest_rate > highest_rate:
            problem = f"{lowest_rate} is above objective.highest_rate, {highest_rate}; at most that"
            raise ConfigError("objective.lowest_rate", problem)
        self.block_size, self.lowest_rate, self.highest_rate = block_size, lowest_rate, highest_rate
        if block_size == 1:
            self.likelihood, self.ways = "exact", dict.fromkeys(_KINDS, Way("exact"))

    def raw_length(self, sequence_length: int) -> int:
        """Half: a row holds its text twice."""
        return sequence_length // 2

    def bind(self, context: Context) -> None:
        """Remember the id of the mask token.

        Raises:
            ConfigError: a row has no room for two copies.
        """
        super().bind(context)
        if context.sequence_length < 2:
            raise ConfigError("data.sequence_length", "a row holds its text twice; at least 2")

    def corrupt(self, row: Row, draw: Draw) -> Example:
        """The clean copy, and behind it the noisy one."""
        length, positions = len(row), restart(row.segments)
        block = positions // self.block_size
        starts = np.flatnonzero((positions % self.block_size == 0) | (positions == 0))
        sizes = np.diff(np.append(starts, length))
        if draw.evaluation:
            hidden, weights = hide_by_count(sizes, draw, draw.rng)
        else:
            hidden, weights = hide_by_rate(sizes, draw, draw.rng, self.lowest_rate, self.highest_rate)
        nothing = np.zeros(length, dtype=np.int64)
        return Example(
            tokens=np.concatenate((row.tokens, np.where(hidden, self.mask_id, row.tokens))),
            targets=np.concatenate((nothing + IGNORE, np.where(hidden, row.tokens, IGNORE))),
            weights=np.concatenate((nothing, weights)),
            order=np.concatenate((2 * block + 1, 2 * block)),
            private=np.arange(2 * length) >= length,
            segments=np.concatenate((row.segments, row.segments)),
            positions=np.concatenate((positions, positions)),
            target_bytes=np.concatenate((nothing, row.bytes)),
            count=length,
        )

    def restore(self, example: Example) -> np.ndarray:
        """The clean copy."""
        assert example.private is not None
        return example.tokens[~example.private]

    def read(self, tokens: np.ndarray) -> Example:
        """Each block sees itself and the blocks before it, as the clean copy of a training row does."""
        return replace(super().read(tokens), order=np.arange(len(tokens)) // self.block_size)

    def query(self, prefix: np.ndarray, suffix: np.ndarray | None, length: int, form: str | None = None) -> Unmask:
        """``length`` masks behind the prefix, to be filled block by block.

        Blocks are counted from the beginning of the prefix, as in training; its end may be the beginning of a block.
        """
        return canvas(prefix, None, length, self.mask_id, block=self.block_size, read=self._read)

    def score(self, question: Question, draw: Draw) -> Example:
        """A clean copy of the text up to the end of what is asked for, and behind it a noisy one of the blocks of that.

        Blocks are counted from the beginning of the text, as in `query`. Of the first one some tokens may be known.
        """
        tokens = np.concatenate([question.before, question.target]).astype(np.int64)
        known, positions = len(question.before), np.arange(len(tokens))
        block = positions // self.block_size
        begin = known // self.block_size * self.block_size
        _, sizes = np.unique(block[known:], return_counts=True)
        chosen, weights = hide_by_count(sizes, draw, draw.rng)
        hidden = np.zeros(len(tokens), dtype=bool)
        hidden[known:] = chosen
        noisy, nothing = slice(begin, None), np.zeros(len(tokens), dtype=np.int64)
        return Example(
            tokens=np.concatenate((tokens, np.where(hidden, self.mask_id, tokens)[noisy])),
            targets=np.concatenate((nothing + IGNORE, np.where(hidden, tokens, IGNORE)[noisy])),
            weights=np.concatenate((nothing, np.zeros(known - begin), weights)),
            order=np.concatenate((2 * block + 1, 2 * block[noisy])),
            private=np.arange(2 * len(tokens) - begin) >= len(tokens),
            positions=np.concatenate((positions, positions[noisy])),
        )

    def score_length(self, question: Question) -> int:
        """Two copies of the text, as in training, although some blocks of the noisy one are left out."""
        return 2 * (len(question.before) + len(question.target))

    def _read(self, model: Any, tokens_BT: Tensor, known_BT: Tensor) -> Tensor:
        """A block sees itself and the blocks before it; masks in the blocks behind are not seen."""
        order_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device) // self.block_size
        hidden_BTD: Tensor = model(tokens_BT, attention="ordered", order=order_T.expand_as(tokens_BT))
        return hidden_BTD
