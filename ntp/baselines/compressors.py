"""Compressors: how many bits gzip, xz and zstd need for a text, given what stands before it.

The code length of a text behind another is C(before + text) - C(before), where C is the length of the compressed
stream (Cilibrasi & Vitanyi 2005, "Clustering by compression", section V). It obeys the chain rule, as a likelihood
does, and what every stream has, its header and its end, is in both terms and cancels. A document begins behind a byte
that no text in UTF-8 holds, and ends with it: that byte is the end-of-text token, and charged like one.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ntp.baselines.baseline import Baseline, Fit, TrainingText
from ntp.baselines.code_lengths import BEST, Format, code_lengths
from ntp.config.errors import ConfigError
from ntp.config.types import Count
from ntp.data.prepare import Prepared
from ntp.evaluation.examinee import Examinee, Scores, TextQuestion
from ntp.objectives.question import QuestionKind, Way

END_OF_TEXT = b"\xff"
_NATS_PER_BYTE = 8 * math.log(2)


class Compressor(Baseline):
    """A compressor, fresh or behind the training text.

    Args:
        format: ``gzip`` (deflate), ``xz`` (LZMA) or ``zstd``.
        level: of effort; null for the highest, 9 of gzip, 9 and `extreme` of xz, and 22 of zstd.
        training_bytes: of the end of the training text, which is compressed first. The format decides how far it looks
            back: 32 KiB (gzip), 64 MiB (xz), 128 MiB (zstd).
    """

    def __init__(self, format: Format, level: Count | None = None, training_bytes: Count = 0) -> None:
        self.format: Format = format
        self.level = BEST[format] if level is None else level
        if self.level > BEST[format]:
            raise ValueError(f"level {level} is higher than the highest of {format}, {BEST[format]}")
        self.training_bytes = training_bytes

    def identity(self) -> Mapping[str, Any]:
        """Also the library's version: a better one finds shorter streams."""
        return {**super().identity(), "library": _library(self.format)}

    def fit(self, text: TrainingText, folder: Path) -> Fit:
        """Keep the end of the training text."""
        if self.training_bytes and not hasattr(os, "fork"):
            raise ConfigError("baseline", "a compressor behind the training text needs a system whose processes fork")
        kept = tail(text.documents(), self.training_bytes) if self.training_bytes else b""
        np.save(folder / "text.npy", np.frombuffer(kept, np.uint8))
        behind = f", behind {len(kept):,} bytes of the training text" if kept else ""
        return Fit(len(kept), 0, f"{_library(self.format)}, level {self.level}{behind}")

    def open(self, folder: Path, prepared: Prepared) -> Examinee:
        """Read the text that comes first."""
        before = np.load(folder / "text.npy", allow_pickle=False).tobytes()
        return CodeLengths(self.format, self.level, before)


class CodeLengths(Examinee):
    """Answers with the code lengths of a compressor.

    Args:
        format: of the stream.
        level: of effort.
        before: text that stands before everything; may be empty.
    """

    def __init__(self, format: Format, level: int, before: bytes) -> None:
        self._format: Format = format
        self._level, self._before = level, before

    def way(self, kind: QuestionKind) -> Way | None:
        """Exact, given the left side; in no other order."""
        return None if kind == "any_order" else Way("exact")

    def score(self, questions: Sequence[TextQuestion]) -> Scores:
        """In whole bytes. Tokens are the bytes that are asked for."""
        pairs = [_context_and_whole(one) for one in questions]
        texts = sorted({text for pair in pairs for text in pair})
        lengths = dict(zip(texts, code_lengths(self._format, self._level, self._before, texts), strict=True))
        count = len(questions)
        return Scores(
            np.array([(lengths[whole] - lengths[context]) * _NATS_PER_BYTE for context, whole in pairs]),
            np.zeros(count),
            np.array([len(whole) - len(context) for context, whole in pairs], dtype=np.int64),
            np.zeros(count, dtype=bool),
        )


def tail(documents: Iterable[str], size: int) -> bytes:
    """So many bytes of the end of a text, at most, each document with its end."""
    kept = bytearray()
    for one in documents:
        kept += one.encode("utf-8", "surrogatepass") + END_OF_TEXT
        if len(kept) > 2 * size:
            del kept[:-size]
    return bytes(kept[-size:])


def _context_and_whole(question: TextQuestion) -> tuple[bytes, bytes]:
    before = question.before.encode("utf-8", "surrogatepass")
    if question.starts or not before:
        before = END_OF_TEXT + before
    target = question.target.encode("utf-8", "surrogatepass")
    ends = question.ends and question.kind not in ("infill", "cloze")
    return before, before + target + END_OF_TEXT * ends


def _library(format: Format) -> str:
    if format == "gzip":
        import zlib

        return f"zlib {zlib.ZLIB_RUNTIME_VERSION}"
    if format == "xz":
        import platform

        # Python does not say which liblzma it has loaded; its stream format and encoder have long been stable.
        return f"liblzma of Python {platform.python_version()}"
    return f"zstandard {importlib.metadata.version('zstandard')}"
