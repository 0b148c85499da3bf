"""Python source files of the running interpreter and of installed packages, found without importing anything."""

import functools
import hashlib
import importlib.metadata
import importlib.util
import io
import os
import sysconfig
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ntp.config.errors import ConfigError
from ntp.config.nearest import suggestion

_NOT_LIBRARY = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"})


@dataclass(frozen=True, order=True)
class SourceFile:
    """One file.

    Attributes:
        name: path within the library, with forward slashes; the same on every machine.
        path: where it lies here.
    """

    name: str
    path: Path

    def read(self) -> str | None:
        """The text in the encoding that the file declares (PEP 263), or None where it does not decode."""
        return decode_source(self.path.read_bytes())


def decode_source(raw: bytes) -> str | None:
    """Decode Python source as the interpreter does (`tokenize.open`), or None where that fails."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
        with io.TextIOWrapper(io.BytesIO(raw), encoding=encoding) as text:
            return text.read()
    except (SyntaxError, UnicodeDecodeError, LookupError):
        return None


def python_sources(packages: Iterable[str]) -> list[SourceFile]:
    """The standard library's files, then those of each package; both sorted by name, without tests.

    Args:
        packages: import names of installed packages, such as ``torch``.

    Raises:
        ConfigError: a package is not installed, or the standard library's source is not.
    """
    standard = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(_below(standard, ""))
    if not files:
        raise ConfigError("data", f"this Python has no source of its standard library in {standard}; try data=files")
    for package in packages:
        files += sorted(_package_files(package))
    return files


def sources_digest(files: Iterable[SourceFile]) -> str:
    """SHA-256 over names and raw contents."""
    digest = hashlib.sha256()
    for file in files:
        raw = file.path.read_bytes()
        digest.update(f"{file.name}\0{len(raw)}\0".encode())
        digest.update(raw)
    return digest.hexdigest()


def _below(folder: Path, prefix: str) -> Iterator[SourceFile]:
    for place, folders, names in os.walk(folder):
        folders[:] = [one for one in folders if one not in _NOT_LIBRARY and not one.startswith(".")]
        for name in names:
            if name.endswith(".py") and not _is_test(name):
                path = Path(place, name)
                yield SourceFile(prefix + path.relative_to(folder).as_posix(), path)


def _is_test(name: str) -> bool:
    # _sysconfigdata is no test, but written when the interpreter was built, and differs from machine to machine.
    return name.startswith(("test_", "_sysconfigdata")) or name.endswith("_test.py") or name == "conftest.py"


def _package_files(package: str) -> Iterator[SourceFile]:
    name = _import_name(package)
    # Only a top-level name can be looked up without running the package's code.
    try:
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise ConfigError("data.packages", f"no package '{package}' is installed{suggestion(package, _installed())}")
    if spec.submodule_search_locations:
        for location in spec.submodule_search_locations:
            yield from _below(Path(location), f"{name}/")
    elif spec.origin and spec.origin.endswith(".py"):
        yield SourceFile(f"{name}.py", Path(spec.origin))
    else:
        raise ConfigError("data.packages", f"'{package}' is installed without Python source")


def _import_name(package: str) -> str:
    """``scikit-learn`` is imported as ``sklearn``: take either name."""
    if package in _installed():
        return package
    for name, distributions in _installed().items():
        if package.lower().replace("_", "-") in (one.lower().replace("_", "-") for one in distributions):
            return name
    return package


@functools.cache
def _installed() -> dict[str, list[str]]:
    names = dict(importlib.metadata.packages_distributions())
    return {name: list(found) for name, found in sorted(names.items()) if not name.startswith("_")}
