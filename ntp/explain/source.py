"""Where the rows that are explained come from: those of a training run, of its validation, or a literal text."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ntp.config.errors import ConfigError
from ntp.config.schema import DataConfig
from ntp.data.datasets import Corruption
from ntp.data.example import Draw, Row
from ntp.data.prepare import Prepared
from ntp.data.rows import text_windows, training_windows
from ntp.data.sampling import DataOrder
from ntp.data.special_tokens import END_OF_TEXT
from ntp.data.store import write_store
from ntp.data.tokenizers import Tokenizer


@dataclass(frozen=True)
class Source:
    """Raw rows, each with its draw.

    Attributes:
        text: what the rows are rows of, in words.
        rows: how many there are.
        take: from (row, number) to the number-th of a sample of any size that begins with this row.
        sample: what such a sample consists of: further rows, or further draws of the one row.
    """

    text: str
    rows: int
    take: Callable[[int, int], tuple[Row, Draw]]
    sample: Literal["rows", "draws"] = "rows"

    def number(self, row: int, number: int) -> int:
        """Which row the number-th of a sample is."""
        return (row + number) % self.rows if self.sample == "rows" else row


def training_source(
    prepared: Prepared, objective: Corruption, data: DataConfig, seed: int, progress: float | None
) -> Source:
    """The rows of a training run, in the order in which it reads them, and with its draws.

    Args:
        prepared: the text.
        objective: bound.
        data: sequence length, documents and batch size.
        seed: of the run.
        progress: the part of the run that lies before these rows.

    Raises:
        ConfigError: the text is shorter than one row.
    """
    windows = training_windows(prepared, objective, data)
    order = DataOrder(len(windows), windows.stride, data.batch_size, seed)

    def take(row: int, number: int) -> tuple[Row, Draw]:
        place = order.place(row + number)
        return windows.row(place.row, place.offset), Draw(seed, place.epoch, place.row, place.stratum, progress)

    return Source("the training text", len(windows), take)


def validation_source(prepared: Prepared, objective: Corruption, data: DataConfig, seed: int) -> Source:
    """The rows of the held-out text, in their order and with the draws of evaluation.

    Args:
        prepared: the text.
        objective: bound.
        data: sequence length, documents and batch size.
        seed: of the corruption.
    """
    windows = text_windows(prepared.validation, objective, data)

    def take(row: int, number: int) -> tuple[Row, Draw]:
        repetition, index = divmod(row + number, len(windows))
        stratum = (index % data.batch_size, data.batch_size)
        return windows.row(index), Draw(seed, repetition, index, stratum, evaluation=True)

    return Source("the validation text", len(windows), take)


def text_source(
    text: str,
    tokenizer: Tokenizer,
    objective: Corruption,
    data: DataConfig,
    seed: int,
    *,
    progress: float | None = None,
    evaluation: bool = False,
) -> Source:
    """The rows of a literal text.

    Args:
        text: documents, parted by the end-of-text token as it is written.
        tokenizer: any.
        objective: bound.
        data: sequence length, documents and batch size.
        seed: of the corruption.
        progress: the part of a run that lies before these rows.
        evaluation: corrupt as in evaluation.

    Raises:
        ConfigError: there is no text, or too little to predict any of it.
    """
    documents = [one for one in text.split(END_OF_TEXT) if one]
    if not documents:
        raise ConfigError("text", "there is nothing in it")
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder) / "text", documents, tokenizer, {})
        # Mapped files must not outlive their folder.
        store.tokens, store.bytes, store.offsets = (one.copy() for one in (store.tokens, store.bytes, store.offsets))
    if len(store.tokens) <= objective.lookahead:
        problem = (
            f"has {len(store.tokens)} tokens, too few to predict any; the objective needs {objective.lookahead + 1}"
        )
        raise ConfigError("text", problem)
    windows = text_windows(store, objective, data)

    def take(row: int, number: int) -> tuple[Row, Draw]:
        # As if the same row stood in every place of a batch.
        stratum = (number % data.batch_size, data.batch_size)
        return windows.row(row), Draw(seed, 0, row + number, stratum, None if evaluation else progress, evaluation)

    return Source("the text that was given", len(windows), take, sample="draws")
