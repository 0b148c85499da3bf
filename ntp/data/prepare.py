"""From a corpus to token stores, once: everything that shaped the result is the key under which it is kept."""

import hashlib
import importlib.metadata
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ntp.config.errors import ConfigError
from ntp.data.cache import cached, entry_path
from ntp.data.corpora.base import Corpus
from ntp.data.split import Texts, Validation, divide
from ntp.data.store import FORMAT, DamagedStore, TokenStore, write_store
from ntp.data.tokenizers.documents import Progress
from ntp.data.tokenizers.recipe import Recipe
from ntp.data.tokenizers.tokenizer import Tokenizer

CODE_VERSION = 1
"""Changes whenever the same corpus and recipe would be divided, cleaned or tokenised in another way."""

Part = Literal["train", "validation", "all"]


@dataclass(frozen=True)
class Prepared:
    """A corpus ready to be trained on.

    Attributes:
        tokenizer: made from the training documents alone, or loaded.
        train: what is learned from.
        validation: what is held out.
        notes: what a user should know: one line each.
        digest: of everything that shaped it; equal digests mean equal data.
    """

    tokenizer: Tokenizer
    train: TokenStore
    validation: TokenStore
    notes: tuple[str, ...]
    digest: str


def prepare(
    corpus: Corpus,
    recipe: Recipe,
    *,
    validation: Validation = "auto",
    validation_fraction: float = 0.05,
    cache_dir: Path | str,
) -> Prepared:
    """Divide a corpus, make the tokenizer and tokenise both parts; or take all of it from the cache.

    Several processes may ask at once: one works, the others wait for it.

    Args:
        corpus: the documents.
        recipe: of the tokenizer.
        validation: how the held-out part is chosen; see `ntp.data.split.divide`.
        validation_fraction: how much is held out where the corpus has no validation split of its own.
        cache_dir: where prepared data is kept.

    Raises:
        ConfigError: the corpus, the split or the tokenizer cannot be had as asked for, or the disk is full.
    """
    shape = {
        "corpus": corpus.digest(),
        "validation": _split_identity(corpus, validation, validation_fraction),
        "tokenizer": recipe.identity(),
    }
    digest = _digest(shape)

    def build(folder: Path) -> None:
        division = divide(corpus, validation, validation_fraction)
        with Progress("reading for the tokenizer", division.train.characters) as progress:
            tokenizer = recipe.train(progress.over(division.train))
        tokenizer.save(folder / "tokenizer")
        notes = list(division.notes)
        wanted = getattr(recipe, "vocabulary_size", tokenizer.vocabulary_size)
        if tokenizer.vocabulary_size < wanted:
            notes.append(f"the text is enough for a vocabulary of {tokenizer.vocabulary_size} tokens, not of {wanted}")
        description = _description(corpus, shape)
        _write(folder / "train", division.train, tokenizer, {**description, "split": "train"})
        held_out = {**description, "split": "validation", "method": division.method}
        store = _write(folder / "validation", division.validation, tokenizer, held_out)
        if unknown := store.manifest["unknown_tokens"]:
            notes.append(f"{unknown} tokens of the validation text are unknown to the tokenizer")
        (folder / "prepared.json").write_text(json.dumps({"notes": notes}), encoding="utf-8")

    def load(folder: Path) -> Prepared:
        notes = json.loads((folder / "prepared.json").read_text(encoding="utf-8"))["notes"]
        tokenizer = Tokenizer.load(folder / "tokenizer")
        train, held_out = TokenStore.open(folder / "train"), TokenStore.open(folder / "validation")
        if tokenizer.digest() != train.manifest["tokenizer_digest"]:
            raise DamagedStore("its tokenizer has changed")
        return Prepared(tokenizer, train, held_out, tuple(notes), digest)

    prepared, damage = cached(Path(cache_dir).expanduser() / "prepared", digest, build, load)
    if damage is None:
        return prepared
    return Prepared(prepared.tokenizer, prepared.train, prepared.validation, (*prepared.notes, damage), digest)


def prepared_training_text(cache_dir: Path | str, digest: str | None) -> TokenStore | None:
    """What a run learned from, if it is still in the cache; nothing is made.

    Args:
        cache_dir: where prepared data is kept.
        digest: of `Prepared`; None for a run that does not know it.
    """
    if digest is None:
        return None
    try:
        return TokenStore.open(entry_path(Path(cache_dir).expanduser() / "prepared", digest) / "train")
    except DamagedStore:
        return None


def prepare_text(
    corpus: Corpus,
    tokenizer: Tokenizer,
    *,
    split: Part = "all",
    validation: Validation = "auto",
    validation_fraction: float = 0.05,
    cache_dir: Path | str,
) -> TokenStore:
    """Tokenise a corpus, or one part of it, with a tokenizer that exists; or take it from the cache.

    Args:
        corpus: the documents.
        tokenizer: any.
        split: which part; ``all`` for the whole, the corpus's own validation split last.
        validation, validation_fraction: how the parts are told apart, as in `prepare`.
        cache_dir: where prepared data is kept.

    Raises:
        ConfigError: the corpus or its split cannot be had as asked for, or the disk is full.
    """
    shape = {
        "corpus": corpus.digest(),
        "validation": None if split == "all" else _split_identity(corpus, validation, validation_fraction),
        "split": split,
        "tokenizer": tokenizer.digest(),
    }

    def build(folder: Path) -> None:
        if split == "all":
            texts = Texts(lambda: _everything(corpus))
            if next(iter(texts), None) is None:
                raise ConfigError(corpus.config_key, "there is no text in it")
        else:
            division = divide(corpus, validation, validation_fraction)
            texts = division.train if split == "train" else division.validation
        _write(folder / split, texts, tokenizer, {**_description(corpus, shape), "split": split})

    def load(folder: Path) -> TokenStore:
        return TokenStore.open(folder / split)

    return cached(Path(cache_dir).expanduser() / "texts", _digest(shape), build, load)[0]


def _everything(corpus: Corpus) -> Iterator[str]:
    yield from corpus.documents("train")
    if corpus.own_validation:
        yield from corpus.documents("validation")


def _split_identity(corpus: Corpus, validation: Validation, fraction: float) -> list[Any]:
    return ["own"] if validation == "auto" and corpus.own_validation else [validation, fraction]


def _digest(shape: dict[str, Any]) -> str:
    library = importlib.metadata.version("tokenizers")  # another version may cut words in another way
    key = json.dumps([FORMAT, CODE_VERSION, library, shape], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(key.encode()).hexdigest()


def _description(corpus: Corpus, shape: dict[str, Any]) -> dict[str, Any]:
    return {"code_version": CODE_VERSION, "corpus": corpus.description(), "made_from": shape}


def _write(folder: Path, texts: Texts, tokenizer: Tokenizer, description: dict[str, Any]) -> TokenStore:
    with Progress(f"tokenising for {description['split']}", texts.characters) as progress:
        return write_store(folder, progress.over(texts), tokenizer, description)
