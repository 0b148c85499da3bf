"""Interpolated modified Kneser-Ney smoothing (Chen & Goodman 1999, "An empirical study of smoothing techniques for
language modeling", section 3).

The probability of a word w after a history h of order - 1 words is::

    p(w | h) = max(c(hw) - D(c(hw)), 0) / c(h) + gamma(h) p(w | h')

where h' is h without its first word, and gamma(h) is what the discounts have left over, so that the sum over w is 1.
The counts c of the highest order are those of the text; those of lower orders are how many different words stand before
an n-gram. D(1), D(2) and D(3) = D(4) = ... of each order come from its counts of counts. The lowest order interpolates
with the uniform distribution, so that no word has probability 0.

An n-gram is kept as one integer: the place of its history among those one shorter, times the vocabulary, plus its last
word. The integers of an order are sorted, and found by bisection. Nothing here is a loop over words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ntp.baselines.sequences import Sequences

FALLBACK = (0.5, 1.0, 1.5)
"""Discounts where counts of counts give none, as in KenLM (Heafield et al. 2013): small texts and small vocabularies
have no n-grams that occur once, or more that occur often than seldom."""


@dataclass(frozen=True)
class Order:
    """All n-grams of one order above 1.

    Attributes:
        keys: [U] int64, sorted; see the module.
        probabilities: [U] float32, interpolated.
        left_over: [H] float32, gamma of each n-gram one shorter; 1 where it is no history.
    """

    keys: np.ndarray
    probabilities: np.ndarray
    left_over: np.ndarray


@dataclass(frozen=True)
class KneserNey:
    """A fitted model.

    Attributes:
        unigrams: [V] float64, sums to 1; 0 for what no text can hold.
        orders: from 2 upwards.
    """

    unigrams: np.ndarray
    orders: Sequence[Order]

    @property
    def order(self) -> int:
        """Words of the longest n-grams."""
        return len(self.orders) + 1

    @property
    def ngrams(self) -> int:
        """Different n-grams of all orders that the text held."""
        return int(np.count_nonzero(self.unigrams)) + sum(len(one.keys) for one in self.orders)

    def nats(self, sequences: Sequences) -> np.ndarray:
        """[T] float64, -log p of each token given those before it in its sequence; of first tokens given nothing."""
        tokens, depth = sequences.tokens, sequences.depth
        probability = self.unigrams[tokens]
        # The place of the n-gram that ends here, of the order in hand; -1 where the text held none.
        places, size = tokens, len(self.unigrams)
        for length, order in enumerate(self.orders, start=2):
            here = np.flatnonzero(depth >= length - 1)
            here = here[places[here - 1] >= 0]
            history = places[here - 1]
            place, found = _find(order.keys, history * size + tokens[here])
            unseen = order.left_over[history] * probability[here]
            probability[here] = np.where(found, order.probabilities[place], unseen)
            places = np.full(len(tokens), -1)
            places[here[found]] = place[found]
        return -np.log(probability)

    def save(self, folder: Path) -> None:
        """As ``.npy`` files in a folder that exists."""
        np.save(folder / "unigrams.npy", self.unigrams)
        for length, order in enumerate(self.orders, start=2):
            for name in ("keys", "probabilities", "left_over"):
                np.save(folder / f"{name}-{length}.npy", getattr(order, name))

    @classmethod
    def load(cls, folder: Path) -> KneserNey:
        """What `save` wrote, mapped into memory."""

        def array(name: str) -> np.ndarray:
            mapped: np.ndarray = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            return mapped

        orders = [
            Order(array(f"keys-{length}"), array(f"probabilities-{length}"), array(f"left_over-{length}"))
            for length in range(2, 2 + len(list(folder.glob("keys-*.npy"))))
        ]
        return cls(np.array(array("unigrams")), orders)


def fit(
    sequences: Sequences,
    order: int,
    vocabulary_size: int,
    words: np.ndarray,
    discounts: Sequence[Sequence[float]] | None = None,
) -> KneserNey:
    """Count, discount and interpolate.

    The first token of a sequence is only a history, and no n-gram reaches across it. What begins with it has no word
    before it, and keeps the count of the text at every order, as in KenLM.

    Args:
        sequences: the text, each document behind its end-of-text token.
        order: words of the longest n-grams; at least 1. Fewer are kept where no sequence is as long.
        vocabulary_size: ids are below it.
        words: [W] ids over which the uniform distribution spreads: all that a text can hold.
        discounts: D(1), D(2) and D(3+) of each order, the lowest first; None to take them from the text.
    """
    tokens, depth = sequences.tokens, sequences.depth
    counts = np.bincount(tokens[depth > 0], minlength=vocabulary_size)
    keys: list[np.ndarray] = []
    raw, endings = [counts], []
    places = tokens
    for length in range(2, order + 1):
        here = np.flatnonzero(depth >= length - 1)
        if not len(here):
            break
        unique, first, inverse, count = np.unique(
            places[here - 1] * vocabulary_size + tokens[here],
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        keys.append(unique)
        raw.append(count)
        endings.append(places[here[first]])
        places = np.full(len(tokens), -1)
        places[here] = inverse
    del places
    # How many words stand before an n-gram is how many n-grams one longer end with it.
    adjusted = [_continued(count, ending) for count, ending in zip(raw, endings, strict=False)] + raw[-1:]
    chosen = [discounts_of(count) for count in adjusted] if discounts is None else discounts
    unigrams = _unigrams(adjusted[0], chosen[0], words)
    probability, orders = unigrams, []
    for key, ending, count, discount in zip(keys, endings, adjusted[1:], chosen[1:], strict=False):
        history = key // vocabulary_size
        total = np.bincount(history, weights=count, minlength=len(probability))
        taken = _taken(count, discount)
        left = np.bincount(history, weights=taken, minlength=len(probability))
        left_over = np.divide(left, total, out=np.ones_like(left), where=total > 0)
        probability = (count - taken) / total[history] + left_over[history] * probability[ending]
        orders.append(Order(key, probability.astype(np.float32), left_over.astype(np.float32)))
    return KneserNey(unigrams, orders)


def discounts_of(counts: np.ndarray) -> tuple[float, float, float]:
    """D(1), D(2) and D(3+) of an order (Chen & Goodman 1999, equation 17); `FALLBACK` where it gives none.

    Args:
        counts: [U] int, of the n-grams of the order; those of 0 do not count.
    """
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == number)) for number in (1, 2, 3, 4))
    if not (n1 and n2 and n3 and n4):
        return FALLBACK
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return found if all(0 < one <= most for one, most in zip(found, (1, 2, 3), strict=True)) else FALLBACK


def _continued(counts: np.ndarray, endings: np.ndarray) -> np.ndarray:
    before = np.bincount(endings, minlength=len(counts))
    return np.where(before > 0, before, counts)


def _taken(counts: np.ndarray, discounts: Sequence[float]) -> np.ndarray:
    """[U] float64, the discount of each count."""
    return np.array([0.0, *discounts])[np.minimum(counts, 3)]


def _unigrams(counts: np.ndarray, discounts: Sequence[float], words: np.ndarray) -> np.ndarray:
    taken = _taken(counts, discounts)
    probability = (counts - taken) / counts.sum()
    probability[words] += taken.sum() / counts.sum() / len(words)
    return probability


def _find(keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place of each in the sorted keys, and whether it is there."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return place, keys[place] == wanted
