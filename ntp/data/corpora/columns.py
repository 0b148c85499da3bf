"""Which column of a table holds the text."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ntp.config.errors import ConfigError
from ntp.config.nearest import suggestion

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset


def choose_column(given: str | None, columns: dict[str, bool], where: str) -> str:
    """The column with the text.

    Args:
        given: what the user says.
        columns: name of each column, and whether it holds text.
        where: for messages.

    Raises:
        ConfigError: there is no such column, or none or several could be meant; lists them.
    """
    texts = [name for name, is_text in columns.items() if is_text]
    listed = ", ".join(columns) or "none"
    if given is not None:
        if given in columns:
            return given
        near = suggestion(given, columns) if len(columns) > 1 else ""
        raise ConfigError("data.text_column", f"{where} has no column '{given}'{near}; its columns: {listed}")
    if "text" in columns:
        return "text"
    if len(texts) == 1:
        return texts[0]
    raise ConfigError("data.text_column", f"say which column of {where} holds the text; its columns: {listed}")


def record_texts(dataset: "Dataset | IterableDataset", column: str | None, where: str) -> Iterator[str]:
    """The text column of a dataset; a missing text is empty.

    Args:
        dataset: of the library ``datasets``, mapped into memory or streamed.
        column: its name; None to take ``text``, or the only column that holds text.
        where: what to call the dataset in messages.

    Raises:
        ConfigError: there is no such column, or it does not hold text.
    """
    types = dataset.features or dict.fromkeys(next(iter(dataset), {}))
    is_text = {name: getattr(kind, "dtype", "string") in ("string", "large_string") for name, kind in types.items()}
    chosen = choose_column(column, is_text, where)
    if not is_text[chosen]:
        raise ConfigError("data.text_column", f"'{chosen}' of {where} is not text but {types[chosen]}")
    for batch in dataset.select_columns([chosen]).iter(batch_size=1000):
        for text in batch[chosen]:
            yield text or ""
