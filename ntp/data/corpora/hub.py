"""Datasets of the Hugging Face hub, or in a local directory laid out like one."""

import contextlib
import functools
import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ntp.config.errors import ConfigError
from ntp.config.nearest import suggestion
from ntp.config.types import PositiveInt
from ntp.data.corpora.base import Corpus, Split
from ntp.data.corpora.columns import record_texts

_VALIDATION_NAMES = ("validation", "valid", "val", "dev")


class Hub(Corpus):
    """What ``datasets.load_dataset`` loads; documents in the order of the dataset.

    Args:
        name: of the dataset on the hub, or a local directory.
        config: which configuration (subset); None for the only one.
        split: which split is trained on; slices such as ``train[:10%]`` work when not streaming.
        validation_split: which split is validated on; None for one called validation, valid, val or dev if there is.
        revision: commit, tag or branch.
        text_column: the column with the text; None to find it.
        streaming: read over the network while tokenising, and keep nothing but the tokens.
        max_documents: read no more than these of each split; None for all.
        deduplicate: leave out documents that have come before. Published figures count them.

    Raises:
        ConfigError: when it is read: there is no such dataset, configuration, split or column, or no network.
    """

    config_key = "data.name"

    def __init__(
        self,
        name: str,
        config: str | None = None,
        split: str = "train",
        validation_split: str | None = None,
        revision: str | None = None,
        text_column: str | None = None,
        streaming: bool = False,
        max_documents: PositiveInt | None = None,
        deduplicate: bool = False,
    ) -> None:
        self.local = Path(name).expanduser()
        self.name = str(self.local) if self.local.is_dir() else name
        self.config = config
        self.split = split
        self.validation_split = validation_split
        self.revision = revision
        self.text_column = text_column
        self.streaming = streaming
        self.max_documents = max_documents
        self.deduplicate = deduplicate
        if name.startswith((".", "/", "~")) and not self.local.is_dir():
            raise ConfigError("data.name", f"there is no directory '{name}' (looked from {Path.cwd()})")

    @property
    def own_validation(self) -> bool:
        """Whether the dataset has a validation split."""
        return self._validation_name is not None

    def read(self, split: Split) -> Iterator[str]:
        """The text column, in batches."""
        name = self.split if split == "train" else self._validation_name
        assert name is not None
        texts = record_texts(self._load(name), self.text_column, f"{self.name} ({name})")
        return itertools.islice(texts, self.max_documents)

    def digest(self) -> str:
        """Digest of the loaded datasets' fingerprints; of the files' identities when streaming."""
        options = [self.text_column, self.max_documents, self.deduplicate]
        names = [self.split, self._validation_name]
        identity = [getattr(self._load(name), "_fingerprint", None) for name in names if name]
        if None in identity:  # a stream has none
            identity = [self.name, self.config, self.revision, self._file_identities()]
        return hashlib.sha256(repr([options, names, identity]).encode()).hexdigest()

    def description(self) -> dict[str, Any]:
        """What was asked for and which split validates."""
        return {
            "corpus": "hub",
            "name": self.name,
            "config": self.config,
            "revision": self.revision,
            "split": self.split,
            "validation_split": self._validation_name,
            "text_column": self.text_column,
            "streaming": self.streaming,
            "max_documents": self.max_documents,
            "deduplicate": self.deduplicate,
        }

    @functools.cached_property
    def _splits(self) -> dict[str, Any]:
        """All splits by name."""
        from datasets import load_dataset, load_from_disk

        if any((self.local / marker).exists() for marker in ("dataset_dict.json", "state.json")):
            loaded = load_from_disk(self.name)  # a directory written by save_to_disk
        else:
            with _explained(self.name):
                loaded = load_dataset(self.name, self.config, revision=self.revision, streaming=self.streaming)
        return dict(loaded) if isinstance(loaded, dict) else {self.split: loaded}

    @functools.cached_property
    def _validation_name(self) -> str | None:
        if self.validation_split is not None:
            return self.validation_split
        return next((name for name in _VALIDATION_NAMES if name in self._splits and name != self.split), None)

    def _load(self, name: str) -> Any:
        if name in self._splits:
            return self._splits[name]
        key = "data.split" if name == self.split else "data.validation_split"
        if self.streaming or not set(name) & set("[+"):
            raise ConfigError(key, f"'{self.name}' has no split '{name}'{suggestion(name, self._splits)}")
        from datasets import load_dataset

        try:
            return load_dataset(self.name, self.config, revision=self.revision, split=name)
        except ValueError as error:
            raise ConfigError(key, _one_line(error)) from error

    def _file_identities(self) -> str:
        """Commit and path of each file on the hub; path and time of change of each local file."""
        from datasets import load_dataset_builder

        with _explained(self.name):
            files = load_dataset_builder(self.name, self.config, revision=self.revision).config.data_files or {}
        return repr(sorted((str(split), list(one), one.origin_metadata) for split, one in files.items()))


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what ``datasets`` raises into one line that names the key to change."""
    from datasets.exceptions import DatasetNotFoundError

    try:
        yield
    except DatasetNotFoundError as error:
        problem = f"there is no dataset '{name}', or it needs a login: {_one_line(error)}"
        raise ConfigError("data.name", problem) from error
    except ConnectionError as error:
        problem = f"'{name}' is not in the local cache and the hub cannot be reached: {_one_line(error)}"
        raise ConfigError("data.name", problem) from error
    except (ValueError, FileNotFoundError, RuntimeError) as error:
        said = _one_line(error)
        if "BuilderConfig" in said or "Config name is missing" in said:
            raise ConfigError("data.config", said) from error
        raise ConfigError("data.name", f"'{name}' cannot be loaded: {said}") from error


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:297]}..."
