"""Which part of a corpus is held out.

``hash`` puts a document aside by the hash of its text, so that adding documents moves no other across the line.
``tail`` puts the last part of the whole text aside, the published convention of tiny-shakespeare.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from ntp.config.errors import ConfigError
from ntp.data.corpora.base import Corpus, text_digest
from ntp.data.corpora.base import Split as CorpusSplit

Validation = Literal["auto", "hash", "tail"]
_KEPT_CHARACTERS = 64_000_000


class Texts:
    """Documents that are iterated several times: kept in memory while they are few, else read again each time.

    Args:
        read: starts reading.

    Attributes:
        characters: how many there are in all, once they have been read to the end; None before.
    """

    def __init__(self, read: Callable[[], Iterator[str]]) -> None:
        self._read = read
        self._kept: list[str] | None = None
        self.characters: int | None = None

    def __iter__(self) -> Iterator[str]:
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[str] = []
        characters = 0
        for text in self._read():
            characters += len(text)
            if characters <= _KEPT_CHARACTERS:
                kept.append(text)
            elif kept:
                kept = []
            yield text
        self.characters = characters
        if characters <= _KEPT_CHARACTERS:
            self._kept = kept


@dataclass(frozen=True)
class Division:
    """A corpus in two parts, neither of them empty.

    Attributes:
        train: documents to learn from.
        validation: documents held out.
        method: how they were told apart: ``own``, ``hash`` or ``tail``.
        notes: what a user should know.
    """

    train: Texts
    validation: Texts
    method: Literal["own", "hash", "tail"]
    notes: tuple[str, ...] = ()


def divide(corpus: Corpus, validation: Validation, fraction: float) -> Division:
    """Divide a corpus into training and validation documents.

    Args:
        corpus: the documents.
        validation: ``auto`` takes the corpus's own validation split if it has one, else ``hash``; a single document
            is divided by ``tail`` in either case.
        fraction: how much is held out: of the documents (``hash``) or of the characters (``tail``); above 0, below 1.

    Raises:
        ConfigError: there is no text, or one part would be empty.
    """
    if validation == "auto" and corpus.own_validation:
        train, held_out = _texts(corpus, "train"), _texts(corpus, "validation")
        for name, texts in (("training", train), ("validation", held_out)):
            if next(iter(texts), None) is None:
                raise ConfigError(corpus.config_key, f"the {name} split holds no text")
        return Division(train, held_out, "own")
    if not 0 < fraction < 1:
        raise ConfigError("data.validation_fraction", f"{fraction} is not between 0 and 1")
    texts = _texts(corpus, "train")
    documents = characters = 0
    lowest, highest = 1.0, 0.0
    for text in texts:
        documents += 1
        characters += len(text)
        place = hash_place(text)
        lowest, highest = min(lowest, place), max(highest, place)
    if not documents:
        raise ConfigError(corpus.config_key, "there is no text in it")
    if validation == "tail" or documents == 1:
        note: tuple[str, ...] = ()
        if validation != "tail":
            note = (f"there is one document only: its last {fraction:.4g} is held out (data.validation=tail)",)
        return _by_tail(texts, characters, fraction, note)
    if lowest == highest:
        raise ConfigError("data.validation", "all documents are equal, and equal documents hash alike: use tail")
    # Where the documents are few, chance could leave one side empty: then the line moves just past one of them.
    return _by_hash(texts, min(max(fraction, lowest), highest), inclusive=lowest >= fraction)


def hash_place(text: str) -> float:
    """Where a document's hash falls between 0 and 1: the first 64 bits of its SHA-256."""
    return int.from_bytes(text_digest(text)[:8], "big") / 2**64


def _texts(corpus: Corpus, split: CorpusSplit) -> Texts:
    return Texts(lambda: corpus.documents(split))


def _by_hash(texts: Texts, line: float, *, inclusive: bool) -> Division:
    def held_out(text: str) -> bool:
        place = hash_place(text)
        return place < line or (inclusive and place == line)

    train = Texts(lambda: (text for text in texts if not held_out(text)))
    validation = Texts(lambda: (text for text in texts if held_out(text)))
    return Division(train, validation, "hash")


def _by_tail(texts: Texts, characters: int, fraction: float, notes: tuple[str, ...]) -> Division:
    cut = int(characters * (1 - fraction))
    if not 0 < cut < characters:
        problem = f"{fraction} of {characters} characters leaves one part empty"
        raise ConfigError("data.validation_fraction", problem)

    def before() -> Iterator[str]:
        left = cut
        for text in texts:
            if left <= 0:
                return
            yield text[:left]
            left -= len(text)

    def behind() -> Iterator[str]:
        left = cut
        for text in texts:
            if len(text) > left:
                yield text[max(left, 0) :]
            left -= len(text)

    return Division(Texts(before), Texts(behind), "tail", notes)
