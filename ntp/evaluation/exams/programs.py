"""A small program with all that is known of it, and changes to its text."""

from __future__ import annotations

import ast
from collections.abc import Set
from dataclasses import dataclass

from ntp.evaluation.exams.names import Name, names_of
from ntp.evaluation.exams.python_tokens import Token, parse, tokens_of

Edit = tuple[int, int, str]
"""Bytes of a text that are replaced, and by what."""


@dataclass(frozen=True)
class Program:
    """A snippet that is a program.

    Attributes:
        text: of it.
        tree: its syntax tree.
        tokens: of the text.
        names: of the text.
        around: names that the document binds anywhere, which is more than the snippet does.
    """

    text: str
    tree: ast.Module
    tokens: list[Token]
    names: list[Name]
    around: Set[str]

    @classmethod
    def of(cls, text: str, around: Set[str]) -> Program | None:
        """None where the text is none."""
        tree, tokens = parse(text), tokens_of(text)
        return None if tree is None or not tokens else cls(text, tree, tokens, names_of(text, tree, tokens), around)


def edited(text: str, edit: Edit) -> str:
    """A text with an edit made; both of whose ends stand between two characters."""
    begin, end, replacement = edit
    raw = text.encode("utf-8", "surrogatepass")
    return (raw[:begin] + replacement.encode() + raw[end:]).decode("utf-8", "surrogatepass")
