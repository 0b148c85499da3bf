"""What stands below the matrix: the meaning of its signs, and why numbers are missing or stand apart."""

from __future__ import annotations

from dataclasses import dataclass, field

from ntp.comparison.assemble import Comparison
from ntp.comparison.matrix import Cell, Column

_BEST = "*"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass
class Footnotes:
    """Notes of the cells of a matrix, each once.

    Attributes:
        marks: by note, in the order in which they come.
        of_cells: marks by exam and row.
    """

    marks: dict[str, str] = field(default_factory=dict)
    of_cells: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, exam: str, row: str, note: str) -> None:
        """Let a cell have a note."""
        number = len(self.marks)
        letter = _LETTERS[number % 26] * (1 + number // 26)
        self.of_cells.setdefault((exam, row), []).append(self.marks.setdefault(note, letter))

    def of(self, column: Column, row: str) -> str:
        """The marks of a cell, such as ``a,b``."""
        return ",".join(self.of_cells.get((column.exam, row), []))

    def text(self, column: Column, row: str) -> str:
        """A cell with what marks it: ``≤ 2.12 ± 0.03* [a]``."""
        cell, marks = column.cells[row], self.of(column, row)
        return f"{cell.text}{_BEST if cell.best else ''}{f' [{marks}]' if marks else ''}"

    def lines(self) -> list[str]:
        """All notes with their marks."""
        return [f"[{mark}] {note}" for note, mark in self.marks.items()]


def matrix_notes(comparison: Comparison) -> Footnotes:
    """What changes how a number may be read.

    That is why it is missing or not ranked, what the answers were given where not all of a column were given the same,
    and the caveats of the results. How an exam was taken and what it found beside, their notes, stands in the report's
    table of all numbers.
    """
    notes = Footnotes()
    for column in comparison.columns:
        numbers = [cell for cell in column.cells.values() if cell.estimate is not None]
        apart = len({(_of_likelihood(cell), cell.kind[1]) for cell in numbers}) > len(
            {_of_likelihood(cell) for cell in numbers}
        )
        for row, cell in column.cells.items():
            if cell.reason is not None:
                notes.add(column.exam, row, cell.reason)
            elif apart and cell.estimate is not None:
                notes.add(column.exam, row, f"was given {', '.join(cell.kind[1]) or 'nothing'}")
            for caveat in cell.caveats:
                notes.add(column.exam, row, caveat)
    return notes


def legend(comparison: Comparison) -> list[str]:
    """What the signs in this matrix mean."""
    cells = [cell for column in comparison.columns for cell in column.cells.values() if cell.estimate is not None]
    kinds = {_of_likelihood(cell) for cell in cells}
    lines = []
    if cells:
        lines.append("± is half of a 95 % interval over seeds and documents; with one seed, over documents alone")
    if kinds & {"bound", "pseudo"}:
        said = ["≤ an upper bound"] * ("bound" in kinds) + ["~ a pseudo-likelihood"] * ("pseudo" in kinds)
        lines.append(
            f"{'; '.join(said)}; unmarked numbers are exact or no likelihoods; kinds are never ranked together"
        )
    if any(cell.best for cell in cells):
        lines.append("* better than every other of its kind that was given as much (p < 0.05, Holm)")
    elif comparison.ranked and any(column.pairs for column in comparison.columns):
        lines.append("no number is marked as the best: in no kind is one resolved to be better than all others")
    return lines


def _of_likelihood(cell: Cell) -> str:
    return cell.kind[0]
