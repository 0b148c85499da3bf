"""A tokenizer that somebody has trained."""

import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ntp.config.errors import ConfigError
from ntp.config.types import Count
from ntp.data.special_tokens import END_OF_TEXT, MASK, PADDING
from ntp.data.tokenizers.recipe import Recipe
from ntp.data.tokenizers.tokenizer import Tokenizer, special_names

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend


class Pretrained(Recipe):
    """A ``tokenizer.json``, with ntp's special tokens added behind its vocabulary where it lacks them.

    What it calls its end of text, padding and mask is read from the ``tokenizer_config.json`` beside it.

    Args:
        path: file, directory (of a tokenizer, or of an ntp run) or name on the Hugging Face hub.
        revision: commit, tag or branch on the hub; None for ``main``.
        end_of_text: its token that ends a document; None for what its configuration says, else ``<|endoftext|>``.
        padding: its padding token; None likewise.
        mask: its mask token; None likewise.
        add_special_tokens: add those of ntp's special tokens that it lacks.
        sentinels: how many sentinel tokens are added.
        extra_special_tokens: special tokens added after ntp's own.

    Raises:
        ConfigError: when it loads: there is no such tokenizer, or it lacks a token that is named here.
    """

    def __init__(
        self,
        path: str,
        revision: str | None = None,
        end_of_text: str | None = None,
        padding: str | None = None,
        mask: str | None = None,
        add_special_tokens: bool = True,
        sentinels: Count = 128,
        extra_special_tokens: list[str] | None = None,
    ) -> None:
        super().__init__(sentinels, extra_special_tokens)
        self.path = path
        self.revision = revision
        self.named = {END_OF_TEXT: end_of_text, PADDING: padding, MASK: mask}
        self.add_special_tokens = add_special_tokens

    def train(self, texts: Iterable[str] = ()) -> Tokenizer:
        """Load the tokenizer; the texts are not read."""
        return self._tokenizer

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer:
        from tokenizers import AddedToken

        backend, settings = self._load()
        vocabulary = backend.get_vocab(with_added_tokens=True)
        names = {ours: theirs for ours, theirs in special_names(settings).items() if theirs in vocabulary}
        for ours, theirs in self.named.items():
            if theirs is not None and theirs not in vocabulary:
                key = {END_OF_TEXT: "end_of_text", PADDING: "padding", MASK: "mask"}[ours]
                raise ConfigError(f"data.tokenizer.{key}", f"'{self.path}' has no token '{theirs}'")
            if theirs is not None:
                names[ours] = theirs
        # What ends, fills or masks must never be read in a text, even if the file does not call it special.
        special = list(names.values())
        special += [one for one in self.special_tokens if one in vocabulary]
        if self.add_special_tokens:
            special += [one for one in self.special_tokens if one not in names and one not in vocabulary]
        backend.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in special])
        return Tokenizer(backend, names)

    def identity(self) -> dict[str, Any]:
        """The contents of the tokenizer: a path or a name may hold another one tomorrow."""
        return {"recipe": "pretrained", "digest": self.train().digest()}

    def _load(self) -> tuple["Backend", dict[str, Any]]:
        """The tokenizer and its configuration, empty where there is none."""
        path = Path(self.path).expanduser()
        candidates = [path, path / "tokenizer.json", path / "tokenizer" / "tokenizer.json"]
        file = next((one for one in candidates if one.is_file()), None)
        if file is not None:
            return _from_file(file)
        if path.exists() or self.path.startswith((".", "/", "~")) or self.path.count("/") > 1:
            what = "no tokenizer.json" if path.exists() else "nothing"
            raise ConfigError("data.tokenizer.path", f"there is {what} at '{self.path}' (looked from {Path.cwd()})")
        return self._from_hub()

    def _from_hub(self) -> tuple["Backend", dict[str, Any]]:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        try:
            file = Path(hf_hub_download(self.path, "tokenizer.json", revision=self.revision))
        except Exception as error:  # one class for each way that a network can fail
            said = " ".join(str(error).split())[:300]
            problem = f"'{self.path}' is no local tokenizer and cannot be had from the hub: {said}"
            raise ConfigError("data.tokenizer.path", problem) from error
        backend, _ = _from_file(file)
        try:
            settings = hf_hub_download(self.path, "tokenizer_config.json", revision=self.revision)
        except (EntryNotFoundError, OSError):
            return backend, {}
        return backend, json.loads(Path(settings).read_text(encoding="utf-8"))


def _from_file(file: Path) -> tuple["Backend", dict[str, Any]]:
    from tokenizers import Tokenizer as Backend

    config = file.with_name("tokenizer_config.json")
    try:
        settings = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
        return Backend.from_str(file.read_text(encoding="utf-8")), settings
    except Exception as error:  # the library raises nothing more specific
        said = " ".join(str(error).split())[:300]
        raise ConfigError("data.tokenizer.path", f"{file} is not a tokenizer: {said}") from error
