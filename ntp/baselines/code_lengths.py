"""How many bytes a compressor needs for some texts, all of which begin with the same long one.

A compressor that has read the training text is copied for each text that follows, by forking its process: reading
megabytes again for each of hundreds of questions would take hours. So this file is also a program, run in a process of
its own, which has no threads that a fork would lose. It imports nothing of this package.

It reads one line of JSON, ``{"format": .., "level": .., "before": .., "lengths": [..]}``, then the bytes of the text
before and of each text, and writes the lengths of the compressed streams of ``before + text`` as one line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, Literal

Format = Literal["gzip", "xz", "zstd"]
BEST: dict[Format, int] = {"gzip": 9, "xz": 9, "zstd": 22}
"""The highest level of each."""

_XZ_WINDOW = 64 * 2**20
_SMALLEST_XZ_WINDOW = 4096
_ROOM = 2**20  # for a text behind the one that all begin with
_ZSTD_WINDOW_LOG = 27  # 128 MiB, what `zstd --ultra --long` asks for


def code_lengths(kind: Format, level: int, before: bytes, texts: Sequence[bytes]) -> list[int]:
    """Bytes of the compressed stream of ``before + text``, for each text.

    Args:
        kind: of the stream: deflate, LZMA or Zstandard, as bare as each can be: no names, sizes or checksums.
        level: of the compressor.
        before: what all texts begin with. Only without it the process need not be able to fork.
        texts: any.
    """
    if not before:
        return [_finished(_compressor(kind, level, len(text)), text) for text in texts]
    request = {"format": kind, "level": level, "before": len(before), "lengths": [len(text) for text in texts]}
    done = subprocess.run(
        [sys.executable, "-P", __file__],
        input=b"".join([json.dumps(request).encode(), b"\n", before, *texts]),
        capture_output=True,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"status {done.returncode}"]
        raise RuntimeError(f"the process that compresses has failed: {said[-1]}")
    answer: list[int] = json.loads(done.stdout)
    return answer


def _compressor(kind: Format, level: int, size: int) -> Any:
    """A compressor that can look back over so many bytes, or as far as its format lets it."""
    if kind == "gzip":
        import zlib

        return zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL + 1)
    if kind == "xz":
        import lzma

        window = min(max(size, _SMALLEST_XZ_WINDOW), _XZ_WINDOW)
        one = {"id": lzma.FILTER_LZMA1, "preset": level | lzma.PRESET_EXTREME, "dict_size": window}
        return lzma.LZMACompressor(format=lzma.FORMAT_RAW, filters=[one])
    import zstandard

    parameters = zstandard.ZstdCompressionParameters.from_level(
        level,
        source_size=max(1, min(size, 2**_ZSTD_WINDOW_LOG)),
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_content_size=0,
        write_checksum=0,
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compressobj()


def _finished(compressor: Any, text: bytes) -> int:
    return len(compressor.compress(text)) + len(compressor.flush())


def _length_in_a_copy(compressor: Any, text: bytes) -> int:
    """Bytes that the compressor would still write, which it does not."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.write(writer, str(_finished(compressor, text)).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        said = answer.read()
    _, status = os.waitpid(child, 0)
    if status or not said:
        raise RuntimeError("a copy of the compressor has died, probably for want of memory")
    return int(said)


def _serve() -> None:
    request = json.loads(sys.stdin.buffer.readline())
    before = sys.stdin.buffer.read(request["before"])
    compressor = _compressor(request["format"], request["level"], len(before) + _ROOM)
    # liblzma puts off all work on what fits its buffer until more comes: without the second call, to every copy.
    written = len(compressor.compress(before[:-1])) + len(compressor.compress(before[-1:]))
    texts = [sys.stdin.buffer.read(length) for length in request["lengths"]]
    print(json.dumps([written + _length_in_a_copy(compressor, text) for text in texts]))


if __name__ == "__main__":
    _serve()
