"""The exam of infilling: what stands between two texts?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, Literal

import numpy as np

from ntp.config.types import PositiveInt
from ntp.evaluation.exams.characters import character_starts
from ntp.evaluation.exams.likelihood import Asked, LikelihoodExam
from ntp.evaluation.exams.python_parts import Part, syntax_parts

Gap = Literal["single_line", "several_lines", "span", "syntax"]
GAPS: tuple[Gap, ...] = ("single_line", "several_lines", "span", "syntax")
_TRIES = 8


class Infill(LikelihoodExam):
    """The middle of a text, given both sides.

    Single lines, several lines and random spans are the benchmarks of Bavarian et al. 2022 (arXiv 2207.14255, section
    2.2): a line drawn from those that are not blank; two ends of lines, at least two lines apart; two places between
    characters, all of them drawn evenly. A gap at a syntax node is one that a programmer leaves (Gong et al. 2024,
    arXiv 2403.04814): of the statements, expressions, lists of arguments and bodies of a Python program, first the
    kind is drawn and then one that lies in the window. There is text on both sides of every gap, and some of what is
    asked for is not blank.

    Args:
        documents, windows, window_bytes: see `LikelihoodExam`.
        gaps: which kinds of gaps there are; each is a group.
        questions: for each window and each kind of gap, at most.

    Raises:
        ValueError: no gaps.
    """

    kind = "infill"

    def __init__(
        self,
        documents: PositiveInt | None = 64,
        windows: PositiveInt = 2,
        window_bytes: PositiveInt = 512,
        gaps: Sequence[Gap] = GAPS,
        questions: PositiveInt = 1,
    ) -> None:
        if not gaps:
            raise ValueError("names no kind of gap")
        super().__init__(documents, windows, window_bytes)
        self.gaps, self.questions = tuple(gaps), questions

    def arguments(self) -> Mapping[str, Any]:
        """Also the gaps."""
        return {**super().arguments(), "gaps": list(self.gaps), "questions": self.questions}

    def asked(self, content: bytes, begin: int, end: int, rng: np.random.Generator) -> Iterator[Asked]:
        """Gaps of each kind, no gap twice."""
        for gap in self.gaps:
            draw = _MADE_BY[gap](content, begin, end, rng)
            if draw is None:
                continue
            found: list[tuple[int, int]] = []
            for _ in range(_TRIES * self.questions):
                first, last = draw()
                fits = begin < first < last < end and content[first:last].strip()
                if fits and (first, last) not in found:
                    found.append((first, last))
                if len(found) == self.questions:
                    break
            for first, last in sorted(found):
                yield gap, first, last

    def wanted(self) -> str:
        """Something to leave out, and text around it."""
        return f"they are too short to have a middle ({', '.join(self.gaps)})"


Draw = Callable[[], tuple[int, int]]


def _single_lines(content: bytes, begin: int, end: int, rng: np.random.Generator) -> Draw | None:
    places = _line_places(content, begin, end)
    lines = [pair for pair in pairwise(places) if begin < pair[0] and pair[1] < end]
    return _one_of([(first, last) for first, last in lines if content[first:last].strip()], rng)


def _several_lines(content: bytes, begin: int, end: int, rng: np.random.Generator) -> Draw | None:
    places = _line_places(content, begin, end)[1:-1]
    return _two_of(places, 2, rng)


def _spans(content: bytes, begin: int, end: int, rng: np.random.Generator) -> Draw | None:
    places = (begin + character_starts(content[begin:end])[1:-1]).tolist()
    return _two_of(places, 1, rng)


def _syntax_nodes(content: bytes, begin: int, end: int, rng: np.random.Generator) -> Draw | None:
    kinds: dict[str, list[Part]] = {}
    for part in syntax_parts(content):
        if begin < part.begin and part.end < end:
            kinds.setdefault(part.kind, []).append(part)
    if not kinds:
        return None
    names = sorted(kinds)

    def draw() -> tuple[int, int]:
        parts = kinds[names[int(rng.integers(len(names)))]]
        part = parts[int(rng.integers(len(parts)))]
        return part.begin, part.end

    return draw


_MADE_BY: dict[Gap, Callable[[bytes, int, int, np.random.Generator], Draw | None]] = {
    "single_line": _single_lines,
    "several_lines": _several_lines,
    "span": _spans,
    "syntax": _syntax_nodes,
}


def _one_of(gaps: Sequence[tuple[int, int]], rng: np.random.Generator) -> Draw | None:
    return (lambda: gaps[int(rng.integers(len(gaps)))]) if gaps else None


def _two_of(places: Sequence[int], apart: int, rng: np.random.Generator) -> Draw | None:
    """Two places of a list that are at least so far apart in it, each such pair as likely as the others."""
    count = len(places) - apart + 1
    if count < 2:
        return None

    def draw() -> tuple[int, int]:
        first, last = sorted(rng.choice(count, 2, replace=False).tolist())
        return places[first], places[last + apart - 1]

    return draw


def _line_places(content: bytes, begin: int, end: int) -> list[int]:
    """Where the lines of a window begin, and its end."""
    return list(accumulate((len(line) for line in content[begin:end].splitlines(keepends=True)), initial=begin))
