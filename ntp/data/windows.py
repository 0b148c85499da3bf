"""Rows: windows of the flat stream of tokens."""

from functools import partial
from typing import Any, Literal

import numpy as np

from ntp.config.errors import ConfigError
from ntp.data.example import Extent, Row
from ntp.data.store import TokenStore

Documents = Literal["concatenate", "isolate"]


class Windows:
    """Rows of ``stride + lookahead`` tokens that start ``stride`` tokens apart.

    An objective that predicts ``lookahead`` tokens ahead (causal: 1) so finds a target for each of the row's first
    ``stride`` tokens, and none is lost between two rows.

    Args:
        store: the text, as tokens.
        stride: tokens from the start of one row to the start of the next.
        lookahead: tokens that a row shares with the next.
        documents: ``isolate`` numbers the documents within a row, ``concatenate`` makes them one.
        wrap: training: the stream is a ring, all rows have full length, and what is left over after ``len(self)``
            rows falls elsewhere with each offset. Otherwise rows stop at the end of the stream, the last one short, and
            every token that has ``lookahead`` successors starts a prediction in exactly one row.

    Raises:
        ConfigError: there are too few tokens for one row.
    """

    def __init__(self, store: TokenStore, stride: int, lookahead: int, documents: Documents, wrap: bool) -> None:
        self.store, self.stride, self.lookahead, self.documents, self.wrap = store, stride, lookahead, documents, wrap
        # Plain views: indexing a memmap makes a memmap, which takes three times as long.
        self._tokens = np.asarray(store.tokens)
        self._bytes = np.asarray(store.bytes)
        self._starts = np.asarray(store.offsets)[:-1]
        self.length = stride + lookahead
        self.total = len(self._tokens)
        if wrap and self.total < self.length:
            longest = self.total - lookahead
            fits = f"the longest sequence that fits is {longest}" if longest > 0 else "more text is needed"
            raise ConfigError(
                "data.sequence_length",
                f"the training text has {self.total} tokens, too few for one row of {self.length}; {fits}",
            )
        if self.total <= lookahead:
            raise ConfigError(
                "data.validation_fraction",
                f"the held-out text has {self.total} tokens, too few to predict any; hold out more",
            )
        self.rows = self.total // stride if wrap else -(-(self.total - lookahead) // stride)

    def __len__(self) -> int:
        return self.rows

    @property
    def whole(self) -> int:
        """How many rows hold ``stride`` tokens, which is one number for all objectives of this stride."""
        return min(self.rows, self.total // self.stride)

    def __reduce__(self) -> tuple[Any, ...]:
        # The views must not travel to another process by value.
        return type(self), (self.store, self.stride, self.lookahead, self.documents, self.wrap)

    def row(self, index: int, offset: int = 0) -> Row:
        """The index-th row.

        Args:
            index: from 0 to ``len(self)``, which is not included.
            offset: tokens by which all rows are shifted, any whole number; 0 unless ``wrap``.

        Raises:
            IndexError: there is no such row.
        """
        if not 0 <= index < self.rows:
            raise IndexError(f"row {index} of {self.rows}")
        start = offset + index * self.stride
        if self.wrap:
            start %= self.total
        else:
            assert offset == 0, "only circular windows shift"
        end = start + self.length
        if end <= self.total or not self.wrap:
            end = min(end, self.total)
            tokens = self._tokens[start:end].astype(np.int64)
            counts = self._bytes[start:end].astype(np.int64)
            return Row(tokens, self._segments(start, end), counts, partial(self._extents, start))
        end -= self.total
        tokens = np.concatenate((self._tokens[start:], self._tokens[:end])).astype(np.int64)
        counts = np.concatenate((self._bytes[start:], self._bytes[:end])).astype(np.int64)
        segments = self._segments(start, self.total)
        segments = np.concatenate((segments, self._segments(0, end) + (segments[-1] + (self.documents == "isolate"))))
        return Row(tokens, segments, counts, partial(self._extents, start))

    def _extents(self, start: int, begin: int, end: int) -> list[Extent]:
        """The documents that the tokens from ``start + begin`` to ``start + end`` lie in."""
        extents = []
        here, left = (start + begin) % self.total, end - begin
        document = int(self._starts.searchsorted(here, side="right")) - 1
        while left > 0:
            first = int(self._starts[document])
            last = int(self._starts[document + 1]) if document + 1 < len(self._starts) else self.total
            stop = min(last, here + left)
            whole = slice(first, last)
            extents.append(Extent(document, here - first, stop - first, self._tokens[whole], self._bytes[whole]))
            left -= stop - here
            document, here = (document + 1, stop) if stop < self.total else (0, 0)
        return extents

    def _segments(self, start: int, end: int) -> np.ndarray:
        """[end - start] int64, the document of each token, counted from 0."""
        segments = np.zeros(end - start, dtype=np.int64)
        if self.documents == "isolate":
            first, behind = self._starts.searchsorted((start + 1, end))
            if first < behind:
                segments[self._starts[first:behind] - start] = 1
                np.cumsum(segments, out=segments)
        return segments
