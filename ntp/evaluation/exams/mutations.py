"""Small changes that make a right piece of Python wrong, each of a kind that can be checked.

Each kind is what BLiMP (Warstadt et al. 2020, arXiv 1912.00582) calls a phenomenon: many pairs that differ in one thing
each. What the right text has and the wrong one has not is checked of every pair, by Python's own parser or compiler or
by the rules of scopes.
"""

from __future__ import annotations

import ast
import keyword
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from ntp.evaluation.exams.names import BUILTINS, Name, bound_names
from ntp.evaluation.exams.programs import Edit, Program, edited
from ntp.evaluation.exams.python_tokens import CLOSING, Lines, Token, compiles, parse

Criterion = Literal["parses", "compiles", "bound"]
"""What tells right from wrong: the parser takes it; the parser takes both, and the compiler only the right one; both
compile, and all names of the right one that are touched are bound where those of the wrong one are not."""


@dataclass(frozen=True)
class Phenomenon:
    """A kind of mutation.

    Attributes:
        name: of the group of pairs.
        criterion: what tells right from wrong.
        propose: edits that may make a program wrong in this way.
    """

    name: str
    criterion: Criterion
    propose: Callable[[Program, np.random.Generator], list[Edit]]

    def mutate(self, program: Program, rng: np.random.Generator, tries: int = 8) -> Edit | None:
        """An edit of which the criterion holds; None where none was found in so many tries."""
        proposed = self.propose(program, rng)
        for index in rng.permutation(len(proposed))[:tries]:
            if self.holds(program.text, edited(program.text, proposed[index])):
                return proposed[index]
        return None

    def holds(self, right: str, wrong: str) -> bool:
        """Whether the criterion tells the two apart; of names only that both compile."""
        if self.criterion == "parses":
            return parse(right) is not None and parse(wrong) is None
        if self.criterion == "compiles":
            return compiles(right) and parse(wrong) is not None and not compiles(wrong)
        return right != wrong and compiles(right) and compiles(wrong)


def _closing(program: Program) -> Iterator[Token]:
    return (one for one in program.tokens if one.kind == "bracket" and one.text in CLOSING)


def _bracket_unclosed(program: Program, rng: np.random.Generator) -> list[Edit]:
    return [(one.begin, one.end, "") for one in _closing(program)]


def _bracket_kind(program: Program, rng: np.random.Generator) -> list[Edit]:
    others = [(one, [other for other in CLOSING if other != one.text]) for one in _closing(program)]
    return [(one.begin, one.end, kinds[rng.integers(len(kinds))]) for one, kinds in others]


def _colon_missing(program: Program, rng: np.random.Generator) -> list[Edit]:
    following = pairwise(program.tokens)
    return [
        (one.begin, one.end, "")
        for one, behind in following
        if one.text == ":" and not one.brackets and behind.kind in ("newline", "comment")
    ]


def _statements(program: Program) -> Iterator[list[Token]]:
    """The tokens of each logical line, without blank lines, comments and what changes the indentation."""
    line: list[Token] = []
    for one in program.tokens:
        if one.kind == "newline":
            yield line
            line = []
        elif one.kind not in ("blank", "comment", "indent", "dedent"):
            line.append(one)


def _indentation_missing(program: Program, rng: np.random.Generator) -> list[Edit]:
    edits: list[Edit] = []
    outer = [""]
    for one in program.tokens:
        if one.kind == "indent":
            edits.append((one.begin, one.end, outer[-1]))
            outer.append(one.text)
        elif one.kind == "dedent":
            outer.pop()
    return edits


def _indentation_unexpected(program: Program, rng: np.random.Generator) -> list[Edit]:
    begins = Lines(program.text).begins
    edits: list[Edit] = []
    for before, line in pairwise(_statements(program)):
        if before[-1].text != ":":
            start = max(begin for begin in begins if begin <= line[0].begin)
            edits.append((start, start, "    "))
    return edits


def _assignment_in_condition(program: Program, rng: np.random.Generator) -> list[Edit]:
    conditions = [line for line in _statements(program) if line[0].text in ("if", "elif", "while", "assert", "return")]
    return [(one.begin, one.end, "=") for line in conditions for one in line if one.text == "=="]


_WRONG_KEYWORDS = {
    "if": "elif",
    "elif": "else",
    "else": "elif",
    "for": "elif",
    "while": "for",
    "in": "as",
    "def": "for",
    "class": "for",
    "try": "finally",
    "except": "elif",
    "finally": "except",
    "with": "for",
    "import": "from",
    "from": "import",
    "return": "in",
    "and": "else",
    "or": "not",
    "is": "as",
}


def _keyword_wrong(program: Program, rng: np.random.Generator) -> list[Edit]:
    found = [one for one in program.tokens if one.kind == "keyword"]
    return [(one.begin, one.end, _WRONG_KEYWORDS[one.text]) for one in found if one.text in _WRONG_KEYWORDS]


_BINARY = frozenset(
    ("+", "-", "*", "/", "%", "==", "!=", "<", ">", "<=", ">=", "=", "+=", "-=", "and", "or", "in", "is")
)


def _operator_missing(program: Program, rng: np.random.Generator) -> list[Edit]:
    neighbours = pairwise(program.tokens)
    # With the blank behind it: two blanks in a row would tell.
    return [(one.begin, behind.begin, "") for one, behind in neighbours if one.text in _BINARY]


def _comma_missing(program: Program, rng: np.random.Generator) -> list[Edit]:
    return [(one.begin, one.end, "") for one in program.tokens if one.text == ","]


def _bracket_doubled(program: Program, rng: np.random.Generator) -> list[Edit]:
    return [(one.end, one.end, one.text) for one in _closing(program)]


def _operator_doubled(program: Program, rng: np.random.Generator) -> list[Edit]:
    return [(one.begin, one.begin, one.text + " ") for one in program.tokens if one.text in _BINARY]


def _comma_doubled(program: Program, rng: np.random.Generator) -> list[Edit]:
    return [(one.end, one.end, ",") for one in program.tokens if one.text == ","]


def _string_unclosed(program: Program, rng: np.random.Generator) -> list[Edit]:
    strings = [one for one in program.tokens if one.kind == "string" and "\n" not in one.text]
    quotes = [(one, 3 if one.text.endswith(('"""', "'''")) else 1) for one in strings]
    return [(one.end - count, one.end, "") for one, count in quotes]


def _argument_order(program: Program, rng: np.random.Generator) -> list[Edit]:
    """An argument without a name and one with, or a parameter without a default and one with, change places."""
    begins = Lines(program.text).begins
    raw = program.text.encode("utf-8", "surrogatepass")

    def span(first: ast.AST, last: ast.AST) -> tuple[int, int]:
        begin, end = (first.lineno, first.col_offset), (last.end_lineno, last.end_col_offset)  # type: ignore[attr-defined]
        return begins[begin[0] - 1] + begin[1], begins[end[0] - 1] + end[1]

    pairs: list[tuple[tuple[int, int], tuple[int, int]]] = []
    for node in ast.walk(program.tree):
        if isinstance(node, ast.Call) and node.args and node.keywords and node.keywords[0].arg:
            pairs.append((span(node.args[-1], node.args[-1]), span(node.keywords[0], node.keywords[0])))
        elif isinstance(node, ast.FunctionDef):
            plain = node.args.args[: len(node.args.args) - len(node.args.defaults)]
            if plain and node.args.defaults and not node.args.posonlyargs:
                given = node.args.args[len(plain)]
                pairs.append((span(plain[-1], plain[-1]), span(given, node.args.defaults[0])))
    edits: list[Edit] = []
    for (begin, end), (first, last) in pairs:
        if end < first:
            swapped = raw[first:last] + raw[end:first] + raw[begin:end]
            edits.append((begin, last, swapped.decode("utf-8", "surrogatepass")))
    return edits


def _tokens_swapped(program: Program, rng: np.random.Generator) -> list[Edit]:
    raw = program.text.encode("utf-8", "surrogatepass")
    edits: list[Edit] = []
    for line in _statements(program):
        for one, behind in pairwise(line):
            between = raw[one.end : behind.begin].decode("utf-8", "surrogatepass")
            words = one.kind in ("name", "keyword", "number") or behind.kind in ("name", "keyword", "number")
            plain = {one.kind, behind.kind} <= {"name", "keyword", "number", "operator"}
            if words and plain and "\n" not in between:
                edits.append((one.begin, behind.end, behind.text + between + one.text))
    return edits


def _return_outside(program: Program, rng: np.random.Generator) -> list[Edit]:
    """The last statement of a function moves to where its ``def`` stands."""
    begins = Lines(program.text).begins
    edits: list[Edit] = []
    for node in ast.walk(program.tree):
        if isinstance(node, ast.FunctionDef) and len(node.body) > 1 and isinstance(last := node.body[-1], ast.Return):
            start = begins[last.lineno - 1]
            edits.append((start + node.col_offset, start + last.col_offset, ""))
    return edits


def _own_reads(program: Program) -> list[Name]:
    """Names that are read and that the snippet itself binds, in a function."""
    return [one for one in program.names if one.read and one.kind in ("parameter", "local")]


def _name_misspelt(program: Program, rng: np.random.Generator) -> list[Edit]:
    """Two neighbouring letters of a name change places, or one is lost: nothing of the document has this name."""
    edits: list[Edit] = []
    for one in _own_reads(program):
        if len(one.text) < 4:
            continue
        place = int(rng.integers(1, len(one.text) - 1))
        text = one.text
        swapped = text[:place] + text[place + 1] + text[place] + text[place + 2 :]
        wrong = swapped if rng.random() < 0.5 else text[:place] + text[place + 1 :]
        if wrong != text and _means_nothing(wrong, program.around):
            edits.append((one.begin, one.end, wrong))
    return edits


def _name_out_of_scope(program: Program, rng: np.random.Generator) -> list[Edit]:
    """A name that the document binds, but not this snippet, stands where a name of the snippet did."""
    inside = bound_names(program.tree) | {one.text for one in program.names}
    others = sorted(name for name in program.around - inside - BUILTINS if not keyword.iskeyword(name))
    if not others:
        return []
    return [(one.begin, one.end, others[rng.integers(len(others))]) for one in _own_reads(program)]


def _self_missing(program: Program, rng: np.random.Generator) -> list[Edit]:
    """``self.x`` becomes ``x``, which nothing binds."""
    selves = {one.end: one for one in program.names if one.text == "self" and one.read and one.kind == "parameter"}
    return [
        (selves[one.begin - 1].begin, one.begin, "")
        for one in program.names
        if one.kind == "attribute" and one.begin - 1 in selves and _means_nothing(one.text, program.around)
    ]


def _means_nothing(name: str, around: Set[str]) -> bool:
    known = name in around or name in BUILTINS or keyword.iskeyword(name)
    return name.isidentifier() and not known and not name.startswith("__")


PHENOMENA: Sequence[Phenomenon] = (
    # The rarest first: a snippet becomes one pair, and they would find none left.
    Phenomenon("return_outside", "compiles", _return_outside),
    Phenomenon("argument_order", "parses", _argument_order),
    Phenomenon("assignment_in_condition", "parses", _assignment_in_condition),
    Phenomenon("self_missing", "bound", _self_missing),
    Phenomenon("name_misspelt", "bound", _name_misspelt),
    Phenomenon("name_out_of_scope", "bound", _name_out_of_scope),
    Phenomenon("colon_missing", "parses", _colon_missing),
    Phenomenon("indentation_missing", "parses", _indentation_missing),
    Phenomenon("indentation_unexpected", "parses", _indentation_unexpected),
    Phenomenon("keyword_wrong", "parses", _keyword_wrong),
    Phenomenon("comma_missing", "parses", _comma_missing),
    Phenomenon("comma_doubled", "parses", _comma_doubled),
    Phenomenon("string_unclosed", "parses", _string_unclosed),
    Phenomenon("operator_missing", "parses", _operator_missing),
    Phenomenon("operator_doubled", "parses", _operator_doubled),
    Phenomenon("bracket_kind", "parses", _bracket_kind),
    Phenomenon("bracket_unclosed", "parses", _bracket_unclosed),
    Phenomenon("bracket_doubled", "parses", _bracket_doubled),
    Phenomenon("tokens_swapped", "parses", _tokens_swapped),
)
"""All kinds, by the names of their groups."""
