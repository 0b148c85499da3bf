"""Many texts as one array of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ntp.data.store import TokenStore


@dataclass(frozen=True)
class Sequences:
    """Texts one after the other. The first token of each only stands before the others: nothing predicts it.

    Attributes:
        tokens: [T] int64.
        begins: [S] int64, where each begins, in ascending order; none is empty.
    """

    tokens: np.ndarray
    begins: np.ndarray

    @cached_property
    def depth(self) -> np.ndarray:
        """[T] int64, how many tokens of its sequence stand before each."""
        lengths = np.diff(self.begins, append=len(self.tokens))
        return np.arange(len(self.tokens)) - np.repeat(self.begins, lengths)

    @classmethod
    def of(cls, parts: Sequence[np.ndarray]) -> Sequences:
        """Of several arrays of at least one token each."""
        begins = np.cumsum([0, *(len(one) for one in parts[:-1])])
        return cls(np.concatenate(parts).astype(np.int64), begins)

    @classmethod
    def of_store(cls, store: TokenStore, end_of_text: int, most: int | None = None) -> Sequences:
        """The documents of a text, each behind an end-of-text token.

        Args:
            store: the text.
            end_of_text: its id.
            most: tokens of the text that are read, from its beginning; None for all.
        """
        tokens = np.asarray(store.tokens[:most], np.int64)
        begins = np.asarray(store.offsets[:-1], np.int64)
        begins = begins[begins < len(tokens)]
        return cls(np.insert(tokens, begins, end_of_text), begins + np.arange(len(begins)))
