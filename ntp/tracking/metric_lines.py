"""The lines of ``metrics.jsonl``: read whatever a killed process has left, and cut where a run goes on."""

import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"


def read_metrics_file(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file that may be growing, without a last one that is half-written; none where there is no file.

    Raises:
        ValueError: a line before the last can't be read.
    """
    if not path.exists():
        return
    with open(path, "rb") as file:
        damaged = 0
        for number, text in enumerate(file, start=1):
            if damaged:
                raise ValueError(f"line {damaged} of {path} can't be read")
            line = _parsed(text)
            if line is None:
                damaged = number
            else:
                yield line


def keep_until(path: Path, step: int) -> int:
    """Drop the lines behind an optimizer step, and whatever can't be read; atomically.

    Args:
        path: of the file; where there is none, none is made.
        step: the last one whose lines stay.

    Returns:
        How many lines stay.
    """
    return _keep(path, lambda number, line: line.get("step") is None or line["step"] <= step)


def keep_lines(path: Path, count: int) -> int:
    """Drop the lines behind the first ``count``, and whatever can't be read; atomically.

    Returns:
        How many lines stay.
    """
    return _keep(path, lambda number, line: number < count)


def _keep(path: Path, stays: Callable[[int, dict[str, Any]], bool]) -> int:
    if not path.exists():
        return 0
    before = path.read_bytes()
    kept = []
    for number, text in enumerate(io.BytesIO(before)):
        line = _parsed(text)
        if line is not None and stays(number, line):
            kept.append(text.rstrip(b"\n") + b"\n")
    after = b"".join(kept)
    if after != before:
        temporary = path.with_name(f".{path.name}.tmp")
        with open(temporary, "wb") as file:
            file.write(after)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    return len(kept)


def _parsed(text: bytes) -> dict[str, Any] | None:
    """None for what is no line: an object that ends before its brace can't be read, at whatever byte it ends."""
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None
