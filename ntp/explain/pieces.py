"""Tokens as a person can read them: whitespace visible, special tokens by a short name."""

import re
from dataclasses import dataclass
from typing import Literal

from ntp.data.special_tokens import END_OF_TEXT, FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX, MASK, MODES, PADDING
from ntp.data.tokenizers import Tokenizer
from ntp.data.tokenizers.byte_counts import byte_alphabet

Kind = Literal["text", "mask", "sentinel", "marker", "end", "padding"]
"""What a token is to the model: text, a hidden token, the sign of a removed span, a sign of the row's layout or mode,
the end of a document, or nothing."""

_NAMES: dict[str, tuple[str, Kind]] = {
    END_OF_TEXT: ("end", "end"),
    PADDING: ("padding", "padding"),
    MASK: ("mask", "mask"),
    FIM_PREFIX: ("pre", "marker"),
    FIM_SUFFIX: ("suf", "marker"),
    FIM_MIDDLE: ("mid", "marker"),
    **{mode: (mode.strip("<|>").removeprefix("mode_").upper(), "marker") for mode in MODES},
}

_VISIBLE = str.maketrans({" ": "·", "\n": "↵", "\t": "→", "\r": "␍", "▁": "·"})


@dataclass(frozen=True)
class Piece:
    """A token as it is shown.

    Attributes:
        text: for a text token its text, whitespace visible; for a special one its short name.
        kind: what it is to the model.
        token: the tokenizer's own name of it.
    """

    text: str
    kind: Kind
    token: str

    @property
    def is_special(self) -> bool:
        """Whether it stands for no text."""
        return self.kind != "text"

    @property
    def plain(self) -> str:
        """The text, with brackets around the name of a special token."""
        return f"⟨{self.text}⟩" if self.is_special else self.text


class Pieces:
    """Makes pieces of the ids of one tokenizer.

    Args:
        tokenizer: any.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        own_names = {name: index for name in _NAMES if (index := tokenizer.token_to_id(name)) is not None}
        self._special = {index: _NAMES[name] for name, index in own_names.items()}
        self._known: dict[int, Piece] = {}

    def __getitem__(self, index: int) -> Piece:
        if index not in self._known:
            self._known[index] = self._make(int(index))
        return self._known[index]

    def _make(self, index: int) -> Piece:
        token = self.tokenizer.id_to_token(index)
        if token is None:  # a hole in the vocabulary
            return Piece(str(index), "marker", str(index))
        if index in self._special:
            return Piece(*self._special[index], token)
        if index in self.tokenizer.special_ids and index != self.tokenizer.unknown:
            return Piece(*_name(token), token)
        # What another tokenizer writes, such as ## or ▁, tells more than what it decodes to.
        text = byte_level_text(token) if self.tokenizer.lossless else token
        return Piece(visible(text), "text", token)


def _name(token: str) -> tuple[str, Kind]:
    name = token.strip("<|>[]") or token
    if numbered := re.fullmatch(r"(?:sentinel|extra_id)_(\d+)", name):
        return f"S{numbered[1]}", "sentinel"
    return name, "marker"


def byte_level_text(token: str) -> str:
    """The text of a token of a byte-level vocabulary; bytes that are not UTF-8 by themselves as ``\\xe2``."""
    alphabet = byte_alphabet()
    if not alphabet.keys() >= set(token):
        return token
    return bytes(alphabet[one] for one in token).decode("utf-8", errors="backslashreplace")


def visible(text: str) -> str:
    """The text with a sign for every character that would not be seen, or would break a line."""
    return "".join(one if one.isprintable() else _escaped(one) for one in text.translate(_VISIBLE))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
