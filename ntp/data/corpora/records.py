"""Documents out of one file, for each format that ntp reads."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from ntp.config.errors import ConfigError
from ntp.data.corpora.columns import choose_column, record_texts
from ntp.data.corpora.lines import Errors, read_lines, read_text, universal_newlines
from ntp.data.corpora.paths import Format

Document = Literal["file", "line", "paragraph"]


def read_documents(path: Path, kind: Format, column: str | None, document: Document, errors: Errors) -> Iterator[str]:
    """The documents of a file, in order.

    Args:
        path: the file.
        kind: how it is read.
        column: which field of a record holds the text; None to take ``text``, or the only field that holds text.
        document: what is one document of a plain text file; in the other formats a record is.
        errors: what to do about bytes that are not UTF-8.

    Raises:
        ConfigError: what is wrong, in which file, at which byte or line.
    """
    if kind == "text":
        return _text(path, document, errors)
    if kind == "jsonl":
        return _jsonl(path, column, errors)
    if kind == "parquet":
        return _parquet(path, column)
    return _csv(path, column, errors, "," if kind == "csv" else "\t")


def _text(path: Path, document: Document, errors: Errors) -> Iterator[str]:
    if document == "file":
        yield read_text(path, errors)
        return
    paragraph: list[str] = []
    for raw in read_lines(path, errors):
        for line in universal_newlines(raw).removesuffix("\n").split("\n"):
            if document == "line":
                yield line
            elif line and not line.isspace():
                paragraph.append(line)
            elif paragraph:
                yield "\n".join(paragraph)
                paragraph = []
    if paragraph:
        yield "\n".join(paragraph)


def _jsonl(path: Path, column: str | None, errors: Errors) -> Iterator[str]:
    # HF datasets' reader infers a type for each column and reads dates as dates; here a string stays the string.
    chosen = None
    for number, line in enumerate(read_lines(path, errors), start=1):
        if not line or line.isspace():
            continue
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ConfigError("data.path", f"{where} is not JSON: {error}") from None
        if not isinstance(record, dict):
            raise ConfigError("data.path", f"{where} is not a JSON object but {_kind(record)}")
        if chosen is None or chosen not in record:
            holds_text = {name: isinstance(value, str) for name, value in record.items()}
            chosen = choose_column(column or chosen, holds_text, where)
        yield _field(record[chosen], where, chosen, errors)


def _field(value: Any, where: str, column: str, errors: Errors) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ConfigError("data.text_column", f"{where}: '{column}' is not text but {_kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:  # an escape such as "\ud800", which no UTF-8 text can hold
        if errors == "strict":
            problem = f"{where}: '{column}' holds half of a surrogate pair; data.errors=replace reads it as U+FFFD"
            raise ConfigError("data.errors", problem) from None
        value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return universal_newlines(value)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _csv(path: Path, column: str | None, errors: Errors, delimiter: str) -> Iterator[str]:
    csv.field_size_limit(2**31 - 1)  # the default refuses documents above 128 kB
    rows = csv.reader(read_lines(path, errors), delimiter=delimiter, strict=True)
    try:
        header = next(rows, [])
        index = header.index(choose_column(column, dict.fromkeys(header, True), str(path)))
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                problem = f"{path}, line {rows.line_num}: {len(row)} fields where the header has {len(header)}"
                raise ConfigError("data.path", problem)
            yield universal_newlines(row[index])
    except csv.Error as error:
        raise ConfigError("data.path", f"{path}, line {rows.line_num} is not CSV: {error}") from None


def _parquet(path: Path, column: str | None) -> Iterator[str]:
    from datasets import load_dataset

    try:
        dataset = load_dataset("parquet", data_files=[str(path)], split="train", streaming=True)
        yield from record_texts(dataset, column, str(path))
    except ConfigError:
        raise
    except (ValueError, OSError) as error:  # pyarrow's errors are ValueErrors
        raise ConfigError("data.path", f"{path} is not a parquet file: {' '.join(str(error).split())}") from error
