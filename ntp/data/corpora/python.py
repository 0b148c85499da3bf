"""Source code that every machine with Python already has."""

import platform
from collections.abc import Iterator, Mapping
from typing import Any

from ntp.data.corpora.base import Corpus, Split, text_digest
from ntp.data.corpora.sources import python_sources, sources_digest


class Python(Corpus):
    """The running interpreter's standard library without its tests, 9 to 12 MB; one document a file.

    Args:
        packages: installed packages whose sources are added, by import name.

    Raises:
        ConfigError: a package is not installed.
    """

    config_key = "data.packages"

    def __init__(self, packages: list[str] | None = None) -> None:
        self.packages = list(packages or [])
        self.files = python_sources(self.packages)

    def read(self, split: Split) -> Iterator[str]:
        """Each file, decoded as it declares; files that do not decode are skipped."""
        for file in self.files:
            text = file.read()
            if text is not None:
                yield text

    def origins(self) -> Mapping[str, str]:
        """The top-level name that a file is imported under: ``asyncio``, ``os`` or the name of an installed package."""
        texts = ((file.name.split("/")[0].removesuffix(".py"), file.read()) for file in self.files)
        return {text_digest(text).hex(): name for name, text in texts if text is not None}

    def digest(self) -> str:
        """SHA-256 of the names and contents of all files."""
        return sources_digest(self.files)

    def description(self) -> dict[str, Any]:
        """Interpreter, packages, and how many files were found and skipped."""
        return {
            "corpus": type(self).__name__.lower(),
            "python": platform.python_version(),
            "packages": self.packages,
            "files": len(self.files),
            "skipped_files": sum(file.read() is None for file in self.files),
        }
