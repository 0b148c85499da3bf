"""From what a user calls a path to the files that are meant, and what kind of file each is."""

import difflib
import glob
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, get_args

from ntp.config.errors import ConfigError

Format = Literal["text", "jsonl", "csv", "tsv", "parquet"]
COMPRESSIONS = (".gz", ".zst")
_EXTENSIONS: dict[str, Format] = {
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".rst": "text",
    ".tex": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}


def format_of(path: Path) -> Format | None:
    """The format that a name promises, through ``.gz`` and ``.zst``; None when it promises none."""
    name = path.name.lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    return _EXTENSIONS.get(Path(name).suffix)


def find_files(paths: Iterable[str], given: Format | None) -> list[tuple[Path, Format]]:
    """The files that paths and patterns name, sorted, each once.

    Args:
        paths: files, directories (everything below them that has a known extension, or everything when a format is
            given), or patterns with ``*``, ``?``, ``[...]`` and ``**``. ``~`` is the home directory.
        given: the format of all of them; None to go by extension.

    Raises:
        ConfigError: nothing is there, nothing matches, everything is empty, or an extension is unknown.
    """
    found: dict[Path, Format] = {}
    for one in paths:
        for path in _expand(one, given):
            kind = given or format_of(path)
            if kind is None:
                known = ", ".join(_EXTENSIONS)
                raise ConfigError(
                    "data.format",
                    f"{path} has none of the known extensions ({known}, also with .gz or .zst); "
                    f"say what it is with data.format={'|'.join(get_args(Format))}",
                )
            found[path] = kind
    if not found:
        raise ConfigError("data.path", "names no file; give a file, a directory or a pattern")
    if not any(path.stat().st_size for path in found):
        names = ", ".join(str(path) for path in sorted(found)[:3])
        raise ConfigError("data.path", f"{names} {'is' if len(found) == 1 else 'are all'} empty (0 bytes)")
    return sorted(found.items())


def _expand(text: str, given: Format | None) -> Iterator[Path]:
    path = Path(text).expanduser()
    if path.is_file():
        yield path
    elif path.is_dir():
        below = [one for one in path.rglob("*") if one.is_file() and not _hidden(one.relative_to(path))]
        usable = [one for one in below if given or format_of(one)]
        if not usable:
            raise ConfigError("data.path", f"the directory {path} holds no file with one of {', '.join(_EXTENSIONS)}")
        yield from usable
    elif glob.has_magic(text):
        matches = [Path(one) for one in glob.glob(str(path), recursive=True)]
        files = [one for one in matches if one.is_file()]
        if not files:
            raise ConfigError("data.path", f"no file matches '{text}' (looked from {Path.cwd()})")
        yield from files
    else:
        raise ConfigError("data.path", f"there is no '{text}' (looked from {Path.cwd()}){_nearest(path)}")


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _nearest(path: Path) -> str:
    try:
        names = [one.name for one in path.parent.iterdir()]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    return f"; did you mean '{path.parent / close[0]}'?" if close else ""
