"""What every baseline offers: it is fitted to the training text once, kept on disk, and takes exams."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntp.config.errors import ConfigError
from ntp.data.prepare import Prepared
from ntp.evaluation.examinee import Examinee


@dataclass(frozen=True)
class TrainingText:
    """What a run learns from, and so does a baseline.

    Attributes:
        prepared: tokenizer and token stores; only the training part is for fitting.
        documents: starts reading the training documents.
    """

    prepared: Prepared
    documents: Callable[[], Iterable[str]]


@dataclass(frozen=True)
class Fit:
    """What fitting has cost.

    Attributes:
        bytes: UTF-8 bytes of text that were read.
        parameters: numbers that the model keeps: probabilities of n-grams, weights; 0 for a compressor.
        description: one line, for people.
        notes: what a user should know: one line each.
    """

    bytes: int
    parameters: int
    description: str
    notes: tuple[str, ...] = ()


class Unsuitable(ConfigError):
    """A baseline is not for this text or this installation, and its configuration is not wrong: others do without."""


class Baseline(ABC):
    """A recipe of a baseline; its constructor takes what ``conf/baseline/<name>.yaml`` says. Subclass it to bring one.

    The public attributes of an instance are its arguments, in plain values.
    """

    version: int = 1
    """Changes whenever the same arguments and text would give other numbers."""

    def check(self, text: TrainingText) -> None:  # noqa: B027 - most can be fitted to any text
        """Refuse a text, or an installation, to which it can't be fitted, before anything is read or said.

        Raises:
            ConfigError: it can't be; `Unsuitable` where that is in the nature of things.
        """

    @abstractmethod
    def fit(self, text: TrainingText, folder: Path) -> Fit:
        """Learn from a text, and write what `open` needs.

        Args:
            text: of the run's ``data``.
            folder: that exists and is empty; no pickle is written.

        Raises:
            ConfigError: it can't be fitted to this text, which shows only now.
        """

    @abstractmethod
    def open(self, folder: Path, prepared: Prepared) -> Examinee:
        """Read what `fit` wrote.

        Args:
            folder: to which `fit` wrote.
            prepared: as `fit` had it.
        """

    def identity(self) -> Mapping[str, Any]:
        """Everything beside the text that decides the numbers, as JSON."""
        return {
            "recipe": f"{type(self).__module__}.{type(self).__qualname__}",
            "version": self.version,
            "arguments": vars(self),
        }
