"""The shapes that data takes: a raw row, the example an objective makes of it, and a batch of examples.

Legend: B rows of a micro-batch, L positions of a row, N targets of a micro-batch.

One rule decides who sees whom, for every objective:

    position i may attend to position j  iff  ``segments[i] == segments[j]`` and
    (``order[j] == order[i]``, or ``order[j] < order[i]`` and j is not ``private``)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

IGNORE = -100
"""The target of a position that predicts nothing."""

Attention = Literal["causal", "full", "prefix", "ordered"]
"""The cheapest kernel that obeys the rule: each order is its index; all orders are equal; 0 on a prefix of each
segment and then 1, 2, 3 ..., with nothing private; or anything else."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a stretch of a row lies in its document.

    Attributes:
        document: index of the document in the text.
        begin, end: the stretch, in tokens of the document.
        tokens: [T] the whole document, its end-of-text token last.
        bytes: [T] how many UTF-8 bytes of the text each of its tokens covers.
    """

    document: int
    begin: int
    end: int
    tokens: np.ndarray
    bytes: np.ndarray


@dataclass(frozen=True, slots=True)
class Row:
    """A window of the corpus, before any objective has seen it.

    Attributes:
        tokens: [R] int64, token ids; R is at most the objective's ``raw_length`` (the last row of a corpus is short).
        segments: [R] int64, the document of each token, counted from 0 within the row; all 0 when documents are
            concatenated.
        bytes: [R] int64, how many UTF-8 bytes of the text each token covers; 0 for special tokens.
        extents: gives, for a part [begin, end) of this row, the documents it lies in, in order; None for a row that
            does not know where it comes from.
    """

    tokens: np.ndarray
    segments: np.ndarray
    bytes: np.ndarray
    extents: Callable[[int, int], list[Extent]] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def part(self, begin: int, end: int) -> Row:
        """The tokens from ``begin`` to ``end``, which is not included."""
        extents = self.extents
        shifted = None if extents is None else lambda first, last: extents(begin + first, begin + last)
        tokens, segments, counts = (one[begin:end] for one in (self.tokens, self.segments, self.bytes))
        return Row(tokens, segments - segments[:1], counts, shifted)


@dataclass(frozen=True, slots=True)
class Draw:
    """The randomness of one row, a pure function of (seed, epoch, row, place in the global batch).

    Worker count, world size and resuming change nothing about it.

    Attributes:
        seed, epoch, row: the key of `rng`.
        stratum: (k, B), the row's place in its global batch of B rows, for low-discrepancy draws.
        progress: the part of the run that lies before this row's step, in [0, 1), for what changes over training;
            None where a clock ends the run, and in evaluation.
        evaluation: the row is of a fixed set that measures; an objective may draw with less variance then.
        stream: further key of `rng`, see `child`.
    """

    seed: int
    epoch: int
    row: int
    stratum: tuple[int, int]
    progress: float | None = None
    evaluation: bool = False
    stream: tuple[int, ...] = ()

    @property
    def rng(self) -> np.random.Generator:
        """A fresh generator for this row: Philox, keyed without any folding. Ask once and draw on from it."""
        return self._generator(self.row)

    def child(self, index: int) -> Draw:
        """The same row with randomness of its own, independent of this draw's and of that of other children."""
        return replace(self, stream=(*self.stream, index))

    def document_rng(self, document: int) -> np.random.Generator:
        """A fresh generator for a document of this epoch: the same for every row that holds a part of it."""
        # No child ends so: theirs are counted from 0.
        return self.child(_OF_DOCUMENTS)._generator(document)

    def _generator(self, index: int) -> np.random.Generator:
        key = np.random.SeedSequence([self.seed, self.epoch, index], spawn_key=self.stream)
        return np.random.Generator(np.random.Philox(key))


_OF_DOCUMENTS = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Example:
    """What an objective makes of one row. All arrays have one length, at most the sequence length.

    Attributes:
        tokens: [L] int, what the model reads.
        targets: [L] int, what position i must predict, `IGNORE` for nothing. Already aligned: for causal
            prediction ``targets[i]`` is the next token. The model never shifts.
        weights: [L] float, weight of each target's loss; absent means 1.
        order: [L] int, the visibility rank, for objectives whose ``attention`` is ``prefix`` or ``ordered``; causal
            means the index, full means 0 everywhere.
        private: [L] bool, seen only by positions of equal order, for ``ordered``; absent means none.
        segments: [L] int, the document of each position, -1 for padding; absent means one document. Nothing
            attends across it.
        positions: [L] int, what the positional encoding sees; absent means counting from 0 in every segment.
        target_bytes: [L] int, UTF-8 bytes of the text that the loss of each position speaks for; absent means what
            the tokenizer's table says of the target's id.
        count: what the row adds to the number that the loss is divided by; absent means its targets. The estimate of
            a likelihood that asks for some tokens and speaks for all divides by all.
        read_bytes: UTF-8 bytes of the row's text that the example was made of; absent means all but the lookahead.
        extra: arrays of the objective's own, [L] or [L, ...]; integers are padded with `IGNORE`, others with 0.
        component: which objective of a mixture made it, outermost first; see `ntp.objectives.mixture`.
    """

    tokens: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None = None
    order: np.ndarray | None = None
    private: np.ndarray | None = None
    segments: np.ndarray | None = None
    positions: np.ndarray | None = None
    target_bytes: np.ndarray | None = None
    count: int | None = None
    read_bytes: int | None = None
    extra: Mapping[str, np.ndarray] | None = None
    component: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, slots=True)
class Tally:
    """Numbers of one row of a batch, known on the host.

    Attributes:
        targets: positions with a target.
        count: what the row adds to the divisor of the loss.
        target_bytes: bytes of text that its loss speaks for.
        read_tokens: positions that are not padding.
        read_bytes: bytes of text that were read.
        component: of a mixture, outermost first.
        sources: positions of order 0, where the batch has orders: what an encoder reads.
        decoded: the others and the last of each source, likewise: what a decoder behind an encoder reads.
    """

    targets: int
    count: int
    target_bytes: int
    read_tokens: int
    read_bytes: int
    component: tuple[int, ...] = ()
    sources: int = 0
    decoded: int = 0


class Batch:
    """A micro-batch on its way to the model.

    Fields that the kernel does not need are None. Counts are Python numbers, known on the host, so that nothing
    has to wait for the accelerator. No dataclass on purpose: Lightning rounds the floats of those to bfloat16 in
    ``bf16-true``, and a loss weight is not to be rounded.

    Attributes:
        tokens: [B, L] int64.
        targets: [B, L] int64, aligned, `IGNORE` for none.
        attention: the kernel that obeys the rule for these rows.
        tallies: numbers of each row.
        target_index: [N] int64, where in the flattened [B * L] the targets are; None when every position has one.
        weights: [B, L] float32.
        order, segments, positions: [B, L] int64.
        private: [B, L] bool.
        extra: tensors of the objective's own, [B, L, ...].
    """

    _TENSORS = ("tokens", "targets", "target_index", "weights", "order", "private", "segments", "positions")

    def __init__(
        self,
        tokens: Tensor,
        targets: Tensor,
        attention: Attention,
        *,
        tallies: Sequence[Tally],
        target_index: Tensor | None = None,
        weights: Tensor | None = None,
        order: Tensor | None = None,
        private: Tensor | None = None,
        segments: Tensor | None = None,
        positions: Tensor | None = None,
        extra: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.tokens, self.targets, self.attention = tokens, targets, attention
        self.tallies, self.target_index, self.weights = tuple(tallies), target_index, weights
        self.order, self.private, self.segments, self.positions = order, private, segments, positions
        self.extra = dict(extra or {})

    @property
    def rows(self) -> int:
        """B."""
        return self.tokens.shape[0]

    @property
    def target_count(self) -> int:
        """N."""
        return sum(row.targets for row in self.tallies)

    @property
    def target_rows(self) -> np.ndarray:
        """[N] int64, the row of each target."""
        return np.repeat(np.arange(self.rows), [row.targets for row in self.tallies])

    @property
    def count(self) -> int:
        """What these rows add to the divisor of the loss."""
        return sum(row.count for row in self.tallies)

    @property
    def target_bytes(self) -> int:
        """Bytes of text that the loss speaks for."""
        return sum(row.target_bytes for row in self.tallies)

    @property
    def read_tokens(self) -> int:
        """Positions that are not padding."""
        return sum(row.read_tokens for row in self.tallies)

    @property
    def read_bytes(self) -> int:
        """Bytes of text that were read."""
        return sum(row.read_bytes for row in self.tallies)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        changed = copy(self)
        for name in self._TENSORS:
            if (tensor := getattr(self, name)) is not None:
                setattr(changed, name, change(tensor))
        changed.extra = {name: change(tensor) for name, tensor in self.extra.items()}
        return changed

    def to(self, device: torch.device | str) -> Batch:
        """The batch on another device, without waiting for the copy."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory; torch's data loader asks for it."""
        return self._map(Tensor.pin_memory)

    def select(self, rows: Sequence[int], attention: Attention) -> Batch:
        """Some of the rows, in the given order, without waiting for the device.

        Args:
            rows: their indices.
            attention: the kernel that obeys the rule for them.
        """
        length, device = self.tokens.shape[1], self.tokens.device
        # Made on the host and copied without blocking: torch.tensor(..., device=device) would wait for the device.
        index = torch.tensor(rows, dtype=torch.long).to(device, non_blocking=True)
        target_index = self.target_index
        if target_index is not None:
            ends = np.cumsum([0, *(row.targets for row in self.tallies)])
            pieces = [target_index[ends[row] : ends[row + 1]] + (to - row) * length for to, row in enumerate(rows)]
            target_index = torch.cat(pieces) if pieces else target_index[:0]
        ordered = attention in ("prefix", "ordered")
        chosen = copy(self)
        for name in self._TENSORS:
            if (tensor := getattr(self, name)) is not None and name != "target_index":
                setattr(chosen, name, tensor[index])
        chosen.target_index, chosen.attention = target_index, attention
        chosen.order = chosen.order if ordered else None
        chosen.private = chosen.private if attention == "ordered" else None
        chosen.extra = {name: tensor[index] for name, tensor in self.extra.items()}
        chosen.tallies = tuple(self.tallies[row] for row in rows)
        return chosen
