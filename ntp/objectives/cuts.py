"""Cut a tokenised text between two characters, wherever its tokens end.

No time here is in proportion to the text: a document of megabytes is cut as fast as a row.

Legend: N tokens of a text, V vocabulary, D darts.
"""

import numpy as np

from ntp.data.tokenizers import Tokenizer

Place = tuple[int, int]
"""Between two characters: the token that it is in, and how many bytes of that token lie before it."""

_WINDOW = 64  # tokens beside a cut that are encoded anew
_LONGEST_CHARACTER = 4  # bytes
_DARTS = 64


class CharacterCuts:
    """Draws cuts in the texts of a tokenizer, and says how what lies between two of them is encoded.

    Args:
        tokenizer: a lossless one.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._texts = tokenizer.token_texts
        self._widths_V = tokenizer.token_bytes
        self._highest = max(1, int(self._widths_V.max()))
        self._begins_character_V = np.array([not one or not _continues(one[0]) for one in self._texts])
        self._begins_with_space_V = np.array([one.startswith(b" ") for one in self._texts])
        self._ends_with_space_V = np.array([one[-1:].isspace() for one in self._texts])

    def character_length(self, tokens_N: np.ndarray) -> int:
        """How many whole characters a text has."""
        return len(self._join(tokens_N).decode(errors="ignore"))

    def byte_length(self, tokens_N: np.ndarray) -> int:
        """How many bytes a text has."""
        return int(self._widths_V[tokens_N].sum())

    def edges(self, tokens_N: np.ndarray) -> tuple[Place, Place]:
        """Where the first whole character begins and the last one ends.

        A row may begin or end inside a character. The bytes of it that it holds lie outside of these.
        """
        head = self._join(tokens_N[:_LONGEST_CHARACTER])
        broken = next((index for index, byte in enumerate(head) if not _continues(byte)), len(head))
        start = max(0, len(tokens_N) - _LONGEST_CHARACTER)
        tail = self._join(tokens_N[start:])
        return self._place(tokens_N, 0, broken), self._place(tokens_N, start, len(tail) - _unfinished(tail))

    def draw(self, tokens_N: np.ndarray, end: Place, rng: np.random.Generator) -> Place:
        """A place before any whole character of a text or at its end, all with the same probability.

        Darts are thrown at a board that has a column for each token, as high as its bytes, and a last one of height 1
        for the end. The first that lands on a place between two characters counts.

        Args:
            tokens_N: the text, of at least one token.
            end: from `edges`.
            rng: of the draw.
        """
        while True:
            column_D = rng.integers(len(tokens_N) + 1, size=_DARTS)
            height_D = rng.integers(self._highest, size=_DARTS)
            last = len(tokens_N) - 1
            top_D = np.where(column_D > last, 1, self._widths_V[tokens_N[np.minimum(column_D, last)]])
            for dart in np.flatnonzero(height_D < top_D).tolist():
                place = int(column_D[dart]), int(height_D[dart])
                if place == end or (place < end and not _continues(self._texts[tokens_N[place[0]]][place[1]])):
                    return place

    def between(self, tokens_N: np.ndarray, begin: Place, end: Place) -> list[str | slice]:
        """A part of a text: strings that are to be encoded, and slices of tokens that stay as they are.

        A short part is encoded as a whole. Of a long one only what is near its two ends is, up to the beginning of a
        word: tokens do not reach across words. A space marks that; where none is near, any character will do, and a few
        tokens there may differ from those that the whole part has, but never their text.
        """
        (first, _), (last, _) = begin, end
        if last - first <= 2 * _WINDOW:
            return [self._text(tokens_N, begin, end)]
        left = int(self._seams(tokens_N, first + 1, first + 1 + _WINDOW)[-1])
        right = int(self._seams(tokens_N, last - _WINDOW, last)[0])
        return [
            self._text(tokens_N, begin, (left, 0)),
            slice(left, right),
            self._text(tokens_N, (right, 0), end),
        ]

    def _seams(self, tokens_N: np.ndarray, low: int, high: int) -> np.ndarray:
        """Tokens from ``low`` to ``high`` that begin a word; if there is none, those that begin a character."""
        ids, before = tokens_N[low:high], tokens_N[low - 1 : high - 1]
        words = np.flatnonzero(self._begins_with_space_V[ids] & ~self._ends_with_space_V[before])
        return low + (words if len(words) else np.flatnonzero(self._begins_character_V[ids]))

    def _join(self, tokens: np.ndarray) -> bytes:
        return b"".join([self._texts[one] for one in tokens.tolist()])

    def _text(self, tokens_N: np.ndarray, begin: Place, end: Place) -> str:
        (first, skipped), (last, kept) = begin, end
        rest = self._texts[tokens_N[last]][:kept] if kept else b""
        return (self._join(tokens_N[first:last]) + rest)[skipped:].decode()

    def _place(self, tokens_N: np.ndarray, start: int, distance: int) -> Place:
        """``distance`` bytes behind the beginning of token ``start``, of the few that follow it."""
        ends = np.cumsum(self._widths_V[tokens_N[start : start + _LONGEST_CHARACTER]])
        passed = int(np.searchsorted(ends, distance, side="right"))
        return start + passed, distance - (int(ends[passed - 1]) if passed else 0)


def _continues(byte: int) -> bool:
    """Whether a byte of UTF-8 is not the first of its character."""
    return (byte & 0xC0) == 0x80


def _unfinished(text: bytes) -> int:
    """How many bytes at the end of a text are the beginning of a character."""
    for length in range(1, min(len(text), _LONGEST_CHARACTER - 1) + 1):
        byte = text[-length]
        if not _continues(byte):
            needed = 1 + (byte >= 0xC0) + (byte >= 0xE0) + (byte >= 0xF0)
            return length if length < needed else 0
    return 0
