"""What every source of text offers."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Literal

Split = Literal["train", "validation"]


class Corpus(ABC):
    """A source of documents, which can be read any number of times and always gives the same ones.

    Attributes:
        config_key: the config key to blame when the source as a whole is wrong, for error messages.
        deduplicate: whether a document that has come before in the same split is left out.
    """

    config_key = "data.corpus"
    deduplicate = True

    @property
    def own_validation(self) -> bool:
        """Whether the source comes with a validation split of its own."""
        return False

    def documents(self, split: Split = "train") -> Iterator[str]:
        """Documents in a fixed order, without those that hold nothing but whitespace.

        Args:
            split: ``validation`` only of a source with its own validation; ``train`` is everything else.

        Raises:
            ConfigError: the source cannot be read.
        """
        seen: set[bytes] = set()
        for text in self.read(split):
            if not text or text.isspace():
                continue
            if self.deduplicate:
                digest = text_digest(text)
                if digest in seen:
                    continue
                seen.add(digest)
            yield text

    def origins(self) -> Mapping[str, str]:
        """Which package each document is from, by the hexadecimal hash of its text; empty where that is not known."""
        return {}

    @abstractmethod
    def read(self, split: Split) -> Iterator[str]:
        """All documents of a split, as they lie in the source."""

    @abstractmethod
    def digest(self) -> str:
        """Hexadecimal digest of everything that decides what `documents` gives; much cheaper than reading them."""

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """What the manifest of prepared data records about the source: plain values that JSON can hold."""


def text_digest(text: str) -> bytes:
    """SHA-256 of the text's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).digest()
