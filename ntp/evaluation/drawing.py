"""Estimates of an answer that is drawn, and how sure their mean is.

Estimates that share out strata vary less in the mean, but tell nothing of how much: they differ from each other because
their strata do. So only two at a time share strata, and such pairs, of which each is an unbiased estimate by itself and
independent of the others, tell the error of their mean (replicated systematic sampling; Cochran 1977, Sampling
Techniques, section 8.11).
"""

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ntp.objectives.question import Question


def draw_keys(questions: Sequence[Question]) -> list[int]:
    """Keys of the draws of some questions, of 63 bits: a question is answered with the same draws wherever it is asked.

    Draws follow from the tokens and from which of them are asked for, and not from the kind of the question. A question
    that is asked several times at once has others each time: its answers are estimates that know nothing of each other.
    """
    keys, asked = [], Counter[bytes]()
    for question in questions:
        sizes = [len(question.before), len(question.target), len(question.after)]
        content = np.array([*sizes, *question.tokens], dtype="<i8").tobytes()
        digest = hashlib.blake2b(content, digest_size=8, salt=asked[content].to_bytes(8, "little")).digest()
        asked[content] += 1
        keys.append(int.from_bytes(digest, "little") >> 1)
    return keys


def groups(draws: int) -> list[int]:
    """Sizes of the groups of estimates that share strata: pairs, of which one or more may be triples; see `stratum`.

    Two or three estimates are two groups all the same: one group alone tells nothing of its error.
    """
    count = max(min(draws, 2), draws // 2)
    return [len(one) for one in np.array_split(np.arange(draws), count)]


def stratum(repetition: int, draws: int) -> tuple[int, int]:
    """Which of how many strata an estimate is drawn from, as in `ntp.data.example.Draw`."""
    for size in groups(draws):
        if repetition < size:
            return repetition, size
        repetition -= size
    raise ValueError(f"there are {draws} estimates only")


def variance_of_mean(estimates: np.ndarray) -> np.ndarray:
    """Variance of the mean over the last axis, [..., draws] to [...]: zeros where all groups agree, NaN for one draw.

    It is unbiased where the groups are of equal size, and else if their means vary as the means of independent
    estimates do.
    """
    sizes = np.array(groups(estimates.shape[-1]))
    if len(sizes) < 2:
        return np.full(estimates.shape[:-1], np.nan)
    begins = np.cumsum(sizes) - sizes
    deviations = np.add.reduceat(estimates, begins, axis=-1) / sizes - estimates.mean(-1, keepdims=True)
    variances: np.ndarray = (sizes * deviations**2).sum(-1) / ((len(sizes) - 1) * sizes.sum())
    return variances
