"""A tokenizer that knows how much text each of its tokens stands for."""

import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ntp.config.errors import ConfigError
from ntp.data.special_tokens import END_OF_TEXT, MASK, PADDING
from ntp.data.tokenizers.byte_counts import byte_strings, byte_table, bytes_by_place, is_lossless
from ntp.data.tokenizers.words import Words, word_rule

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

ROLES = {END_OF_TEXT: "eos_token", PADDING: "pad_token", MASK: "mask_token"}
"""ntp's names of the tokens that other tokenizers call differently, and what ``tokenizer_config.json`` calls them."""


class Tokenizer:
    """A ``tokenizers.Tokenizer`` with special tokens that no text can produce.

    Args:
        backend: the tokenizer; truncation and padding are switched off.
        names: what the tokenizer calls ntp's end of text, padding and mask tokens, where it calls them differently.

    Attributes:
        lossless: whether decoding gives back every text exactly, byte by byte.
        token_bytes: [vocabulary_size] int64, UTF-8 bytes that each id stands for; 0 for special tokens. Exact if
            ``lossless``; else only `encode_batch`, which sees the text, gives exact counts.
        special_ids: ids of all special tokens.
        unknown: id of the token for text that the vocabulary cannot express, or None.

    Raises:
        ConfigError: there is no end-of-text token.
    """

    def __init__(self, backend: "Backend", names: dict[str, str] | None = None) -> None:
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        self.backend = backend
        self.names = {ours: theirs for ours, theirs in (names or {}).items() if ours != theirs}
        spec = json.loads(backend.to_str())
        vocabulary = backend.get_vocab(with_added_tokens=True)
        self.vocabulary_size = max(vocabulary.values()) + 1
        self.lossless = is_lossless(spec)
        self.token_bytes = byte_table(spec, vocabulary, self.vocabulary_size)
        self.special_ids = frozenset(one["id"] for one in spec["added_tokens"] if one["special"])
        self.unknown = _unknown(spec["model"], backend)
        self._spec = spec
        if self.token_to_id(END_OF_TEXT) is None:
            problem = "the tokenizer has no end-of-text token; name the one that ends its documents"
            raise ConfigError("data.tokenizer.end_of_text", problem)

    @property
    def end_of_text(self) -> int:
        """Id of the token that ends every document."""
        index = self.token_to_id(END_OF_TEXT)
        assert index is not None
        return index

    @property
    def padding(self) -> int:
        """Id that fills short rows; the end of text where there is none: padding is known by mask, never by id."""
        index = self.token_to_id(PADDING)
        return self.end_of_text if index is None else index

    def token_to_id(self, token: str) -> int | None:
        """Id of a token, special or not, by ntp's name or the tokenizer's own; None if it has no such token."""
        index: int | None = self.backend.token_to_id(self.names.get(token, token))
        return index

    def id_to_token(self, index: int) -> str | None:
        """The tokenizer's own name of an id."""
        token: str | None = self.backend.id_to_token(index)
        return token

    @property
    def special_tokens(self) -> dict[str, int]:
        """Id of every special token, by its own name and by ntp's where the two differ."""
        own = {str(self.id_to_token(index)): index for index in sorted(self.special_ids)}
        return own | {ours: own[theirs] for ours, theirs in self.names.items() if theirs in own}

    @functools.cached_property
    def text_ids(self) -> np.ndarray:
        """[T] int64, ids that text is made of: all in the vocabulary but the special ones, in order."""
        vocabulary = self.backend.get_vocab(with_added_tokens=True).values()
        return np.array(sorted(set(vocabulary) - self.special_ids), dtype=np.int64)

    def missing_special_tokens(self, names: Iterable[str]) -> list[str]:
        """Those of the names that are not special tokens of this tokenizer."""
        return [name for name in names if self.token_to_id(name) not in self.special_ids]

    def encode(self, text: str) -> np.ndarray:
        """[N] int64, the ids of a text, without an end-of-text token."""
        return self.encode_batch([text])[0][0]

    def encode_batch(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Ids and byte counts of several texts, in parallel.

        Returns:
            For each text ids [N] int64 and UTF-8 bytes [N] int64, which sum to the text's length. A text of which a
            tokenizer with an unknown token keeps nothing becomes one unknown token.
        """
        if self.lossless:
            encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
            all_ids = [np.array(one.ids, dtype=np.int64) for one in encodings]
            return [(ids, self.token_bytes[ids]) for ids in all_ids]
        encodings = self.backend.encode_batch(list(texts), add_special_tokens=False)
        return [self._with_places(text, one) for text, one in zip(texts, encodings, strict=True)]

    def _with_places(self, text: str, encoding: Any) -> tuple[np.ndarray, np.ndarray]:
        ids = np.array(encoding.ids, dtype=np.int64)
        if len(ids):
            ends = np.array(encoding.offsets, dtype=np.int64)[:, 1]
            return ids, bytes_by_place(text, ends)
        if text and self.unknown is not None:
            return np.array([self.unknown]), np.array([len(text.encode())])
        return ids, ids

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """Text of ids; bytes that are not UTF-8 become U+FFFD.

        Args:
            ids: any sequence of ids.
            skip_special: leave special tokens out.
        """
        text: str = self.backend.decode([int(one) for one in ids], skip_special_tokens=skip_special)
        return text

    def word_starts(self, ids: np.ndarray) -> np.ndarray:
        """Whether each token begins a word: one of those that the pre-tokenizer cuts a text into.

        A special token is a word of its own. A row that begins inside a word begins with the rest of it. A byte-level
        tokenizer that cuts nothing has the words of GPT-2, and one of characters has one word a character.

        Args:
            ids: [N] int64, any part of an encoded text, special tokens included.

        Returns:
            [N] bool.

        Raises:
            ConfigError: the tokens do not tell.
        """
        if self._words is None:
            problem = "its tokens do not tell where words begin; those of data/tokenizer=bpe or wordpiece do"
            raise ConfigError("data.tokenizer", problem)
        return self._words(ids)

    @functools.cached_property
    def _words(self) -> Words | None:
        return word_rule(self._spec, self.backend.get_vocab(with_added_tokens=True), self.vocabulary_size)

    @functools.cached_property
    def token_texts(self) -> list[bytes]:
        """[vocabulary_size], the UTF-8 bytes of each id: joined, they are the text exactly.

        Characters may be split between tokens. Special tokens have none.

        Raises:
            ValueError: the tokenizer is not ``lossless``, so that its tokens alone do not tell the text.
        """
        if not self.lossless:
            raise ValueError("the tokens of this tokenizer do not tell the text that they stand for")
        return byte_strings(self._spec, self.backend.get_vocab(with_added_tokens=True), self.vocabulary_size)

    def save(self, directory: Path | str) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json``, which transformers' AutoTokenizer reads too."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        for token, role in ROLES.items():
            if self.token_to_id(token) is not None:
                settings[role] = self.names.get(token, token)
        if self.unknown is not None:
            settings["unk_token"] = self.id_to_token(self.unknown)
        (directory / "tokenizer.json").write_text(self.backend.to_str(pretty=True), encoding="utf-8")
        (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str) -> "Tokenizer":
        """Read what `save` wrote, or any ``tokenizer.json``, alone or with ``tokenizer_config.json`` beside it.

        Args:
            path: the file or its directory.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged.
        """
        from tokenizers import Tokenizer as Backend

        path = Path(path)
        file = path / "tokenizer.json" if path.is_dir() else path
        text = file.read_text(encoding="utf-8")
        settings = file.with_name("tokenizer_config.json")
        names = special_names(json.loads(settings.read_text(encoding="utf-8"))) if settings.is_file() else {}
        try:
            backend = Backend.from_str(text)
        except Exception as error:  # the library raises nothing more specific
            raise ValueError(f"{file} is not a tokenizer: {error}") from error
        return cls(backend, {ours: theirs for ours, theirs in names.items() if backend.token_to_id(theirs) is not None})

    def digest(self) -> str:
        """SHA-256 over everything that decides what `encode_batch` and `decode` give."""
        return hashlib.sha256(json.dumps([self._spec, self.names], sort_keys=True).encode()).hexdigest()

    def __reduce__(self) -> tuple[Any, ...]:
        # The backend's own pickling forgets that special tokens are not to be read in text.
        return _from_string, (self.backend.to_str(), self.names)


def _from_string(text: str, names: dict[str, str]) -> Tokenizer:
    from tokenizers import Tokenizer as Backend

    return Tokenizer(Backend.from_str(text), names)


def special_names(settings: dict[str, Any]) -> dict[str, str]:
    """What a ``tokenizer_config.json`` calls ntp's tokens, where it calls them differently."""
    names = {}
    for ours, role in ROLES.items():
        theirs = settings.get(role)
        theirs = theirs.get("content") if isinstance(theirs, dict) else theirs
        if theirs and theirs != ours:
            names[ours] = str(theirs)
    return names


def _unknown(model: dict[str, Any], backend: "Backend") -> int | None:
    if model.get("type") == "Unigram":
        return model.get("unk_id")
    token = model.get("unk_token")
    index: int | None = backend.token_to_id(token) if token else None
    return index
