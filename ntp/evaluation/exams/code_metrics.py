"""Whether Python that a model has written is Python: as far as Python's own compiler can say without running it."""

from __future__ import annotations

import ast
import codeop
import warnings

from ntp.evaluation.exams.python_tokens import FAILURES

_SYNTAX_ONLY = ast.PyCF_ONLY_AST
_UNFINISHED = _SYNTAX_ONLY | codeop.PyCF_ALLOW_INCOMPLETE_INPUT  # type: ignore[attr-defined]  # documented in codeop.py


def is_program(text: str) -> bool:
    """Whether the text parses and does something: a lone word of prose is an expression, too."""
    tree = _parsed(text)
    return tree is not None and any(not isinstance(one, ast.Expr) for one in tree.body)


def parses(text: str) -> bool:
    """Whether `ast.parse` takes the text."""
    return _parsed(text) is not None


def begins_program(text: str) -> bool:
    """Whether the text is a program, or the beginning of one.

    The judge is the parser of Python's prompt, which tells what is wrong from what has not ended yet: an open bracket
    or string, a block without a body, a ``try`` without its ``except``.
    """
    return parses(text) or _unfinished(text)


def whole_lines(before: str, sample: str) -> str:
    """A text whose end was cut off at any place, without its last line, which may be cut.

    A sample of one line is kept as it is: there is no other line of it to judge.

    Args:
        before: what stands before the sample.
        sample: what was written.
    """
    return before + sample[: sample.rfind("\n") + 1 or None]


def complete_statements(text: str, longer_than: int = 0) -> str | None:
    """The longest beginning of the text, in whole lines, that parses.

    Args:
        text: the beginning of a program.
        longer_than: characters that the text had before anything was written.

    Returns:
        None where only beginnings parse that are not longer than that.
    """
    lines = text.splitlines(keepends=True)
    length = len(text)
    while lines and length > longer_than:
        beginning = "".join(lines)
        if parses(beginning):
            return beginning
        length -= len(lines.pop())
    return None


def _parsed(text: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in strings that Python would rather not see
        try:
            return ast.parse(text)
        except FAILURES:
            return None


def _unfinished(text: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(text, "<text>", "exec", _UNFINISHED, dont_inherit=True)
        except SyntaxError as error:
            return "incomplete input" in str(error)
        except FAILURES:
            return False
    return True
