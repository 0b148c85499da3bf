"""What each name of a Python program is: a parameter, a local variable, an attribute, a builtin ...

By the rules of scopes (Python's language reference, section 4.2.2), told from the syntax tree alone.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from ntp.evaluation.exams.python_tokens import Lines, Token

NameKind = Literal["function", "class", "parameter", "argument", "attribute", "import", "builtin", "local", "global"]
"""``argument`` is the name of one in a call; ``import`` anything that an import binds; ``local`` a variable of a
function, ``global`` one of the module."""

BUILTINS = frozenset(dir(builtins))
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


@dataclass
class Scope:
    """A scope, and what it binds.

    Attributes:
        kind: of the scope.
        outer: the scope around it.
        bound: kind of each name that it binds; of a name that is bound in several ways the first in the text.
        elsewhere: names that it declares ``global`` or ``nonlocal``.
    """

    kind: Literal["module", "class", "function"]
    outer: Scope | None = None
    bound: dict[str, NameKind] = field(default_factory=dict)
    elsewhere: set[str] = field(default_factory=set)

    def resolve(self, name: str) -> NameKind | None:
        """What a name is that stands in this scope; None where nothing binds it."""
        scope: Scope | None = self
        while scope is not None:
            seen = scope is self or scope.kind != "class"  # a method does not see the names of its class
            if seen and name in scope.bound and name not in scope.elsewhere:
                return scope.bound[name]
            scope = scope.outer
        return "builtin" if name in BUILTINS else None


@dataclass(frozen=True)
class Name:
    """A name where it stands.

    Attributes:
        text: the name.
        begin, end: where, in bytes.
        kind: what it is; None where it can't be told, as behind an import of ``*``.
        read: whether its value is asked for here.
    """

    text: str
    begin: int
    end: int
    kind: NameKind | None
    read: bool


class _Binder(ast.NodeVisitor):
    """Finds the scopes, what each binds, and which scope each name stands in."""

    def __init__(self) -> None:
        self.scope = Scope("module")
        self.scopes = [self.scope]
        self.uses: list[tuple[ast.Name, Scope]] = []
        self.stars = False

    def bind(self, name: str, kind: NameKind | None = None) -> None:
        variable: dict[str, NameKind] = {"module": "global", "class": "attribute", "function": "local"}
        self.scope.bound.setdefault(name, variable[self.scope.kind] if kind is None else kind)

    def within(self, scope: Scope, *nodes: ast.AST) -> None:
        self.scopes.append(scope)
        outer, self.scope = self.scope, scope
        for node in nodes:
            self.visit(node)
        self.scope = outer

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self.bind(node.id)
        self.uses.append((node, self.scope))

    def function(self, node: _Function) -> None:
        arguments = node.args
        for default in [*arguments.defaults, *(one for one in arguments.kw_defaults if one)]:
            self.visit(default)
        parameters = list(_parameters(arguments))
        for one in parameters:
            if one.annotation is not None:
                self.visit(one.annotation)
        scope = Scope("function", self.scope, {one.arg: "parameter" for one in parameters})
        self.within(scope, *(node.body if isinstance(node.body, list) else [node.body]))

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.bind(node.name, "function")
        for outside in (*node.decorator_list, *([node.returns] if node.returns else [])):
            self.visit(outside)
        self.function(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.function(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.bind(node.name, "class")
        for outside in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(outside)
        self.within(Scope("class", self.scope), *node.body)

    def comprehension(self, node: _Comprehension) -> None:
        first, *others = node.generators
        self.visit(first.iter)
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self.within(Scope("function", self.scope), first.target, *first.ifs, *others, *parts)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = comprehension

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        for one in node.names:
            if one.name == "*":
                self.stars = True
            elif isinstance(node, ast.Import):
                self.bind(one.asname or one.name.split(".")[0], "import")
            else:
                self.bind(one.asname or one.name, "import")

    visit_ImportFrom = visit_Import

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self.bind(node.name)
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar) -> None:
        if node.name:
            self.bind(node.name)
        self.generic_visit(node)

    visit_MatchStar = visit_MatchAs

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        if node.rest:
            self.bind(node.rest)
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global | ast.Nonlocal) -> None:
        self.scope.elsewhere.update(node.names)
        top = self.scope
        while top.outer is not None:
            top = top.outer
        if isinstance(node, ast.Global):
            for name in node.names:
                top.bound.setdefault(name, "global")

    visit_Nonlocal = visit_Global


def names_of(text: str, tree: ast.Module, tokens: list[Token]) -> list[Name]:
    """The names of a program, in the order of the text.

    Args:
        text: of the program.
        tree: its syntax tree.
        tokens: its tokens.
    """
    begins = Lines(text).begins
    binder = _Binder()
    binder.visit(tree)
    found: list[Name] = []

    def place(line: int, column: int) -> int:
        return begins[line - 1] + column  # columns of syntax trees are bytes

    for use, scope in binder.uses:
        begin = place(use.lineno, use.col_offset)
        kind = scope.resolve(use.id)
        uncertain = binder.stars and kind in (None, "builtin")
        read = isinstance(use.ctx, ast.Load)
        found.append(Name(use.id, begin, begin + len(use.id.encode()), None if uncertain else kind, read))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            end = place(node.end_lineno or 0, node.end_col_offset or 0)
            found.append(Name(node.attr, end - len(node.attr.encode()), end, "attribute", False))
        elif isinstance(node, ast.arg):
            begin = place(node.lineno, node.col_offset)
            found.append(Name(node.arg, begin, begin + len(node.arg.encode()), "parameter", False))
        elif isinstance(node, ast.keyword) and node.arg is not None:
            begin = place(node.lineno, node.col_offset)
            found.append(Name(node.arg, begin, begin + len(node.arg.encode()), "argument", False))
    found += _declared(tokens)
    written = {(one.begin, one.end): one.text for one in tokens if one.kind == "name"}
    # Inside of an f-string some Pythons misplace the nodes: only what stands where it claims to counts.
    return sorted((one for one in found if written.get((one.begin, one.end)) == one.text), key=lambda one: one.begin)


def bound_names(tree: ast.Module) -> set[str]:
    """All names that any scope of a program binds."""
    binder = _Binder()
    binder.visit(tree)
    return {name for scope in binder.scopes for name in scope.bound}


def _declared(tokens: list[Token]) -> Iterator[Name]:
    """Names behind ``def`` and ``class``, and in imports, whose places a syntax tree does not tell."""
    statement = ""
    before = Token("newline", "", 0, 0, 0, 0)
    for one in tokens:
        between = before.kind in ("blank", "comment") and not one.brackets
        if between or before.text == ";" or before.kind in ("newline", "indent", "dedent"):
            statement = one.text if one.kind == "keyword" else ""
        if one.kind == "name" and before.text in ("def", "class"):
            yield Name(one.text, one.begin, one.end, "function" if before.text == "def" else "class", False)
        elif one.kind == "name" and statement in ("import", "from"):
            yield Name(one.text, one.begin, one.end, "import", False)
        before = one


def _parameters(arguments: ast.arguments) -> Iterator[ast.arg]:
    yield from (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    yield from (one for one in (arguments.vararg, arguments.kwarg) if one is not None)
