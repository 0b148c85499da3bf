"""The English that programmers write."""

import ast
import hashlib
import platform
import warnings
from collections.abc import Iterator

from ntp.data.corpora.base import Split
from ntp.data.corpora.python import Python


class Docstrings(Python):
    """The docstrings of the same files as `Python`: one document a module, its docstrings in the order of the source.

    Args:
        packages: installed packages whose docstrings are added, by import name.

    Raises:
        ConfigError: a package is not installed.
    """

    def read(self, split: Split) -> Iterator[str]:
        """The docstrings of each module, separated by blank lines; files that do not parse are skipped."""
        for text in super().read(split):
            yield "\n\n".join(docstrings(text))

    def digest(self) -> str:
        """SHA-256 of the sources and of the Python that parses them: 3.13 began to clean docstrings differently."""
        version = ".".join(platform.python_version_tuple()[:2])
        return hashlib.sha256(f"docstrings {version} {super().digest()}".encode()).hexdigest()


def docstrings(source: str) -> list[str]:
    """Docstrings of a module, its classes and functions, indentation removed (`inspect.cleandoc`)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's code
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return list(_found(tree))


def _found(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = ast.get_docstring(node)
        if text and text.strip():
            # An escape such as "\ud800" makes a character that no UTF-8 text can hold.
            yield text.encode("utf-8", "replace").decode()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from _found(child)
