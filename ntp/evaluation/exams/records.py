"""Questions that somebody has written: files of JSON lines, read with errors that say where."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ntp.config.errors import ConfigError
from ntp.data.corpora.lines import opened, read_lines
from ntp.data.corpora.paths import find_files


def read_records(path: str, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects of some files of JSON lines, in the order of their paths.

    Args:
        path: a file, a directory or a pattern; also compressed ones (``.gz``, ``.zst``).
        key: of the config, for messages.

    Yields:
        Where an object stands, for messages, and the object.

    Raises:
        ConfigError: there is no such file, or a line is no JSON object; names file and line.
    """
    for file in record_files(path, key):
        number = 0
        try:
            for number, line in enumerate(read_lines(file, "strict"), start=1):
                if line and not line.isspace():
                    yield (where := f"{file}, line {number}"), _record(line, where, key)
        except ConfigError as error:
            problem = error.problem.partition("; data.")[0]
            at = "" if f"{file}, line " in problem else f" (line {number + 1})"  # the one that could not be read
            raise ConfigError(key, problem + at) from error


def records_digest(path: str, key: str) -> str:
    """SHA-256 of all contents; where the files lie does not matter.

    Raises:
        ConfigError: they can't be read.
    """
    digest = hashlib.sha256()
    try:
        for file in record_files(path, key):
            with opened(file) as raw:
                digest.update(hashlib.sha256(raw.read()).digest())
    except ConfigError as error:
        raise ConfigError(key, error.problem) from error
    return digest.hexdigest()


def record_files(path: str, key: str) -> list[Path]:
    """The files that are meant.

    Raises:
        ConfigError: there is none.
    """
    try:
        return [file for file, _ in find_files([path], "jsonl")]
    except ConfigError as error:
        raise ConfigError(key, error.problem) from error


def text_field(record: Mapping[str, Any], name: str, where: str, key: str, *, blank: bool = False) -> str:
    """A field that must hold some text; or any, where it may be ``blank``.

    Raises:
        ConfigError: it holds something else; names file and line.
    """
    if name not in record:
        found = ", ".join(map(str, record)) or "none"
        raise ConfigError(key, f"{where} has no field '{name}'; its fields: {found}")
    text = record[name]
    if not isinstance(text, str) or not (blank or text.strip()):
        raise ConfigError(key, f"{where}: '{name}' is {'empty' if text == '' else 'no text'}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(key, f"{where}: '{name}' holds half of a surrogate pair") from None
    return text


def _record(line: str, where: str, key: str) -> Mapping[str, Any]:
    try:
        record = json.loads(line.strip())
    except json.JSONDecodeError as error:
        raise ConfigError(key, f"{where} is not JSON: {error.msg} (character {error.pos + 1})") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in thousands of brackets
        raise ConfigError(key, f"{where} can't be read as JSON: {error}") from None
    if not isinstance(record, dict):
        raise ConfigError(key, f"{where} is not a JSON object")
    return record
