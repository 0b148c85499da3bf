"""An exam: frozen questions about held-out documents, the same for every run, whatever its tokenizer or objective.

A question names its document by the hash of its text and places by bytes of its UTF-8, so that it means the same to
every tokenizer. An exam is made once, a pure function of a text and a recipe, and is kept beside the prepared data:

| file | content |
|---|---|
| ``exam.json`` | name, recipe, where the text comes from, digest of the content |
| ``documents.jsonl`` | one line a document: ``sha256`` and ``text`` |
| ``items.jsonl`` | one line a question; what it holds is up to the recipe |
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ntp.config.errors import ConfigError
from ntp.config.schema import DataConfig
from ntp.data.cache import cached
from ntp.data.corpora import Corpus
from ntp.data.split import divide, text_digest
from ntp.data.store import DamagedStore
from ntp.evaluation.examinee import Examinee
from ntp.evaluation.exams.result import Result

FORMAT = 1
"""Changes whenever the same text and recipe would give other questions."""


@dataclass(frozen=True)
class Document:
    """A held-out document.

    Attributes:
        sha256: of its UTF-8, in hexadecimal.
        content: its UTF-8.
    """

    sha256: str
    content: bytes

    @classmethod
    def of(cls, text: str) -> Document:
        """The document of a text."""
        return cls(text_digest(text).hex(), text.encode("utf-8", "surrogatepass"))


@dataclass(frozen=True)
class Exam:
    """Questions, and the documents that they are about.

    Attributes:
        name: by which tables call it.
        documents: by their hash.
        items: the questions, each a JSON object with the ``document`` it is about.
        source: where the text comes from, for people.
    """

    name: str
    documents: Mapping[str, Document]
    items: Sequence[Mapping[str, Any]]
    source: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that is asked, documents included by their hashes; not of the name or the source."""
        content = json.dumps([FORMAT, sorted(self.documents), list(self.items)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def text(self, document: str, begin: int, end: int) -> str:
        """Bytes ``begin`` to ``end`` of a document, which begin and end between two characters."""
        return self.documents[document].content[begin:end].decode("utf-8", "surrogatepass")

    def save(self, directory: Path) -> None:
        """Write the three files into a directory that exists."""
        about = {"format": FORMAT, "name": self.name, "digest": self.digest, "source": dict(self.source)}
        (directory / "exam.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        lines = ({"sha256": one.sha256, "text": self.text(one.sha256, 0, len(one.content))} for one in self._used())
        _write_lines(directory / "documents.jsonl", lines)
        _write_lines(directory / "items.jsonl", self.items)

    def _used(self) -> Iterator[Document]:
        return (self.documents[name] for name in sorted(self.documents))

    @classmethod
    def load(cls, directory: Path) -> Exam:
        """Read what `save` wrote.

        Raises:
            DamagedStore: it is not what was written.
        """
        try:
            about = json.loads((directory / "exam.json").read_text(encoding="utf-8"))
            found = {line["sha256"]: Document.of(line["text"]) for line in _read_lines(directory / "documents.jsonl")}
            exam = cls(
                about["name"],
                found,
                list(_read_lines(directory / "items.jsonl")),
                about["source"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DamagedStore(f"{type(error).__name__}: {error}") from error
        if about.get("format") != FORMAT:
            raise DamagedStore("it is of another version")
        if exam.digest != about.get("digest") or any(name != one.sha256 for name, one in found.items()):
            raise DamagedStore("its questions or documents have changed")
        return exam


class ExamRecipe(ABC):
    """Makes an exam of a text, and grades whoever takes it. Subclass it to bring another exam.

    Args:
        documents: how many held-out documents it asks about; those that come first by hash, so that a smaller exam
            asks about some of the documents of a larger one. None for all.
    """

    grading: ClassVar[int] = 1
    """Raise it when grading changes numbers: results that were kept under another one are not taken for its own."""

    def __init__(self, documents: int | None = 64) -> None:
        self.documents = documents

    @abstractmethod
    def items(self, document: Document, rng: np.random.Generator) -> Iterable[Mapping[str, Any]]:
        """Questions about a document.

        Args:
            document: any, also one about which there is nothing to ask.
            rng: of this document.

        Yields:
            JSON objects with at least the ``document``.
        """

    @abstractmethod
    def grade(self, exam: Exam, examinee: Examinee) -> Result:
        """Let somebody take the exam.

        Args:
            exam: made by an equal recipe; with at least one question.
            examinee: a run or a baseline.

        Returns:
            What it did, or why it can't.
        """

    def identity(self) -> Mapping[str, Any]:
        """Everything that decides the questions, as JSON; arguments that only matter to grading are left out."""
        return {"recipe": f"{type(self).__module__}.{type(self).__qualname__}", **self.arguments()}

    @abstractmethod
    def arguments(self) -> Mapping[str, Any]:
        """The arguments that decide the questions."""

    def make(self, name: str, texts: Iterable[str], source: Mapping[str, Any] | None = None) -> Exam:
        """The exam of some documents: a pure function of them and of `identity`.

        Args:
            name: of the exam.
            texts: the documents, in any order; equal ones count once.
            source: where they come from, for people.

        Raises:
            ConfigError: there is nothing to ask.
        """
        found = {one.sha256: one for one in map(Document.of, texts) if one.content}
        chosen = sorted(found)[: self.documents]
        items: list[Mapping[str, Any]] = []
        for sha256 in chosen:
            seed = np.random.SeedSequence([int(sha256[:16], 16), int(sha256[16:32], 16)])
            items += self.items(found[sha256], np.random.Generator(np.random.Philox(seed)))
        if not items:
            held = f"{len(found)} held-out document{'s' * (len(found) != 1)}"
            raise ConfigError(f"evaluation.exams.{name}", f"there is nothing to ask about {held}: {self.wanted()}")
        asked = {item["document"] for item in items}
        return Exam(name, {sha256: found[sha256] for sha256 in chosen if sha256 in asked}, items, source or {})

    def meet(self, corpus: Corpus) -> None:  # noqa: B027 - most recipes need no more than texts
        """Learn what a corpus knows of its documents beyond their text; called before `make`, where there is one."""

    def wanted(self) -> str:
        """What a document must have to be asked about."""
        return "they are too short"


def prepare_exam(name: str, recipe: ExamRecipe, corpus: Corpus, data: DataConfig) -> Exam:
    """The exam of the held-out documents of a corpus; from the cache where it has been made before.

    Args:
        name: of the exam.
        recipe: of the exam.
        corpus: of the run's ``data``.
        data: how documents are held out, and where the cache is.

    Raises:
        ConfigError: there is nothing to ask, or the cache can't be written.
    """
    own = data.validation == "auto" and corpus.own_validation
    shape = {
        "format": FORMAT,
        "name": name,
        "recipe": recipe.identity(),
        "corpus": corpus.digest(),
        "validation": "own" if own else [data.validation, data.validation_fraction],
    }
    key = hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()

    def build(folder: Path) -> None:
        held_out = _HeldOut(corpus, data)
        recipe.meet(corpus)
        exam = recipe.make(name, held_out, {"corpus": corpus.description(), "recipe": recipe.identity()})
        if held_out.method is not None:
            exam = replace(exam, source={**exam.source, "held_out": held_out.method})
        exam.save(folder)

    return cached(Path(data.cache_dir).expanduser() / "exams", key, build, Exam.load)[0]


class _HeldOut:
    """The held-out texts of a corpus. Nothing of it is read before they are asked for: files of questions never do."""

    def __init__(self, corpus: Corpus, data: DataConfig) -> None:
        self._corpus, self._data = corpus, data
        self.method: str | None = None

    def __iter__(self) -> Iterator[str]:
        division = divide(self._corpus, self._data.validation, self._data.validation_fraction)
        self.method = division.method
        return iter(division.validation)


def _write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="ascii") as file:
        for line in lines:
            file.write(json.dumps(line, sort_keys=True) + "\n")


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="ascii") as file:
        for line in file:
            yield json.loads(line)
