"""The order of the data, as arithmetic.

Example number g of a run is row ``permutation(epoch)[g % rows]`` of epoch ``g // rows``. Global batch s holds the
examples ``s * batch_size`` and following, whatever the number of devices, so that resuming is one integer (two, where
batches were left out) and the same rows are seen at any world size.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

_OF_ORDER = 2**32 - 3


@dataclass(frozen=True)
class Place:
    """Where example number g of a run comes from.

    Attributes:
        epoch: how often the text has been read before.
        row: index of the row in its epoch's windows.
        offset: how many tokens this epoch's windows are shifted.
        stratum: place in the global batch, and its size.
    """

    epoch: int
    row: int
    offset: int
    stratum: tuple[int, int]


class DataOrder:
    """The order in which rows are trained on: a seeded permutation for every epoch.

    Args:
        rows: rows of an epoch.
        stride: tokens from one row to the next; each epoch shifts its windows by another part of it.
        batch_size: rows of a global batch.
        seed: of the run.
        repeat_first_batch: train on the first batch for ever.
        skipped_batches: left out so far by a run that went back to an earlier step, past the data that spoilt it: what
            comes now has moved up by so many.
    """

    def __init__(
        self,
        rows: int,
        stride: int,
        batch_size: int,
        seed: int,
        repeat_first_batch: bool = False,
        skipped_batches: int = 0,
    ) -> None:
        self.rows, self.stride, self.batch_size, self.seed = rows, stride, batch_size, seed
        self.repeat_first_batch, self.skipped_batches = repeat_first_batch, skipped_batches
        self._epoch = -1
        self._offset = 0
        self._permutation = np.empty(0, dtype=np.int64)

    def place(self, example: int) -> Place:
        """Where example number ``example`` of the run comes from."""
        example += self.skipped_batches * self.batch_size
        if self.repeat_first_batch:
            example %= self.batch_size
        epoch, index = divmod(example, self.rows)
        if epoch != self._epoch:
            # numpy pads short keys with zeros: without a key of its own the order would be drawn like row 0.
            key = np.random.SeedSequence([self.seed, epoch], spawn_key=(_OF_ORDER,))
            rng = np.random.Generator(np.random.Philox(key))
            self._offset = 0 if epoch == 0 else int(rng.integers(self.stride))
            self._permutation = rng.permutation(self.rows)
            self._epoch = epoch
        stratum = (example % self.batch_size, self.batch_size)
        return Place(epoch, int(self._permutation[index]), self._offset, stratum)


class StepSampler(Sampler[list[int]]):
    """Batch sampler of one rank: the example numbers of each of its micro-batches, over the whole run.

    Its length is that of the whole run even when it starts late: Lightning counts from the beginning.

    Args:
        steps: optimizer steps of the run; None for a run that a clock ends.
        batch_size: rows of an optimizer step, over all ranks and micro-batches.
        micro_batch_size: rows of one micro-batch.
        rank, world_size: which share of each step is this process's.
    """

    NEVER = 10**9

    def __init__(self, steps: int | None, batch_size: int, micro_batch_size: int, rank: int, world_size: int) -> None:
        self.steps = self.NEVER if steps is None else steps
        self.batch_size, self.micro_batch_size = batch_size, micro_batch_size
        self.rank, self.world_size = rank, world_size
        self.accumulate = batch_size // (micro_batch_size * world_size)
        self.first_step = 0

    def __len__(self) -> int:
        return self.steps * self.accumulate

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first_step, self.steps):
            for micro_batch in range(self.accumulate):
                first = step * self.batch_size + (micro_batch * self.world_size + self.rank) * self.micro_batch_size
                yield list(range(first, first + self.micro_batch_size))
