"""Documents of any length through a tokenizer, in batches that keep all threads busy and memory small."""

import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

import numpy as np

from ntp.data.tokenizers.tokenizer import Tokenizer

PIECE = 100_000  # characters of a document that are encoded at a time
_BATCH = 2_000_000  # characters that are encoded in parallel; they take about 100 bytes each


def pieces(text: str, limit: int = PIECE) -> Iterator[str]:
    """Cut a long text where no token can reach across: after a line break between two lines that both have text.

    A text without such a place within half the limit is cut at the limit.

    Args:
        text: any text.
        limit: characters of a piece.
    """
    start = 0
    while len(text) - start > limit:
        cut = _line_end(text, start + limit // 2, start + limit)
        yield text[start:cut]
        start = cut
    yield text[start:]


def _line_end(text: str, low: int, high: int) -> int:
    place = text.rfind("\n", low, high)
    while place > low and (text[place - 1].isspace() or text[place + 1].isspace()):
        place = text.rfind("\n", low, place)
    return place + 1 if place > low else high


def in_pieces(texts: Iterable[str]) -> Iterator[str]:
    """The pieces of all texts, to train a tokenizer on."""
    for text in texts:
        yield from pieces(text)


def encode_documents(tokenizer: Tokenizer, texts: Iterable[str]) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
    """Encode documents.

    Args:
        tokenizer: any.
        texts: the documents.

    Yields:
        For each piece of a document its ids [N] int64, their bytes of text [N] int64, and whether the document ends.
    """
    batch: list[str] = []
    ends: list[bool] = []
    characters = 0
    for text in texts:
        parts = list(pieces(text))
        for index, part in enumerate(parts):
            batch.append(part)
            ends.append(index == len(parts) - 1)
            characters += len(part)
            if characters >= _BATCH:
                yield from _encoded(tokenizer, batch, ends)
                batch, ends, characters = [], [], 0
    yield from _encoded(tokenizer, batch, ends)


def _encoded(tokenizer: Tokenizer, batch: list[str], ends: list[bool]) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
    for (ids, counts), end in zip(tokenizer.encode_batch(batch), ends, strict=True):
        yield ids, counts, end


class Progress:
    """A bar on a terminal's standard error, once the work has taken two seconds; elsewhere nothing.

    Args:
        what: is being done.
        total: characters to do, or None where nobody knows.
    """

    patience = 2.0  # seconds

    def __init__(self, what: str, total: int | None) -> None:
        self.what, self.total = what, total
        self.done = 0
        self._started = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def over(self, texts: Iterable[str]) -> Iterator[str]:
        """The texts, counted as they pass."""
        for text in texts:
            yield text
            self.done += len(text)
            if self._bar is None and time.monotonic() - self._started > self.patience:
                self._show()
            if self._bar is not None:
                self._bar.update(0, completed=self.done)

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
        from rich.progress import Progress as Bar

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        hidden = not console.is_terminal
        self._bar = Bar(*columns, TimeRemainingColumn(), console=console, transient=True, disable=hidden)
        self._bar.add_task(self.what, total=self.total, completed=self.done)
        self._bar.start()
