"""Training and validation examples: windows of the text, corrupted by the objective, collated into batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch.utils.data import Dataset

from ntp.data.collate import collate
from ntp.data.example import Attention, Batch, Draw, Example, Row
from ntp.data.sampling import DataOrder
from ntp.data.windows import Windows


class Corruption(Protocol):
    """The part of an objective that makes examples; see `ntp.objectives.base.Objective`."""

    lookahead: int
    """Tokens at the end of a raw row that are only predicted."""

    @property
    def attention(self) -> Attention:
        """The kernel that these examples need."""
        ...

    def raw_length(self, sequence_length: int) -> int:
        """How many corpus tokens, lookahead included, make one row."""
        ...

    def corrupt(self, row: Row, draw: Draw) -> Example:
        """Make an example of a row."""
        ...


@dataclass(frozen=True)
class BatchMaker:
    """Raw rows with their draws in, a batch out.

    Attributes:
        objective: what makes examples of rows.
        sequence_length: positions of a row.
        token_bytes: [V] UTF-8 bytes that each id stands for.
        padding_id: what is read at padding.
    """

    objective: Corruption
    sequence_length: int
    token_bytes: np.ndarray
    padding_id: int

    def __call__(self, rows: Sequence[tuple[Row, Draw]]) -> Batch:
        """Corrupt and collate."""
        return collate(
            [self.objective.corrupt(row, draw) for row, draw in rows],
            self.sequence_length,
            self.objective.attention,
            self.token_bytes,
            self.padding_id,
            # What a row only looks ahead to is read by the next one.
            read_bytes=[int(row.bytes[: len(row) - self.objective.lookahead].sum()) for row, _ in rows],
        )


class TrainingRows(Dataset[Batch]):
    """A run's examples by number; asked for a list of numbers, it gives one collated batch.

    Args:
        windows: circular windows of the training text.
        order: which row stands at which number.
        make_batch: corruption and collation.
        steps: optimizer steps of the run; None when a clock ends it.
    """

    def __init__(self, windows: Windows, order: DataOrder, make_batch: BatchMaker, steps: int | None = None) -> None:
        self.windows, self.order, self.make_batch, self.steps = windows, order, make_batch, steps

    def __getitems__(self, examples: list[int]) -> Batch:
        rows = []
        for example in examples:
            place = self.order.place(example)
            progress = None if self.steps is None else min(example // self.order.batch_size / self.steps, 1.0)
            draw = Draw(self.order.seed, place.epoch, place.row, place.stratum, progress)
            rows.append((self.windows.row(place.row, place.offset), draw))
        return self.make_batch(rows)


class FixedRows(Dataset[Batch]):
    """The same rows with the same corruption whenever they are asked for: validation and evaluation.

    Args:
        windows: windows of a text, the last one short.
        count: how many rows, spread evenly over the text; None for all. A choice of them leaves a short one out, and
            is the same for all objectives of one stride.
        seed: of the corruption.
        batch_size: of the strata that objectives with low-discrepancy draws use; it does not depend on how many rows
            are computed at a time.
        make_batch: corruption and collation.
        repetition: which of any number of independent corruptions of these rows; their spread tells how sure a mean is.
    """

    def __init__(
        self,
        windows: Windows,
        count: int | None,
        seed: int,
        batch_size: int,
        make_batch: BatchMaker,
        repetition: int = 0,
    ) -> None:
        self.windows, self.seed, self.batch_size, self.make_batch = windows, seed, batch_size, make_batch
        self.repetition = repetition
        everything = len(windows)
        if count is None or count >= everything:
            self.rows = np.arange(everything)
        else:
            self.rows = np.linspace(0, windows.whole - 1, count).round().astype(np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: list[int]) -> Batch:
        rows = []
        for index in indices:
            row = int(self.rows[index])
            stratum = (index % self.batch_size, self.batch_size)
            draw = Draw(self.seed, self.repetition, row, stratum, evaluation=True)
            rows.append((self.windows.row(row), draw))
        return self.make_batch(rows)
