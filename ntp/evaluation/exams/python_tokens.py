"""Python source as tokens, at bytes of its UTF-8. Nothing here runs what it reads."""

from __future__ import annotations

import ast
import io
import keyword
import platform
import tokenize
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

Kind = Literal[
    "keyword", "name", "number", "string", "comment", "operator", "bracket", "newline", "blank", "indent", "dedent"
]
"""What a token is. ``newline`` ends a statement, ``blank`` only a line."""

_KINDS: dict[int, Kind] = {
    tokenize.NUMBER: "number",
    tokenize.STRING: "string",
    tokenize.COMMENT: "comment",
    tokenize.OP: "operator",
    tokenize.NEWLINE: "newline",
    tokenize.NL: "blank",
    tokenize.INDENT: "indent",
    tokenize.DEDENT: "dedent",
}
PYTHON = ".".join(platform.python_version_tuple()[:2])
"""Whose grammar it is: others parse other programs."""

OPENING, CLOSING = "([{", ")]}"
FAILURES = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)
"""What parser and compiler raise where a text is no program."""


@dataclass(frozen=True)
class Token:
    """A token of Python, as the standard library's ``tokenize`` tells them apart.

    Attributes:
        kind: what it is.
        text: as it is written.
        begin, end: where, in bytes.
        indentation: blocks that its statement is in.
        brackets: brackets that are open around it; a bracket is around itself.
    """

    kind: Kind
    text: str
    begin: int
    end: int
    indentation: int
    brackets: int


class Lines:
    """Where the lines of a text begin, in bytes.

    Args:
        text: with ``\\n`` for the end of a line.
    """

    def __init__(self, text: str) -> None:
        self.lines = _split(text)
        self.begins = [0, *accumulate(len(line.encode("utf-8", "surrogatepass")) for line in self.lines)]

    def place(self, line: int, column: int) -> int:
        """Byte of a line, counted from 1, and of a column in characters, counted from 0."""
        if line > len(self.lines):
            return self.begins[-1]
        text = self.lines[line - 1]
        ahead = column if text.isascii() else len(text[:column].encode("utf-8", "surrogatepass"))
        return min(self.begins[line - 1] + ahead, self.begins[-1])


def _split(text: str) -> list[str]:
    # str.splitlines breaks at form feeds and other signs, some of them ASCII, at which no line of a program ends.
    return [line + "\n" for line in text.split("\n")[:-1]] + [text.rsplit("\n", 1)[-1]]


def parse(text: str) -> ast.Module | None:
    """The syntax tree, or None where the text is no program of this Python, or has other ends of lines than ``\\n``."""
    if "\r" in text:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's code
            return ast.parse(text)
    except FAILURES:
        return None


def compiles(text: str) -> bool:
    """Whether `compile` takes it, which finds more than the parser: a ``return`` outside of a function, or an argument
    twice."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(text, "<text>", "exec", dont_inherit=True)
    except FAILURES:
        return False
    return True


def tokens_of(text: str) -> list[Token] | None:
    """All tokens that are of some text or change the indentation, or None where it can't be cut into tokens."""
    lines, raw = Lines(text), text.encode("utf-8", "surrogatepass")
    found: list[Token] = []
    indentation = brackets = 0
    try:
        for one in _whole_strings(tokenize.generate_tokens(io.StringIO(text).readline)):
            kind = _kind(one)
            if kind is None:
                continue
            indentation += (kind == "indent") - (kind == "dedent")
            brackets += kind == "bracket" and one.string in OPENING
            begin, end = lines.place(*one.start), lines.place(*one.end)
            found.append(
                Token(kind, raw[begin:end].decode("utf-8", "surrogatepass"), begin, end, indentation, brackets)
            )
            brackets -= kind == "bracket" and one.string in CLOSING
    except (tokenize.TokenError, SyntaxError, ValueError):
        return None
    return found


def _whole_strings(tokens: Iterable[tokenize.TokenInfo]) -> Iterator[tokenize.TokenInfo]:
    """Strings with code in them as one token each, as before Python 3.12: exams do not depend on who makes them."""
    opened: list[tokenize.TokenInfo] = []
    for one in tokens:
        name = tokenize.tok_name[one.type]
        if name.endswith("STRING_START"):
            opened.append(one)
        elif name.endswith("STRING_END"):
            first = opened.pop()
            if not opened:
                yield one._replace(type=tokenize.STRING, start=first.start)
        elif not opened:
            yield one


def _kind(one: tokenize.TokenInfo) -> Kind | None:
    if one.type == tokenize.NAME:
        return "keyword" if keyword.iskeyword(one.string) else "name"
    if one.type == tokenize.OP and one.string in OPENING + CLOSING:
        return "bracket"
    return _KINDS.get(one.type)
