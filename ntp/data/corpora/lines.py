"""Bytes of a file, decompressed and decoded, with errors that say where."""

import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal, cast

from ntp.config.errors import ConfigError

Errors = Literal["strict", "replace"]
_BOM = b"\xef\xbb\xbf"


def read_lines(path: Path, errors: Errors) -> Iterator[str]:
    """Lines with their endings as they are, decoded from UTF-8; a byte order mark is dropped.

    Raises:
        ConfigError: the file is not UTF-8 (names the byte), damaged, or cannot be read.
    """
    offset = 0
    with opened(path) as file:
        for line in file:
            if offset == 0 and line.startswith(_BOM):
                line, offset = line[len(_BOM) :], len(_BOM)
            yield decode(line, path, errors, offset)
            offset += len(line)


def read_text(path: Path, errors: Errors) -> str:
    """A whole file, line endings made ``\\n``, without a byte order mark.

    Raises:
        ConfigError: as `read_lines`.
    """
    with opened(path) as file:
        raw = file.read()
    start = len(_BOM) if raw.startswith(_BOM) else 0
    return universal_newlines(decode(raw[start:], path, errors, start))


def universal_newlines(text: str) -> str:
    """Windows' and old Macintosh's line endings as ``\\n``."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def decode(raw: bytes, path: Path, errors: Errors, offset: int = 0) -> str:
    """Decode UTF-8.

    Args:
        raw: the bytes.
        path: the file that they come from, for the message.
        errors: ``replace`` puts U+FFFD where ``strict`` raises.
        offset: of ``raw`` in the file, in bytes.

    Raises:
        ConfigError: names the file and the byte.
    """
    try:
        return raw.decode("utf-8", errors)
    except UnicodeDecodeError as error:
        where = f"{path} is not UTF-8: byte 0x{raw[error.start]:02x} at offset {offset + error.start}"
        utf_16 = offset == 0 and raw[:2] in (b"\xff\xfe", b"\xfe\xff")
        hint = " (it looks like UTF-16; convert it)" if utf_16 else ""
        problem = f"{where}{hint}; data.errors=replace reads it with U+FFFD in such places"
        raise ConfigError("data.errors", problem) from None


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A file open for reading bytes, decompressed when its name ends in ``.gz`` or ``.zst``.

    Raises:
        ConfigError: it cannot be read or its compression is damaged; also for errors while it is read.
    """
    suffix = path.suffix.lower()
    damaged: tuple[type[Exception], ...] = (EOFError, gzip.BadGzipFile, zlib.error)
    if suffix == ".zst":
        import zstandard

        damaged = (zstandard.ZstdError,)
    try:
        with _decompressed(path, suffix) as file:
            yield file
    except damaged as error:
        raise ConfigError("data.path", f"{path} is damaged: {error}") from error
    except OSError as error:
        raise ConfigError("data.path", f"{path} cannot be read: {error.strerror or error}") from error


def _decompressed(path: Path, suffix: str) -> IO[bytes]:
    if suffix == ".gz":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    if suffix != ".zst":
        return path.open("rb")
    import zstandard

    # zstandard's own open() stops after the first frame; files written in pieces have many.
    reader = zstandard.ZstdDecompressor().stream_reader(path.open("rb"), read_across_frames=True, closefd=True)
    return io.BufferedReader(reader)
