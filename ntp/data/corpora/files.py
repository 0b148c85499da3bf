"""A user's own text."""

import hashlib
from collections.abc import Iterator
from typing import Any

from ntp.data.corpora.base import Corpus, Split
from ntp.data.corpora.lines import Errors
from ntp.data.corpora.paths import Format, find_files
from ntp.data.corpora.records import Document, read_documents


class Files(Corpus):
    """Text, JSON lines, CSV and parquet files; files in the order of their paths, records in the order of the file.

    Args:
        path: file, directory or pattern, or a list of these.
        format: of all files; None to go by extension.
        text_column: field of a record that holds the text; None to find it.
        document: what is one document of a plain text file.
        errors: ``strict`` refuses bytes that are not UTF-8, ``replace`` reads them as U+FFFD.
        deduplicate: leave out documents that have come before.

    Raises:
        ConfigError: the path leads to nothing that can be read.
    """

    config_key = "data.path"

    def __init__(
        self,
        path: str | list[str],
        format: Format | None = None,
        text_column: str | None = None,
        document: Document = "file",
        errors: Errors = "strict",
        deduplicate: bool = True,
    ) -> None:
        self.files = find_files([path] if isinstance(path, str) else path, format)
        self.text_column = text_column
        self.document = document
        self.errors = errors
        self.deduplicate = deduplicate

    def read(self, split: Split) -> Iterator[str]:
        """The documents of each file.

        Raises:
            ConfigError: what is wrong, in which file, at which byte or line.
        """
        for path, kind in self.files:
            if path.stat().st_size:
                yield from read_documents(path, kind, self.text_column, self.document, self.errors)

    def digest(self) -> str:
        """SHA-256 of all contents and of how they are read; where the files lie does not matter."""
        options = [self.text_column, self.document, self.errors, self.deduplicate]
        digest = hashlib.sha256(repr(options).encode())
        for path, kind in self.files:
            with path.open("rb") as file:
                contents = hashlib.file_digest(file, "sha256").hexdigest()
            # Whether the bytes are compressed shows only in the name.
            digest.update(f"{kind} {path.suffix} {contents}\n".encode())
        return digest.hexdigest()

    def description(self) -> dict[str, Any]:
        """Names and sizes of the files and how they are read."""
        return {
            "corpus": "files",
            "files": len(self.files),
            "first_files": [str(path) for path, _ in self.files[:20]],
            "file_bytes": sum(path.stat().st_size for path, _ in self.files),
            "document": self.document,
            "text_column": self.text_column,
            "errors": self.errors,
            "deduplicate": self.deduplicate,
        }
