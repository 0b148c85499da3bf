"""What a run writes when an exam asks it to: by its native means, and the same whatever else it is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ntp.evaluation.candidate import Candidate
from ntp.evaluation.sharing import shared
from ntp.generation.answer import Request, answer
from ntp.generation.sampling import Sampling
from ntp.objectives.query import Query, Unmask

Samples = Sequence[Sequence[str]]
"""[Q][S], those of each question; none of one that was not answered."""

SAMPLING_OPTIONS = ("greedy", "temperature", "top_k", "top_p")
"""What an exam says of how tokens are to be chosen."""

_AT_ONCE = 16  # samples of a question that are drawn together, with one generator: a part of what they are
_SPARE = 16  # tokens that a middle may have beside twice those of the real one


@dataclass(frozen=True)
class Blank:
    """A place where something is to be written.

    Attributes:
        before: text that stands before.
        real: what stands there in truth.
        behind: text that stands behind; None where nothing is told of it.
        tokens: how many an objective may write that ends by itself; None for as many as the real text has, and for a
            middle twice as many and some more.
    """

    before: str
    real: str
    behind: str | None = None
    tokens: int | None = None


@dataclass(frozen=True)
class Written:
    """What was written for a blank.

    Attributes:
        texts: [S], the samples.
        ended: how many of them came to an end of their own.
        shortened: whether the context, or the answer, was cut to what a row holds.
    """

    texts: tuple[str, ...]
    ended: int
    shortened: bool


def can_write(candidate: Candidate, between: bool) -> bool:
    """Whether its objective can continue a text, or write between two."""
    return ("infill" if between else "continue") in candidate.objective.inference


def is_told_length(candidate: Candidate, blank: Blank) -> bool:
    """Whether its objective must know how many tokens it writes, and so is told those of the real text."""
    return isinstance(_query(candidate, blank, 1), Unmask)


def write(candidate: Candidate, blanks: Sequence[Blank], samples: int, sampling: Sampling) -> list[Written | None]:
    """Fill each blank several times.

    What is written for a blank is a function of the candidate's seed, the number of the blank and the number of
    samples, and is shared among the candidate's processes.

    Args:
        candidate: whose objective can write them.
        blanks: in the order of the questions.
        samples: S, of each.
        sampling: how to choose a token.

    Returns:
        None for a blank whose real text, with nothing around it, is longer than a row.
    """
    return shared(candidate, len(blanks), lambda number: _fill(candidate, blanks[number], number, samples, sampling))


def sampling_of(options: Mapping[str, object]) -> Sampling:
    """The sampling of a question, as it stands in an exam."""
    return Sampling(**options)  # type: ignore[arg-type]


def _fill(candidate: Candidate, whole: Blank, number: int, samples: int, sampling: Sampling) -> Written | None:
    told = is_told_length(candidate, whole)
    real = max(1, len(candidate.tokenizer.encode(whole.real)))
    wanted = real if told or whole.behind is None else 2 * real + _SPARE
    wanted = wanted if told or whole.tokens is None else whole.tokens
    # What goes on can be as short as there is room; a middle of which the length is told is that long or is none.
    tokens = wanted if told and whole.behind is not None else min(wanted, max(1, candidate.room // 2))
    blank = _fitted(candidate, whole, tokens)
    if blank is None:
        return None
    request = Request(blank.before, blank.behind, tokens, sampling=sampling)
    texts: list[str] = []
    ended = 0
    for begin in range(0, samples, _AT_ONCE):
        seed = int(np.random.SeedSequence([candidate.seed, number, begin]).generate_state(1)[0])
        request = replace(request, samples=min(_AT_ONCE, samples - begin), seed=seed)
        with torch.autocast(candidate.device.type, dtype=torch.bfloat16, enabled=candidate.precision == "bf16-mixed"):
            done = answer(
                candidate.model, candidate.objective, candidate.tokenizer, request, isolated=candidate.isolated
            )
        texts += done.texts
        ended += sum(done.ended)
    return Written(tuple(texts), ended, blank != whole or tokens < wanted)


def _fitted(candidate: Candidate, whole: Blank, tokens: int) -> Blank | None:
    """With as much of the text around it as a row holds: what is nearest, on both sides alike."""

    def around(size: int) -> Blank:
        behind = whole.behind or ""
        left = min(len(whole.before), max((size + 1) // 2, size - len(behind)))
        before = whole.before[len(whole.before) - left :]
        return replace(whole, before=before, behind=None if whole.behind is None else behind[: size - left])

    low, high = -1, len(whole.before) + len(whole.behind or "")
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high) if _length(candidate, around(middle), tokens) <= candidate.room else (low, middle - 1)
        )
    return None if low < 0 else around(low)


def _query(candidate: Candidate, blank: Blank, tokens: int) -> Query:
    encode, end = candidate.tokenizer.encode, candidate.tokenizer.end_of_text
    before = encode(blank.before)
    if not candidate.isolated or not len(before):
        before = np.concatenate([[end], before])
    behind = None if blank.behind is None else encode(blank.behind)
    return candidate.objective.query(before, behind, tokens)


def _length(candidate: Candidate, blank: Blank, tokens: int) -> int:
    """Positions that are read; the last token that is written is not."""
    query = _query(candidate, blank, tokens)
    return len(query.tokens) if isinstance(query, Unmask) else len(query.prompt) + len(query.forced) + tokens - 1
