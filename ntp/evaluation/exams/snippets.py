"""Parts of Python programs that mean something by themselves: programs of a few statements, and whole lines."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from ntp.evaluation.exams.python_tokens import Lines, parse, tokens_of


@dataclass(frozen=True)
class Snippet:
    """Whole statements of a document, with the indentation taken away that all of them have.

    Attributes:
        begin, end: the lines in the document, in bytes.
        indentation: bytes that are taken away at the beginning of each line.
        text: what is left: a program of its own.
    """

    begin: int
    end: int
    indentation: int
    text: str


def pieces(text: str, size: int) -> list[tuple[int, int]]:
    """Stretches of whole logical lines, one behind the other, each of at most ``size`` bytes.

    A logical line is a statement or the head of one, and nothing is open where it begins: no bracket, no string. One
    that is longer than ``size`` is in no stretch, and a stretch never reaches across it.
    """
    ends = [one.end for one in tokens_of(text) or () if one.kind == "newline"]
    found: list[tuple[int, int]] = []
    begin = last = 0
    for end in ends:
        if end - begin > size and last > begin:
            found.append((begin, last))
            begin = last
        if end - begin > size:
            begin = end
        last = end
    return [*found, (begin, last)] if last > begin else found


def snippets(text: str, tree: ast.Module, size: int) -> Iterator[Snippet]:
    """Programs of at most ``size`` bytes: each statement that has lines of its own, with as many before it as fit.

    Args:
        text: of a document.
        tree: its syntax tree.
        size: most bytes, the indentation taken away.
    """
    lines = Lines(text)
    for body in _bodies(tree):
        spans = [_span(one, lines) for one in body]
        for index, own in enumerate(spans):
            if own is None or (snippet := _snippet(text, lines, own[0], own[1], size)) is None:
                continue
            for before in reversed(spans[:index]):
                if before is None or (longer := _snippet(text, lines, before[0], own[1], size)) is None:
                    break
                snippet = longer
            if parse(snippet.text) is not None:
                yield snippet


def _bodies(tree: ast.AST) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if isinstance(body, list) and body:
                yield body


def _span(statement: ast.stmt, lines: Lines) -> tuple[int, int] | None:
    """First and last line, counted from 1; None where it shares one of them."""
    decorators = getattr(statement, "decorator_list", [])
    first = min([statement.lineno, *(one.lineno for one in decorators)])
    last = statement.end_lineno or statement.lineno
    before = lines.lines[first - 1].encode("utf-8", "surrogatepass")[: statement.col_offset]
    behind = lines.lines[last - 1].encode("utf-8", "surrogatepass")[statement.end_col_offset or 0 :].strip()
    if (not decorators and before.strip()) or (behind and not behind.startswith(b"#")):
        return None
    return first, last


def _snippet(text: str, lines: Lines, first: int, last: int, size: int) -> Snippet | None:
    """Lines ``first`` to ``last``; None where they are too long, or not indented alike."""
    if lines.begins[last] - lines.begins[first - 1] > 4 * size:
        return None
    own = lines.lines[first - 1 : last]
    indentation = len(own[0]) - len(own[0].lstrip(" \t"))
    margin = own[0][:indentation]
    if any(line.strip() and not line.startswith(margin) for line in own):
        return None
    stripped = "".join(line[indentation:] if line.strip() else "\n" for line in own)
    if len(stripped.encode("utf-8", "surrogatepass")) > size:
        return None
    return Snippet(lines.begins[first - 1], lines.begins[last], indentation, stripped)
