"""A text as flat arrays of tokens on disk, mapped into memory.

A store is a directory:

| file | shape, dtype | meaning |
|---|---|---|
| ``tokens.npy`` | [T] uint16 or uint32 | ids of all documents, one after the other, each with its end-of-text token |
| ``bytes.npy`` | [T] uint8, uint16 or uint32 | UTF-8 bytes of text that each token stands for; 0 for end of text |
| ``offsets.npy`` | [documents + 1] int64 | where each document begins, and T |
| ``manifest.json`` | | where it comes from, counts and checksums |
"""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ntp.data.tokenizers.documents import encode_documents
from ntp.data.tokenizers.tokenizer import Tokenizer

FORMAT = 1
"""Changes whenever the same text and tokenizer would give other files."""

VERIFIED_BELOW = 256 * 2**20
"""Bytes of files; larger stores are checked by size alone when they are opened."""

_ARRAYS = ("tokens", "bytes", "offsets")


class DamagedStore(Exception):
    """A store's files are not what its manifest says."""


class TokenStore:
    """An opened store.

    Args:
        directory: of its files.
        manifest: as `open` reads it.

    Attributes:
        tokens: [T] memory map.
        bytes: [T] memory map.
        offsets: [documents + 1] memory map.
    """

    def __init__(self, directory: Path, manifest: dict[str, Any]) -> None:
        self.directory = directory
        self.manifest = manifest
        self.tokens, self.bytes, self.offsets = (
            np.load(directory / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS
        )

    @classmethod
    def open(cls, directory: Path | str, verify: bool | None = None) -> "TokenStore":
        """Open a store and check that it is whole.

        Args:
            directory: of its files.
            verify: compare checksums; None to do so below `VERIFIED_BELOW` bytes.

        Raises:
            DamagedStore: says what is wrong.
        """
        directory = Path(directory)
        try:
            manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
            if manifest["format"] != FORMAT:
                raise DamagedStore(f"format {manifest['format']} instead of {FORMAT}")
            files = manifest["files"]
            sizes = {name: (directory / name).stat().st_size for name in files}
            for name, size in sizes.items():
                if size != files[name]["size"]:
                    raise DamagedStore(f"{name} has {size} bytes instead of {files[name]['size']}")
            if verify or (verify is None and sum(sizes.values()) < VERIFIED_BELOW):
                for name in files:
                    if _checksum(directory / name) != files[name]["sha256"]:
                        raise DamagedStore(f"the contents of {name} have changed")
            store = cls(directory, manifest)
            if int(store.offsets[-1]) != len(store.tokens) or len(store.bytes) != len(store.tokens):
                raise DamagedStore("its arrays do not fit each other")
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise DamagedStore(" ".join(f"{type(error).__name__}: {error}".split())) from error
        return store

    def __len__(self) -> int:
        return len(self.tokens)

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process maps the same files instead of receiving a copy of them.
        return type(self), (self.directory, self.manifest)

    @property
    def documents(self) -> int:
        """How many documents."""
        return len(self.offsets) - 1

    @property
    def total_bytes(self) -> int:
        """UTF-8 bytes of the whole text."""
        return int(self.manifest["total_bytes"])

    @functools.cached_property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes of text per token, end-of-text tokens counted."""
        return self.total_bytes / len(self)


def write_store(directory: Path, texts: Iterable[str], tokenizer: Tokenizer, description: dict[str, Any]) -> TokenStore:
    """Tokenise documents into a new store.

    Memory stays at one batch of documents, whatever the length of the text.

    Args:
        directory: made here; whoever calls renames it when all is well.
        texts: the documents; one of which the tokenizer keeps nothing is left out.
        tokenizer: ends each document with its end-of-text token.
        description: recorded in the manifest.

    Raises:
        OSError: the disk is full, or the like.
    """
    directory.mkdir(parents=True)
    unknown = 0
    with contextlib.ExitStack() as stack:
        token_type = np.uint16 if tokenizer.vocabulary_size <= 2**16 else np.uint32
        tokens = stack.enter_context(_ArrayFile(directory / "tokens.npy", token_type))
        counts = stack.enter_context(_ArrayFile(directory / "bytes.npy", np.uint8))
        offsets = stack.enter_context(_ArrayFile(directory / "offsets.npy", np.int64))
        offsets.append(np.zeros(1, dtype=np.int64))
        end_of_text, no_bytes = np.array([tokenizer.end_of_text]), np.zeros(1, dtype=np.int64)
        begin = 0
        for ids, id_bytes, ends in encode_documents(tokenizer, texts):
            tokens.append(ids)
            counts.append(id_bytes)
            if tokenizer.unknown is not None:
                unknown += int(np.count_nonzero(ids == tokenizer.unknown))
            if ends and tokens.length > begin:
                tokens.append(end_of_text)
                counts.append(no_bytes)
                offsets.append(np.array([tokens.length]))
                begin = tokens.length
    arrays = [directory / f"{name}.npy" for name in _ARRAYS]
    manifest = {
        "format": FORMAT,
        **description,
        "tokenizer_digest": tokenizer.digest(),
        "vocabulary_size": tokenizer.vocabulary_size,
        "tokens": tokens.length,
        "documents": offsets.length - 1,
        "total_bytes": counts.total,
        "unknown_tokens": unknown,
        "dtypes": {"tokens": tokens.dtype.name, "bytes": counts.dtype.name, "offsets": offsets.dtype.name},
        "files": {one.name: {"size": one.stat().st_size, "sha256": _checksum(one)} for one in arrays},
    }
    with (directory / "manifest.json").open("w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=2)
        _to_disk(file)
    return TokenStore(directory, manifest)


class _ArrayFile:
    """A one-dimensional ``.npy`` file that grows.

    Args:
        path: of the file.
        dtype: an unsigned one grows too, when a value does not fit.

    Attributes:
        length: values so far.
        total: their sum.
    """

    def __init__(self, path: Path, dtype: Any) -> None:
        self.path = path
        self.dtype = np.dtype(dtype)
        self.length = self.total = 0
        self._file = path.open("wb")
        self._write_header()

    def __enter__(self) -> "_ArrayFile":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        with self._file:
            if error is None:
                self._write_header()
                _to_disk(self._file)

    def append(self, values: np.ndarray) -> None:
        """Add values, which are not negative."""
        while len(values) and int(values.max()) > np.iinfo(self.dtype).max:
            self._widen()
        self._file.write(values.astype(self.dtype).tobytes())
        self.length += len(values)
        self.total += int(values.sum())

    def _write_header(self) -> None:
        # numpy leaves room in the header for a length of up to 21 digits, so that it can be written again at the end.
        self._file.seek(0)
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def _widen(self) -> None:
        """Write all values again in twice the width."""
        self._write_header()
        self._file.close()
        narrow = self.path.with_suffix(".narrow")
        self.path.rename(narrow)
        self.dtype = np.dtype(f"u{2 * self.dtype.itemsize}")
        self._file = self.path.open("wb")
        self._write_header()
        if self.length:
            values = np.load(narrow, mmap_mode="r")
            for start in range(0, self.length, 2**20):
                self._file.write(values[start : start + 2**20].astype(self.dtype).tobytes())
        narrow.unlink()


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _to_disk(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
