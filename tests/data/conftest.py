from collections.abc import Iterator
from typing import Any

from ntp.data.corpora import Corpus, Split


class Given(Corpus):
    """Documents that a test gives, and counts how often they are read."""

    config_key = "data.given"
    deduplicate = False

    def __init__(self, train: list[str], validation: list[str] | None = None) -> None:
        self.train, self.validation = train, validation
        self.reads = 0

    @property
    def own_validation(self) -> bool:
        return self.validation is not None

    def read(self, split: Split) -> Iterator[str]:
        self.reads += 1
        yield from self.train if split == "train" else self.validation or []

    def digest(self) -> str:
        return repr((self.train, self.validation))

    def description(self) -> dict[str, Any]:
        return {"corpus": "given"}
