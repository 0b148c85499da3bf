"""What a page shows: its code blocks, and the commands in them."""

import itertools
import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "experiments" / "README.md"]

_FENCE = re.compile(r'^( *)```(\w+)(?: title="([^"]+)")?\n(.*?)^\1```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of code: its language, its title if it has one, and its text."""

    language: str
    title: str | None
    text: str


def blocks(page: Path, language: str | None = None) -> list[Block]:
    """The code blocks of a page, of one language or of all."""
    found = [
        Block(name, title or None, textwrap.dedent(indent + text))
        for indent, name, title, text in _FENCE.findall(page.read_text(encoding="utf-8"))
    ]
    return [block for block in found if language in (None, block.language)]


def commands(page: Path) -> list[list[str]]:
    """The arguments of every ``ntp`` in the page's bash blocks that should succeed, as the shell would give them."""
    refused = [arguments for arguments, _ in refusals(page)]
    return [arguments for arguments in _commands(page) if arguments not in refused]


def _commands(page: Path) -> Iterator[list[str]]:
    for block in blocks(page, "bash"):
        for line in block.text.replace("\\\n", " ").splitlines():
            inner = re.search(r"\$\((ntp [^)]*)\)", line)
            words = shlex.split(inner[1] if inner else line, comments=True)
            if words and words[0] == "ntp":
                yield words[1:]


def refusals(page: Path) -> list[tuple[list[str], list[str]]]:
    """Every ``ntp`` in a bash block that is followed by the error it gives, as a comment."""
    found = []
    for block in blocks(page, "bash"):
        for command, answer in itertools.pairwise(block.text.splitlines()):
            if command.startswith("ntp ") and answer.startswith("# ntp "):
                found.append((shlex.split(command)[1:], [answer[2:]]))
    return found


def dialogues(page: Path) -> list[tuple[list[str], list[str]]]:
    """Every ``$ ntp`` in the page's console blocks, with the lines that are shown as its output."""
    found: list[tuple[list[str], list[str]]] = []
    for block in blocks(page, "console"):
        for line in block.text.splitlines():
            if line.startswith("$ "):
                found.append((shlex.split(line[2:])[1:], []))
            else:
                found[-1][1].append(line)
    return found + refusals(page)


def inline_code(text: str) -> list[str]:
    """What stands between single backticks, outside code blocks."""
    return re.findall(r"`([^`\n]+)`", _FENCE.sub("", text))
