"""The shapes that data takes: a raw row, the example an objective makes of it, and a batch of examples.

Legend: B rows of a micro-batch, L positions of a row, N targets of a micro-batch.

One rule decides who sees whom, for every objective:

    position i may attend to position j  iff  ``segments[i] == segments[j]`` and
    (``order[j] == order[i]``, or ``order[j] < order[i]`` and j is not ``private``)
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

IGNORE = -100
"""The target of a position that predicts nothing."""

Attention = Literal["causal", "full", "ordered"]
"""The cheapest kernel that obeys the rule: each order is its index, all orders are equal, or anything else."""


@dataclass(frozen=True, slots=True)
class Row:
    """A window of the corpus, before any objective has seen it.

    Attributes:
        tokens: [R] int64, token ids; R is at most the objective's ``raw_length`` (the last row of a corpus is short).
        segments: [R] int64, the document of each token, counted from 0 within the row; all 0 when documents are
            concatenated.
        bytes: [R] int64, how many UTF-8 bytes of the text each token covers; 0 for special tokens.
    """

    tokens: np.ndarray
    segments: np.ndarray
    bytes: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, slots=True)
class Draw:
    """The randomness of one row, a pure function of (seed, epoch, row, place in the global batch).

    Worker count, world size and resuming change nothing about it.

    Attributes:
        seed, epoch, row: the key of `rng`.
        stratum: (k, B), the row's place in its global batch of B rows, for low-discrepancy draws.
    """

    seed: int
    epoch: int
    row: int
    stratum: tuple[int, int]

    @property
    def rng(self) -> np.random.Generator:
        """A fresh generator for this row: Philox, keyed without any folding. Ask once and draw on from it."""
        return np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, self.epoch, self.row])))


@dataclass(frozen=True, slots=True)
class Example:
    """What an objective makes of one row. All arrays have one length, at most the sequence length.

    Attributes:
        tokens: [L] int, what the model reads.
        targets: [L] int, what position i must predict, `IGNORE` for nothing. Already aligned: for causal
            prediction ``targets[i]`` is the next token. The model never shifts.
        weights: [L] float, weight of each target's loss; absent means 1.
        order: [L] int, the visibility rank, for objectives whose ``attention`` is ``ordered``; causal means the index,
            full means 0 everywhere.
        private: [L] bool, seen only by positions of equal order, for ``ordered`` too; absent means none.
        segments: [L] int, the document of each position, -1 for padding; absent means one document. Nothing
            attends across it.
        positions: [L] int, what the positional encoding sees; absent means counting from 0 in every segment.
        target_bytes: [L] int, UTF-8 bytes of the text that each target stands for; absent means what the
            tokenizer's table says of the target's id.
    """

    tokens: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None = None
    order: np.ndarray | None = None
    private: np.ndarray | None = None
    segments: np.ndarray | None = None
    positions: np.ndarray | None = None
    target_bytes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.tokens)


class Batch:
    """A micro-batch on its way to the model.

    Fields that the kernel does not need are None. Counts are Python numbers, known on the host, so that nothing
    has to wait for the accelerator. No dataclass on purpose: Lightning rounds the floats of those to bfloat16 in
    ``bf16-true``, and a loss weight is not to be rounded.

    Attributes:
        tokens: [B, L] int64.
        targets: [B, L] int64, aligned, `IGNORE` for none.
        attention: the kernel that obeys the rule for these rows.
        target_index: [N] int64, where in the flattened [B * L] the targets are; None when every position has one.
        weights: [B, L] float32.
        order, segments, positions: [B, L] int64.
        private: [B, L] bool.
        read_tokens: positions that are not padding.
        read_bytes: bytes of text in the raw rows.
        target_count: N.
        target_bytes: bytes of text that the targets stand for.
    """

    _TENSORS = ("tokens", "targets", "target_index", "weights", "order", "private", "segments", "positions")

    def __init__(
        self,
        tokens: Tensor,
        targets: Tensor,
        attention: Attention,
        *,
        target_index: Tensor | None = None,
        weights: Tensor | None = None,
        order: Tensor | None = None,
        private: Tensor | None = None,
        segments: Tensor | None = None,
        positions: Tensor | None = None,
        read_tokens: int = 0,
        read_bytes: int = 0,
        target_count: int = 0,
        target_bytes: int = 0,
    ) -> None:
        self.tokens, self.targets, self.attention = tokens, targets, attention
        self.target_index, self.weights = target_index, weights
        self.order, self.private, self.segments, self.positions = order, private, segments, positions
        self.read_tokens, self.read_bytes = read_tokens, read_bytes
        self.target_count, self.target_bytes = target_count, target_bytes

    @property
    def rows(self) -> int:
        """B."""
        return self.tokens.shape[0]

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        changed = copy(self)
        for name in self._TENSORS:
            if (tensor := getattr(self, name)) is not None:
                setattr(changed, name, change(tensor))
        return changed

    def to(self, device: torch.device | str) -> Batch:
        """The batch on another device, without waiting for the copy."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory; torch's data loader asks for it."""
        return self._map(Tensor.pin_memory)
