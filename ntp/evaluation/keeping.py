"""Results go into the directory of whoever has taken the exam, or it is said in one line why they can't."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ntp.config.errors import ConfigError
from ntp.evaluation.exams.result import RESULTS, StoredResult


def make_room(directory: Path, key: str) -> None:
    """Make the folder of results, before there are any.

    Args:
        directory: of the run.
        key: of the config, for messages.

    Raises:
        ConfigError: the folder can't be written.
    """
    with _explained(directory / RESULTS, key):
        (directory / RESULTS).mkdir(parents=True, exist_ok=True)


def keep(stored: StoredResult, directory: Path, key: str) -> None:
    """Write a result.

    Args:
        stored: what came of an exam.
        directory: of the run, or of the baseline.
        key: of the config, for messages.

    Raises:
        ConfigError: the folder can't be written.
    """
    with _explained(directory / RESULTS, key):
        stored.write(directory)


@contextmanager
def _explained(folder: Path, key: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = "it is a file" if folder.exists() and not folder.is_dir() else error.strerror
        raise ConfigError(key, f"results of exams can't be written to {folder} ({why})") from error
