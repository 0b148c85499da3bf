"""Questions that are longer than a model can read: long answers are given piece by piece, far context is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ntp.objectives.question import Question

Length = Callable[[Question], int]


def fitted(question: Question, length: Length, room: int) -> list[Question]:
    """Questions that fit into a row and whose answers sum to that of the whole, as far as that can be had.

    What is to be continued is asked for piece by piece, each given the end of what stands before it (the chain rule,
    with less context than there is). Up to half of a row is such context, and whatever the piece itself leaves free. Of
    what stands around a gap, what is nearest to it is kept, on both sides alike.

    Args:
        question: any.
        length: positions that a question takes; it never shrinks where a part of the question grows.
        room: positions of a row.

    Returns:
        The questions; ``[question]`` where it fits as it is; empty where a gap alone is longer than a row.
    """
    if length(question) <= room:
        return [question]
    if question.kind in ("continue", "any_order"):
        return _pieces(question, length, room)
    context = len(question.before) + len(question.after)
    longest = _largest(1, context, lambda size: length(_around(question, size)) <= room)
    return [] if longest is None else [_around(question, longest)]


def _pieces(question: Question, length: Length, room: int) -> list[Question]:
    begin, end, pieces = 0, len(question.target), []
    while begin < end:
        piece = _piece(question, begin, length, room)
        if piece is None:
            return []
        pieces.append(piece)
        begin += len(piece.target)
    return pieces


def _piece(question: Question, begin: int, length: Length, room: int) -> Question | None:
    """What is asked for from token ``begin`` on, as much of it as fits; None if not even one token does."""
    text = np.concatenate([question.before, question.target])
    place = len(question.before) + begin

    def cut(context: int, size: int) -> Question:
        return replace(question, before=text[place - context : place], target=text[place : place + size])

    if length(cut(1, 1)) > room:
        return None
    # Something always stands before, and something is always asked for.
    context = _largest(1, place, lambda number: length(cut(number, 1)) <= room // 2) or 1
    size = _largest(1, len(text) - place, lambda number: length(cut(context, number)) <= room) or 1
    context = _largest(1, place, lambda number: length(cut(number, size)) <= room) or 1
    return cut(context, size)


def _around(question: Question, size: int) -> Question:
    """With so many tokens of context, as evenly on both sides as there are."""
    before, after = len(question.before), len(question.after)
    left = min(before, max((size + 1) // 2, size - after))
    return replace(question, before=question.before[before - left :], after=question.after[: size - left])


def _largest(least: int, most: int, fits: Callable[[int], bool]) -> int | None:
    """The largest number in this range that fits, where smaller ones do if larger ones do; None if none does."""
    if not fits(least):
        return None
    low, high = least, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
