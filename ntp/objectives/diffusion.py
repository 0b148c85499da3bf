"""What the diffusion objectives share: which tokens of a row are hidden, how much each counts, and their loss.

Diffusion with an absorbing state hides tokens behind the mask token and learns to recover them. A part of a row is
hidden at one rate: the whole row, or one block of several. Two estimators of the same bound say how much is hidden.

`hide_by_rate` trains: a part has a rate p, uniform in an interval up to 1, each of its tokens is hidden with
probability p, and a hidden token counts 1/p (arXiv 2406.07524, section 3.5).

`hide_by_count` measures: of the n tokens of a part, k are hidden, with k uniform in 1 .. n and the tokens uniform given
k, and a hidden token counts n/k. Both have the mean

    sum over sets M of hidden tokens of 1 / (|M| * C(n, |M|)) * (sum over i in M of nll_i(M)),

which is the likelihood of the part in a random order of its tokens, averaged over all n! orders: each step of such an
order reveals a uniform one of the tokens still hidden. Counts vary less than 1/p, whose numbers of hidden tokens vary
for a given p too.

Legend: n tokens of a row, P parts of it, B rows of a global batch.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from torch import Tensor

from ntp.data.example import IGNORE, Batch, Draw, Example
from ntp.data.special_tokens import MASK
from ntp.objectives.base import Context, Objective, TargetNll
from ntp.objectives.question import Likelihood, Question, QuestionKind, Way

LOWEST_RATE = 1e-3
"""Below it a hidden token would count more than a thousandfold, and nearly every row would hide nothing."""

_OF_ALL_ROWS = 2**32 - 2


class AbsorbingDiffusion(Objective):
    """Base of the objectives that recover hidden tokens, with the loss of a bound: all tokens divide it.

    Args:
        subs: give the mask token no probability, which no text contains, so that the other tokens share all of it.
    """

    likelihood: Likelihood = "bound"

    def __init__(self, subs: bool) -> None:
        super().__init__()
        self.subs = subs
        self.mask_id = -1

    def special_tokens(self) -> tuple[str, ...]:
        """What stands for a hidden token."""
        return (MASK,)

    def bind(self, context: Context) -> None:
        """Remember the id of the mask token."""
        self.mask_id = context.special_ids[MASK]

    @property
    def excluded(self) -> int | None:
        """The mask token, with ``subs``."""
        return self.mask_id if self.subs else None

    def score(self, question: Question, draw: Draw) -> Example:
        """Some of what is asked for is hidden, and recovered from all else."""
        return score_hidden(question, self.mask_id, draw)

    def metrics(self, batch: Batch, nll: TargetNll) -> dict[str, tuple[Tensor, int | Tensor]]:
        """``masked_nll``: nats per hidden token, not weighted. No bound of anything, but less noisy than the loss."""
        return {"masked_nll": (nll.nll.sum(), batch.target_count)}


def hide_by_rate(
    sizes_P: np.ndarray, draw: Draw, rng: np.random.Generator, lowest: float, highest: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Hide each token of a part with the probability of this part.

    Args:
        sizes_P: tokens of each part, at least 1; the parts stand one after another.
        draw: the row's.
        rng: of this draw.
        lowest, highest: the rates are uniform in between, one in each of P * B equal strata of a full global batch.

    Returns:
        hidden [n] bool, and weights [n] float: 1/p where hidden, else 0.
    """
    times_P = (strata(draw, len(sizes_P), rng) + rng.random(len(sizes_P))) / (len(sizes_P) * draw.stratum[1])
    rates = np.repeat(lowest + (highest - lowest) * times_P, sizes_P)
    hidden = rng.random(len(rates)) < rates
    return hidden, np.where(hidden, 1 / rates, 0.0)


def hide_by_count(sizes_P: np.ndarray, draw: Draw, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Hide a number of tokens of each part, uniform in 1 .. its size.

    Arguments and results are those of `hide_by_rate`; the weights are n/k where hidden. Over all strata each number is
    exactly as frequent as any other, whatever the sizes: no real number is rounded.
    """
    everywhere = len(sizes_P) * draw.stratum[1]
    counts_P = 1 + (strata(draw, len(sizes_P), rng) * sizes_P + rng.integers(sizes_P)) // everywhere
    part = np.repeat(np.arange(len(sizes_P)), sizes_P)
    shuffled = np.lexsort((rng.random(len(part)), part))
    rank = np.empty_like(part)
    rank[shuffled] = np.arange(len(part)) - (np.cumsum(sizes_P) - sizes_P)[part]
    hidden = rank < counts_P[part]
    return hidden, np.where(hidden, (sizes_P / counts_P)[part], 0.0)


ANY_ORDER: dict[QuestionKind, Way] = {
    "continue": Way("bound", ("left", "length"), drawn=True),
    "infill": Way("bound", ("left", "right", "length"), drawn=True),
    "cloze": Way("bound", ("left", "right", "length"), drawn=True),
    "any_order": Way("bound", ("length",), drawn=True),
}
"""What recovers hidden tokens from all others answers so: every question is one about a random order of its tokens."""


def score_hidden(question: Question, mask_id: int, draw: Draw) -> Example:
    """A row in which k of the n tokens that are asked for are hidden, k uniform in 1 .. n, each counting n/k.

    Its loss is an unbiased estimate of the mean, over all orders of these tokens, of their negative log-likelihood in
    that order; see the head of this file.

    Args:
        question: all of its text is read, but for what is hidden.
        mask_id: what a hidden token reads as.
        draw: its strata are those of the number k.
    """
    hidden, weights = hide_by_count(np.array([len(question.target)]), draw, draw.rng)
    tokens, place = question.tokens, slice(len(question.before), len(question.before) + len(question.target))
    targets, weight = np.full(len(tokens), IGNORE), np.zeros(len(tokens))
    targets[place] = np.where(hidden, question.target, IGNORE)
    weight[place] = weights
    return Example(tokens=np.where(targets == IGNORE, tokens, mask_id), targets=targets, weights=weight)


def strata(draw: Draw, parts: int, rng: np.random.Generator) -> np.ndarray:
    """[P] int: which of P * B equal strata each part of a row draws from.

    The parts of a row share out the P coarse strata, in random order. Each coarse stratum has B fine ones, and the rows
    of a global batch share out those, so that all P * B are used once.
    """
    return rng.permutation(parts) * draw.stratum[1] + _place(draw)


def _place(draw: Draw) -> int:
    """This row's one of the B strata of its global batch; every row of a batch has another.

    Which row has which must not depend on what it says. In training the rows of a batch are random. In evaluation they
    follow the text, so all strata are turned by a number that is drawn once for all rows of a pass: each row then has
    any stratum equally often over passes, and the mean over a pass is unbiased also where a batch is incomplete.
    """
    index, size = draw.stratum
    place = int(_spread(size)[index])
    if draw.evaluation:
        shared = replace(draw, row=0).child(_OF_ALL_ROWS)
        place = (place + int(shared.rng.integers(size))) % size
    return place


@lru_cache(maxsize=16)
def _spread(size: int) -> np.ndarray:
    """[size] a permutation whose stretches cover the range evenly: van der Corput's sequence, numbers by rank.

    So a device's share of a global batch, a micro-batch, and the first rows of an evaluation all hold times from low to
    high, and take about equal work.
    """
    index, bits = np.arange(size), max(1, (size - 1).bit_length())
    mirrored = sum(((index >> bit) & 1) << (bits - 1 - bit) for bit in range(bits))
    return np.argsort(np.argsort(mirrored))
