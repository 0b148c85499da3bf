"""Where the syntax nodes and the words of a Python program are.

What stands inside of f-strings is left alone: the parsers of Python 3.11 and 3.12 see it in two ways, and an exam must
not depend on who makes it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ntp.evaluation.exams.python_tokens import Lines, parse, tokens_of

_OF_LEXICAL_PARTS = {"name": "name", "keyword": "keyword", "comment": "text", "string": "text"}


@dataclass(frozen=True, order=True)
class Part:
    """A stretch of a program.

    Attributes:
        begin, end: in bytes.
        kind: what it is.
    """

    begin: int
    end: int
    kind: str


@lru_cache(maxsize=1)  # of the document whose windows are being asked about
def syntax_parts(content: bytes) -> tuple[Part, ...]:
    """The ``statement``, ``expression``, ``arguments`` and ``body`` nodes of a program, in the order of the text.

    Single names and constants are no expressions here; they are words. Arguments are those of a call or a definition,
    from the first to the last. A body is what an indented block holds.

    Args:
        content: UTF-8.

    Returns:
        Empty where the text is no program.
    """
    tree = _parsed(content)
    if tree is None:
        return ()
    lines = Lines(content.decode("utf-8")).begins

    def begin(node: Any) -> int:
        return int(lines[node.lineno - 1] + node.col_offset)

    def end(node: Any) -> int:
        return int(lines[node.end_lineno - 1] + node.end_col_offset)

    parts = set()
    for node in _outside_f_strings(tree):
        if isinstance(node, ast.stmt):
            parts.add(Part(begin(node), end(node), "statement"))
        elif isinstance(node, ast.expr) and not isinstance(node, (ast.Name, ast.Constant)):
            parts.add(Part(begin(node), end(node), "expression"))
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and not isinstance(node, ast.Module):
            parts.add(Part(begin(body[0]), end(body[-1]), "body"))
        if arguments := _arguments(node):
            parts.add(Part(min(map(begin, arguments)), max(map(end, arguments)), "arguments"))
    return tuple(sorted(parts))


def _parsed(content: bytes) -> ast.Module | None:
    """None for what is no program, and for prose and data that happen to be expressions of Python."""
    text = content.decode("utf-8", "surrogatepass")
    tree = None if text.startswith("\ufeff") else parse(text)
    return tree if tree and any(not isinstance(one, ast.Expr) for one in tree.body) else None


def _outside_f_strings(tree: ast.AST) -> Iterator[ast.AST]:
    stack = [tree]
    while stack:
        node = stack.pop()
        yield node
        if type(node).__name__ not in ("JoinedStr", "TemplateStr"):
            stack += ast.iter_child_nodes(node)


def _arguments(node: ast.AST) -> list[ast.AST]:
    if isinstance(node, ast.Call):
        return [*node.args, *node.keywords]
    if isinstance(node, ast.arguments):
        rest = [node.vararg, node.kwarg, *node.defaults, *node.kw_defaults]
        return [*node.posonlyargs, *node.args, *node.kwonlyargs, *(one for one in rest if one is not None)]
    return []


@lru_cache(maxsize=1)
def lexical_parts(content: bytes) -> tuple[Part, ...]:
    """The ``name`` and ``keyword`` tokens of a program and its ``text``: comments and the insides of strings.

    Args:
        content: UTF-8.

    Returns:
        In the order of the text; empty where it is no program.
    """
    if _parsed(content) is None:
        return ()
    raw = content.decode("utf-8")
    return tuple(
        Part(one.begin + _prefix(one.text), one.end, _OF_LEXICAL_PARTS[one.kind])
        for one in tokens_of(raw) or ()
        if one.kind in _OF_LEXICAL_PARTS
    )


def _prefix(token: str) -> int:
    """Letters in front of the quotes of a string."""
    return len(token) - len(token.lstrip("rRbBuUfFtT")) if token[-1] in "\"'" else 0
