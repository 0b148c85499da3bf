"""How common the tokens of a run are: in what it learned from, or in held-out text where that is gone.

Legend: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ntp.data.store import TokenStore
from ntp.data.tokenizers import Tokenizer
from ntp.evaluation.candidate import Candidate

PER_MILLION = (1e4, 1e3, 1e2, 1e1, 1e0)
"""Bounds of the buckets, from common to rare: a bucket holds tokens of at least so many in a million."""

RARE = 0.1
"""Part of a text that its rarest tokens make up together."""

_COUNTED = 2**26  # tokens of a text; of a longer one, pieces that lie evenly
_PIECE = 2**16


@dataclass(frozen=True)
class Frequencies:
    """Of the ids of a vocabulary.

    Attributes:
        counts: [V] int64.
        source: what was counted, for people.
        special: [V] bool, ids that no text contains.
    """

    counts: np.ndarray
    source: str
    special: np.ndarray

    @property
    def bucket(self) -> np.ndarray:
        """[V] int64, the bucket of each id, among `labels`."""
        per_million = 1e6 * self.counts / max(1, self.counts.sum())
        buckets = np.searchsorted(-np.array(PER_MILLION), -per_million, side="left")
        buckets = np.where(self.counts == 0, len(PER_MILLION) + 1, buckets)
        return np.where(self.special, len(PER_MILLION) + 2, buckets)

    @property
    def labels(self) -> list[dict[str, Any]]:
        """Of the buckets, from common to rare; behind them ids that never occur, and special tokens."""
        names = [f"{bound:g} or more in a million" for bound in PER_MILLION]
        return [{"frequency": name} for name in [*names, f"below {PER_MILLION[-1]:g} in a million", "never", "special"]]

    @property
    def rare(self) -> np.ndarray:
        """[V] bool, the rarest ids of text, as many as make up no more than `RARE` of it together."""
        order = np.lexsort((np.arange(len(self.counts)), self.counts))
        order = order[~self.special[order]]
        reached = np.cumsum(self.counts[order])
        rare = np.zeros(len(self.counts), dtype=bool)
        rare[order[reached <= RARE * reached[-1]]] = True
        return rare


def token_frequencies(candidate: Candidate, texts: Iterable[str]) -> Frequencies:
    """How often a run has met each token.

    Args:
        candidate: whose training text is counted, if it is at hand.
        texts: counted otherwise.
    """
    tokenizer = candidate.tokenizer
    store = candidate.training_text
    if store is not None:
        counts, counted = _of_store(store, tokenizer.vocabulary_size)
        source = f"in {counted:,} of the {len(store):,} tokens of the training text"
    else:
        counts = _of_texts(texts, tokenizer)
        source = f"in the {int(counts.sum()):,} tokens of the held-out text itself: the training text is not at hand"
    special = np.zeros(tokenizer.vocabulary_size, dtype=bool)
    special[sorted(tokenizer.special_ids)] = True
    return Frequencies(counts, source, special)


def _of_store(store: TokenStore, size: int) -> tuple[np.ndarray, int]:
    counts, counted = np.zeros(size, dtype=np.int64), 0
    every = -(-len(store) // _COUNTED)
    for begin in range(0, len(store), _PIECE * every):
        piece = store.tokens[begin : begin + _PIECE]
        counts += np.bincount(piece, minlength=size)
        counted += len(piece)
    return counts, counted


def _of_texts(texts: Iterable[str], tokenizer: Tokenizer) -> np.ndarray:
    counts = np.zeros(tokenizer.vocabulary_size, dtype=np.int64)
    for text in texts:
        counts += np.bincount(tokenizer.encode(text), minlength=len(counts))
        counts[tokenizer.end_of_text] += 1
    return counts
