"""The LightningDataModule of every run."""

from collections.abc import Iterator
from typing import Any

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Sampler

from ntp.config.schema import DataConfig, EvaluationConfig
from ntp.data.datasets import BatchMaker, Corruption, FixedRows, TrainingRows
from ntp.data.example import Batch
from ntp.data.prepare import Prepared
from ntp.data.rows import micro_batch_size, text_windows, training_windows
from ntp.data.sampling import DataOrder, Place, StepSampler
from ntp.data.worker_signals import leave_signals_to_the_run


class TextDataModule(LightningDataModule):
    """Rows of a prepared text, made into examples by an objective.

    Args:
        prepared: tokenizer and token stores.
        objective: bound objective.
        config: the ``data`` node.
        evaluation: the ``evaluation`` node.
        seed: of the order and of every corruption.
        steps: optimizer steps of the run; None when a clock ends it.
    """

    def __init__(
        self,
        prepared: Prepared,
        objective: Corruption,
        config: DataConfig,
        evaluation: EvaluationConfig,
        seed: int,
        steps: int | None,
    ) -> None:
        super().__init__()
        self.config, self.evaluation, self.seed, self.steps = config, evaluation, seed, steps
        tokenizer = prepared.tokenizer
        self.make_batch = BatchMaker(objective, config.sequence_length, tokenizer.token_bytes, tokenizer.padding)
        self.train_windows = training_windows(prepared, objective, config)
        self.validation_windows = text_windows(prepared.validation, objective, config)
        self.final = False
        self.common_validation_batches = 0  # that every rank has
        self.skipped_batches = 0  # see `DataOrder`

    @property
    def _ranks(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def train_dataloader(self) -> DataLoader[Batch]:
        """The whole run as one epoch; a resumed one from the step that it has reached."""
        rank, world_size = self._ranks
        config = self.config
        size = micro_batch_size(config, world_size)
        sampler = StepSampler(self.steps, config.batch_size, size, rank, world_size)
        sampler.first_step = self.trainer.global_step if self.trainer else 0
        return self._loader(
            TrainingRows(self.train_windows, self._order(), self.make_batch, self.steps), sampler, config.workers
        )

    def _order(self) -> DataOrder:
        windows, config = self.train_windows, self.config
        return DataOrder(
            len(windows), windows.stride, config.batch_size, self.seed, config.repeat_first_batch, self.skipped_batches
        )

    def places(self, step: int) -> list[Place]:
        """Where the rows of an optimizer step come from, over all ranks and micro-batches; steps count from 1."""
        order = self._order()
        return [order.place(example) for example in range((step - 1) * order.batch_size, step * order.batch_size)]

    def state_dict(self) -> dict[str, Any]:
        """Beside the optimizer step, all that the position in the data depends on."""
        return {"skipped_batches": self.skipped_batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the batches left out."""
        self.skipped_batches = state_dict["skipped_batches"]

    def val_dataloader(self) -> DataLoader[Batch]:
        """The fixed validation rows: a part of them during the run, `EvaluationConfig.final_rows` at its end."""
        rank, world_size = self._ranks
        count = self.evaluation.final_rows if self.final else self.evaluation.rows
        rows = FixedRows(self.validation_windows, count, self.seed, self.config.batch_size, self.make_batch)
        # Every rank gets at least one batch: Lightning refuses an empty share.
        size = min(micro_batch_size(self.config, world_size), max(1, len(rows) // world_size))
        self.common_validation_batches = -(-len(rows) // size) // world_size
        return self._loader(rows, ShareSampler(len(rows), size, rank, world_size), workers=0)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Without waiting for the copy."""
        return batch if device.type == "cpu" else batch.to(device)

    def _loader(self, rows: Any, sampler: Sampler[list[int]], workers: int) -> DataLoader[Batch]:
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return DataLoader(
            rows,
            batch_sampler=sampler,
            collate_fn=_as_it_is,
            num_workers=workers,
            pin_memory=on_gpu,
            persistent_workers=workers > 0,
            worker_init_fn=leave_signals_to_the_run,
        )


def _as_it_is(batch: Any) -> Any:
    return batch


class ShareSampler(Sampler[list[int]]):
    """Every ``world_size``-th batch of a fixed list of rows: no row twice, none left out.

    Args:
        rows: how many there are.
        batch_size: rows at a time.
        rank, world_size: which share.
    """

    def __init__(self, rows: int, batch_size: int, rank: int, world_size: int) -> None:
        starts = range(0, rows, batch_size)
        self.batches = [list(range(start, min(start + batch_size, rows))) for start in starts][rank::world_size]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)
