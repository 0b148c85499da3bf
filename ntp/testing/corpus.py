"""The kit's own text and tokenizers, and token stores that live in memory."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ntp.data.store import TokenStore
from ntp.data.tokenizers import BytePair, Bytes, Tokenizer
from ntp.data.tokenizers.documents import encode_documents

_PROSE = (
    "the a of and to in river stone light water morning garden letter number story house window small green old "
    "walks sings opens counts finds writes under over between again never often naïve café Straße дом море 東京 山 🌊"
)
_TINY = ("a", " ", "\n", "é", "山", "x = 1\n", "No.", "🌊🌊", "ab", "0")
"""Documents of one character or little more; whitespace alone; characters of two, three and four bytes."""

MERGES = 120


@lru_cache(maxsize=1)
def documents() -> tuple[str, ...]:
    """About a hundred documents: prose, lines of code, and between them the tiny ones."""
    rng, words = random.Random(0), _PROSE.split()
    made = []
    for number in range(90):
        if number % 9 == 4:
            made.append(_TINY[number // 9])
        elif number % 5 == 3:
            lines = [f"def f{rng.randrange(100)}(x):\n    return x + {rng.randrange(1000)}\n" for _ in range(3)]
            made.append("\n".join(lines[: 1 + number % 3]))
        else:
            sentences = [
                " ".join(rng.choice(words) for _ in range(rng.randint(1, 9))).capitalize() + "."
                for _ in range(rng.choice((1, 1, 2, 8)))
            ]
            made.append(" ".join(sentences))
    return tuple(made)


def subword_tokenizer(extra_special_tokens: tuple[str, ...] = ()) -> Tokenizer:
    """A small byte-level BPE with all special tokens that ntp reserves, and these."""
    return _subword_tokenizer(extra_special_tokens)


@lru_cache(maxsize=16)
def _subword_tokenizer(extra_special_tokens: tuple[str, ...]) -> Tokenizer:
    extra = list(extra_special_tokens)
    smallest = len(Bytes(extra_special_tokens=extra).special_tokens) + 256
    return BytePair(smallest + MERGES, extra_special_tokens=extra).train(documents())


def byte_tokenizer(extra_special_tokens: tuple[str, ...] = ()) -> Tokenizer:
    """One token a byte: changing one byte changes one token, also when a text is encoded anew."""
    return _byte_tokenizer(extra_special_tokens)


@lru_cache(maxsize=16)
def _byte_tokenizer(extra_special_tokens: tuple[str, ...]) -> Tokenizer:
    return Bytes(extra_special_tokens=list(extra_special_tokens)).train()


class MemoryStore(TokenStore):
    """A token store without files.

    Args:
        tokens: [T] int64.
        bytes: [T] int64.
        offsets: [documents + 1] int64.
    """

    def __init__(self, tokens: np.ndarray, bytes: np.ndarray, offsets: np.ndarray) -> None:
        self.tokens, self.bytes, self.offsets = tokens, bytes, offsets
        self.manifest = {"total_bytes": int(bytes.sum())}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.tokens, self.bytes, self.offsets)

    @classmethod
    def of(cls, texts: Sequence[str], tokenizer: Tokenizer) -> MemoryStore:
        """Tokenise documents; one of which the tokenizer keeps nothing is left out."""
        end = np.array([tokenizer.end_of_text])
        tokens: list[np.ndarray] = []
        counts: list[np.ndarray] = []
        offsets = [0]
        length = 0
        for ids, id_bytes, ends in encode_documents(tokenizer, texts):
            tokens.append(ids)
            counts.append(id_bytes)
            length += len(ids)
            if ends and length > offsets[-1]:
                tokens.append(end)
                counts.append(np.zeros(1, dtype=np.int64))
                length += 1
                offsets.append(length)
        if not length:
            raise ValueError("the corpus has no text")
        return cls(np.concatenate(tokens), np.concatenate(counts), np.array(offsets))

    @classmethod
    def beginning(cls, store: TokenStore, length: int, end_of_text: int) -> MemoryStore:
        """The first tokens of a store, as documents that end."""
        length = min(length, len(store.tokens))
        tokens = np.asarray(store.tokens[:length]).astype(np.int64)
        counts = np.asarray(store.bytes[:length]).astype(np.int64)
        tokens[-1], counts[-1] = end_of_text, 0
        offsets = np.asarray(store.offsets)
        return cls(tokens, counts, np.append(offsets[offsets < length], length))

    def replaced(self, places: np.ndarray, tokens: np.ndarray) -> MemoryStore:
        """The same text with other tokens of the same number of bytes at some places."""
        changed = self.tokens.copy()
        changed[places] = tokens
        return MemoryStore(changed, self.bytes, self.offsets)


@lru_cache(maxsize=32)
def twins(tokenizer: Tokenizer) -> np.ndarray:
    """[V] int64, for each id another that may stand in its place, -1 where there is none.

    Both have as many bytes, and letters where the other has letters, so that words stay words of the same length.
    """
    groups: dict[tuple[str, int], list[int]] = {}
    for index in tokenizer.text_ids.tolist():
        spelled = tokenizer.token_texts[index].decode("latin-1") if tokenizer.lossless else tokenizer.id_to_token(index)
        kind = "".join(_kind(one) for one in spelled or "")
        if any(one in "aA0" for one in kind):
            groups.setdefault((kind, int(tokenizer.token_bytes[index])), []).append(index)
    twins = np.full(tokenizer.vocabulary_size, -1, dtype=np.int64)
    for members in groups.values():
        if len(members) > 1:
            twins[members] = np.roll(members, 1)
    return twins


def _kind(character: str) -> str:
    if "a" <= character <= "z":
        return "a"
    if "A" <= character <= "Z":
        return "A"
    return "0" if "0" <= character <= "9" else character
