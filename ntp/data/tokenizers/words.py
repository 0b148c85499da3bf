"""Which tokens begin a word, told from ids alone.

A word is what the tokenizer's pre-tokenizer makes of a text before the model cuts it into tokens: no token reaches
across two. Gaps of whitespace between tokens say nothing of it. A byte-level tokenizer leaves none, so that a whole
text would be one word, and punctuation would belong to the word before it.

Legend: N tokens of a row, V vocabulary.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from ntp.data.tokenizers.byte_counts import byte_alphabet, flat_steps, is_lossless
from ntp.data.tokenizers.byte_level import byte_level_words

_STRAY = re.compile("[\udc80-\udcff]")


class Words(Protocol):
    """A rule that finds the beginnings of words."""

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """[N] int64 ids to [N] bool, whether each begins a word. The first one always does."""
        ...


def word_rule(spec: dict[str, Any], vocabulary: dict[str, int], size: int) -> Words | None:
    """The rule of a tokenizer; None if its tokens do not tell where words begin.

    Args:
        spec: the tokenizer, as ``tokenizer.json`` holds it.
        vocabulary: every token and its id.
        size: V, one more than the highest id.
    """
    alone_V = np.zeros(size, dtype=bool)  # an added token is a word of its own
    alone_V[[one["id"] for one in spec["added_tokens"]]] = True
    steps = list(flat_steps(spec["pre_tokenizer"], "pretokenizers"))
    model = spec["model"]
    prefix = model.get("continuing_subword_prefix") or ""

    # What is cut into words is the text behind normalization, and that is what the ids spell.
    cutter = [one | {"add_prefix_space": False} if "add_prefix_space" in one else one for one in steps]
    bare = spec | {"normalizer": None, "added_tokens": [], "pre_tokenizer": _sequence(cutter)}
    if is_lossless(bare):
        return _ByteLevel(_pre_tokenizer(cutter), vocabulary, prefix, alone_V)
    nothing_V = np.zeros(size, dtype=bool)

    def marked(mark: Callable[[str], bool]) -> np.ndarray:
        marked_V = nothing_V.copy()
        marked_V[[index for token, index in vocabulary.items() if mark(token)]] = True
        return marked_V

    if model.get("type") == "WordLevel":
        return _Marked(~nothing_V, alone_V)
    if prefix:
        return _Marked(alone_V | ~marked(lambda token: token.startswith(prefix) and token != prefix), alone_V)
    if suffix := model.get("end_of_word_suffix"):
        return _Marked(alone_V, alone_V | marked(lambda token: token.endswith(suffix)))
    if marker := _space_marker(spec, steps):
        return _Marked(alone_V | marked(lambda token: token.startswith(marker)), alone_V)
    return None


class _Marked:
    """The token itself tells.

    Args:
        begins_V: tokens that begin a word.
        ends_V: tokens that end one, so that the next token begins one.
    """

    def __init__(self, begins_V: np.ndarray, ends_V: np.ndarray) -> None:
        self.begins_V, self.ends_V = begins_V, ends_V

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        starts_N = self.begins_V[ids]
        starts_N[1:] |= self.ends_V[ids[:-1]]
        starts_N[:1] = True
        return starts_N


class _ByteLevel:
    """The text that the tokens spell is cut again.

    Args:
        pre_tokenizer: gives words with one character for each byte.
        vocabulary: every token and its id.
        prefix: of tokens inside a word; no part of their text.
        alone_V: added tokens, which break the text.
    """

    def __init__(self, pre_tokenizer: Any, vocabulary: dict[str, int], prefix: str, alone_V: np.ndarray) -> None:
        self.pre_tokenizer, self.alone_V = pre_tokenizer, alone_V.copy()
        alphabet = byte_alphabet()
        self.spelling: list[bytes] = [b""] * len(alone_V)
        for token, index in vocabulary.items():
            text = token.removeprefix(prefix)
            if not alone_V[index] and alphabet.keys() >= set(text):
                self.spelling[index] = bytes(alphabet[one] for one in text)
            else:
                self.alone_V[index] = True

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        alone_N = self.alone_V[ids]
        starts_N = alone_N.copy()
        edges = np.flatnonzero(np.diff(alone_N, prepend=True, append=True))
        for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            starts_N[begin:end] = self._starts([self.spelling[one] for one in ids[begin:end].tolist()])
        return starts_N

    def _starts(self, spelled: list[bytes]) -> np.ndarray:
        # A row may begin or end inside a character. Its stray bytes are read as letters, which most characters of
        # several bytes are; of one byte each, so that no other byte moves.
        text = b"".join(spelled).decode("utf-8", "surrogateescape")
        text = text if text.isascii() else _STRAY.sub("a", text)
        words = np.array([len(word) for word, _ in self.pre_tokenizer.pre_tokenize_str(text)])
        begins_word = np.zeros(int(words.sum()) + 1, dtype=bool)
        begins_word[np.cumsum(words)] = True
        begins_word[0] = True
        lengths = np.array([len(one) for one in spelled])
        return begins_word[np.cumsum(lengths) - lengths]


def _sequence(steps: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": steps}


def _pre_tokenizer(steps: list[dict[str, Any]]) -> Any:
    """Of byte-level steps. Where none of them cuts (one token a byte), words are those of GPT-2."""
    from tokenizers import Tokenizer as Backend

    if all(one["type"] == "ByteLevel" and not one.get("use_regex", True) for one in steps):
        return byte_level_words(None)
    spec: dict[str, Any] = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
    spec |= {"version": "1.0", "added_tokens": [], "pre_tokenizer": _sequence(steps)}
    spec["model"] = {"type": "WordLevel", "vocab": {}, "unk_token": ""}
    return Backend.from_str(json.dumps(spec)).pre_tokenizer


def _space_marker(spec: dict[str, Any], steps: list[dict[str, Any]]) -> str | None:
    """What SentencePiece writes in place of the space before a word."""
    marker: str
    if any(one["type"] == "Metaspace" for one in steps):
        if any(one["type"] not in ("Metaspace", "WhitespaceSplit") for one in steps):
            return None
        marker = next(one["replacement"] for one in steps if one["type"] == "Metaspace")
        return marker
    space = {"String": " "}
    for one in flat_steps(spec["normalizer"], "normalizers"):
        # Behind such a normalization, to split at spaces does nothing.
        if one["type"] == "Replace" and one["pattern"] == space and all(two.get("pattern") == space for two in steps):
            marker = one["content"]
            return marker
    return None
