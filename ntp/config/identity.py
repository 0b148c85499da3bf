"""Which configurations describe the same run."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

NOT_OF_THE_RUN = (
    "run_dir",
    "output_root",
    "tags",
    "resume",
    "sweep",
    "check",
    "print_config",
    "logger",
    "callbacks.checkpoint",
    "callbacks.exams",
    "data.cache_dir",
    "data.workers",
    "trainer.progress_bar",
    "trainer.profiler",
    "trainer.peak_teraflops",
    "trainer.time_limit_minutes",
    "trainer.auto_micro_batch",
    "trainer.collective_timeout_minutes",
)
"""Paths, logging, and how the work is watched and kept: no number of the run depends on them."""


def identity(config: dict[str, Any]) -> str:
    """A hash of everything in a resolved config that the run's numbers depend on.

    Two jobs with the same identity are the same job: a sweep that is run again does not train it twice.

    Args:
        config: resolved, as plain containers.

    Returns:
        16 hexadecimal digits.
    """
    text = json.dumps(without(config, NOT_OF_THE_RUN), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def without(config: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """A copy of a resolved config that lacks some keys, wherever it has them.

    Args:
        config: as plain containers.
        keys: with dots.
    """
    plain: dict[str, Any] = json.loads(json.dumps(config))
    for key in keys:
        *path, last = key.split(".")
        node = plain
        for name in path:
            inner = node.get(name)
            node = inner if isinstance(inner, dict) else {}
        node.pop(last, None)
    return plain
