"""The exam of single words: which word stands here, given everything else?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ntp.config.types import PositiveInt
from ntp.evaluation.exams.characters import words
from ntp.evaluation.exams.likelihood import Asked, LikelihoodExam
from ntp.evaluation.exams.python_parts import Part, lexical_parts

_LONGEST = 32  # characters; what is longer is no word, but data or a script without spaces


class Cloze(LikelihoodExam):
    """One word, given everything else (Taylor 1953).

    A word is what ``\\w+`` finds. In a Python program the names are one group and the keywords another, and the words
    of comments and strings are ``word``, as all words of other texts. A single space in front of a word is asked for
    with it: most tokenizers join the two, and a text that ends with a space is one that their models have hardly seen.

    Args:
        documents, windows, window_bytes: see `LikelihoodExam`.
        words: of each window, at most.
    """

    kind = "cloze"

    def __init__(
        self,
        documents: PositiveInt | None = 64,
        windows: PositiveInt = 2,
        window_bytes: PositiveInt = 512,
        words: PositiveInt = 4,
    ) -> None:
        super().__init__(documents, windows, window_bytes)
        self.words = words

    def arguments(self) -> Mapping[str, Any]:
        """Also how many words."""
        return {**super().arguments(), "words": self.words}

    def asked(self, content: bytes, begin: int, end: int, rng: np.random.Generator) -> Iterator[Asked]:
        """Some of the words, drawn evenly, in their order."""
        found = list(_words(content, begin, end))
        for index in sorted(rng.choice(len(found), min(self.words, len(found)), replace=False).tolist()):
            word = found[index]
            yield word.kind, word.begin, word.end

    def wanted(self) -> str:
        """Words, and something around them."""
        return "they have no words with text around them"


def _words(content: bytes, begin: int, end: int) -> Iterator[Part]:
    """The words of a window that are whole and not all there is."""
    parts = lexical_parts(content) or (Part(begin, end, "text"),)
    for part in parts:
        first, last = max(part.begin, begin), min(part.end, end)
        if first >= last:
            continue
        of_text = (Part(first + one, first + other, "word") for one, other in words(content[first:last]))
        for word in [part] if part.kind != "text" else of_text:
            is_cut = word.begin <= begin > 0 or word.end >= end < len(content)
            if is_cut or word.end - word.begin > _LONGEST or (word.begin, word.end) == (begin, end):
                continue
            yield _with_space(content, word, begin)


def _with_space(content: bytes, word: Part, begin: int) -> Part:
    before = content[max(begin, word.begin - 2) : word.begin]
    joined = len(before) == 2 and before.endswith(b" ") and not before[:1].isspace()
    return Part(word.begin - joined, word.end, word.kind)
