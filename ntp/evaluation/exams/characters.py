"""Characters and words of a text, at bytes of its UTF-8."""

import re
from collections.abc import Iterator

import numpy as np

_WORD = re.compile(r"\w+")


def character_starts(content: bytes) -> np.ndarray:
    """[C + 1] int64, the byte at which each character of UTF-8 begins, and the end."""
    array = np.frombuffer(content, dtype=np.uint8)
    return np.append(np.flatnonzero(array & 0xC0 != 0x80), len(array))


def between_characters(content: bytes, place: int) -> int:
    """The first place from here on that is not inside a character."""
    while place < len(content) and content[place] & 0xC0 == 0x80:
        place += 1
    return place


def words(content: bytes) -> Iterator[tuple[int, int]]:
    """Where the words of a text begin and end: what ``\\w+`` finds."""
    starts = character_starts(content)
    for match in _WORD.finditer(content.decode("utf-8", "surrogatepass")):
        yield int(starts[match.start()]), int(starts[match.end()])
