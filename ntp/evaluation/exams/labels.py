"""Labels that Python source gives for nothing, at bytes of it."""

from __future__ import annotations

from dataclasses import dataclass

from ntp.evaluation.exams.names import names_of
from ntp.evaluation.exams.python_tokens import parse, tokens_of

LABEL_SETS = ("token_type", "bracket_depth", "indentation_depth", "identifier_kind")
_DEEPEST = 4  # what is nested deeper is counted as this deep


@dataclass(frozen=True, order=True)
class Label:
    """A label of a stretch of text.

    Attributes:
        begin, end: of the stretch, in bytes.
        value: what it is.
    """

    begin: int
    end: int
    value: str


def code_labels(text: str) -> dict[str, list[Label]]:
    """The labels of a program, by the names of their sets, in the order of the text.

    ``token_type``: keyword, name, number, string, comment, operator or bracket, by ``tokenize``. Of the same tokens
    ``bracket_depth`` is how many brackets are open around it, and ``indentation_depth`` how many blocks its statement
    is in. ``identifier_kind`` is what a name is by the rules of scopes; see `ntp.evaluation.exams.names`.

    Returns:
        Nothing where the text is no program.
    """
    tree, tokens = parse(text), tokens_of(text)
    if tree is None or tokens is None:
        return {}
    written = [one for one in tokens if one.kind not in ("newline", "blank", "indent", "dedent")]
    names = names_of(text, tree, tokens)
    return {
        "token_type": [Label(one.begin, one.end, one.kind) for one in written],
        "bracket_depth": [Label(one.begin, one.end, _depth(one.brackets)) for one in written],
        "indentation_depth": [Label(one.begin, one.end, _depth(one.indentation)) for one in written],
        "identifier_kind": [Label(one.begin, one.end, one.kind) for one in names if one.kind is not None],
    }


def _depth(depth: int) -> str:
    return str(depth) if depth < _DEEPEST else f"{_DEEPEST}+"
