"""What a model says at every target of its answers: how sure it is, whether it is right, and at what temperature.

The rows are those that `Objective.score` makes, so that the losses here are those of the exams. Of the logits of a
target only this is kept: how far its own logit is below the largest, and, for some temperatures, the logarithm of the
sum that divides its probabilities. With z the logits, b = 1/T the inverse temperature, and

    S(b) = ln sum over v of exp(-b (max z - z_v)),

the negative log-likelihood of a target y is S(b) + b (max z - z_y), the probability of the likeliest token exp(-S(b)),
and the entropy S(b) - b S'(b). S is smooth, so a few values of b with their slopes are enough to have it anywhere.

Legend: N targets, D width, V vocabulary, G inverse temperatures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ntp.data.example import Batch
from ntp.evaluation.candidate import AskedRow, Candidate
from ntp.evaluation.drawing import draw_keys
from ntp.evaluation.fitting import fitted
from ntp.models.base import LanguageModel
from ntp.objectives.base import Objective, target_states
from ntp.objectives.question import Question, QuestionKind

HOTTEST, COLDEST = 8.0, 1 / 8
"""Temperatures between which everything here is known."""

_STEPS = 2  # inverse temperatures in a factor of two
_FIRST = -3 * _STEPS  # of the lowest one, 1/8; 1 is one of them
_INVERSE = 2.0 ** (np.arange(_FIRST, 4 * _STEPS + 1) / _STEPS)  # up to 16: a Brier score asks for twice its own
_ONE = -_FIRST

_LOGITS_AT_ONCE = 2**20


@dataclass(frozen=True)
class RowPredictions:
    """What a model says at the N targets of one row.

    Attributes:
        token: [N] int64, the target.
        position: [N] int64, what the positional encoding sees where the target is predicted. From left to right it is
            one less than the tokens that stand before; where hidden tokens are filled in it is their own place.
        weight: [N] float64, how much its loss counts.
        right: [N] bool, whether the target is the likeliest token.
        gap: [N] float64, how far its logit is below the largest.
        normalizers: [N, G] float64, S(b) for each inverse temperature.
        slopes: [N, G] float64, dS / d ln b.
    """

    token: np.ndarray
    position: np.ndarray
    weight: np.ndarray
    right: np.ndarray
    gap: np.ndarray
    normalizers: np.ndarray
    slopes: np.ndarray


@dataclass(frozen=True)
class Predictions(RowPredictions):
    """Those of the answers to some questions. The weights are divided by the number of draws.

    Attributes:
        question: [N] int64, the number of the question.
        draw: [N] int64, which estimate it belongs to.
        draws: how many estimates there are.
        unanswered: numbers of questions that are longer than a row.
        shortened: how many questions were asked piece by piece or with less context than there is.
    """

    question: np.ndarray
    draw: np.ndarray
    draws: int
    unanswered: tuple[int, ...]
    shortened: int

    def __len__(self) -> int:
        return len(self.token)

    @property
    def finite(self) -> bool:
        """Whether all of it is numbers; what a model says that has diverged is not."""
        return all(bool(np.isfinite(one).all()) for one in (self.gap, self.normalizers, self.slopes))

    def normalizer(self, temperature: float = 1.0) -> np.ndarray:
        """[N] S(1/T)."""
        return interpolated(self.normalizers, self.slopes, temperature)

    def nll(self, temperature: float = 1.0) -> np.ndarray:
        """[N] nats, not weighted."""
        return self.normalizer(temperature) + self.gap / temperature

    def confidence(self, temperature: float = 1.0) -> np.ndarray:
        """[N], the probability of the likeliest token."""
        return np.exp(-self.normalizer(temperature))

    def brier(self, temperature: float = 1.0) -> np.ndarray:
        """[N], the squared distance between the probabilities and the truth, from 0 to 2 (Brier 1950)."""
        squares = np.exp(self.normalizer(temperature / 2) - 2 * self.normalizer(temperature))
        return squares - 2 * np.exp(-self.nll(temperature)) + 1

    @property
    def entropy(self) -> np.ndarray:
        """[N] nats."""
        return self.normalizers[:, _ONE] - self.slopes[:, _ONE]

    def renumbered(self, numbers: np.ndarray) -> Predictions:
        """With other numbers of questions, [Q]; several may become one."""
        return replace(self, question=numbers[self.question])

    @staticmethod
    def joined(several: Sequence[Predictions]) -> Predictions:
        """Of the same questions, at one target after the other."""
        arrays: dict[str, Any] = {
            one.name: np.concatenate([getattr(each, one.name) for each in several])
            for one in fields(Predictions)
            if isinstance(getattr(several[0], one.name), np.ndarray)
        }
        return replace(several[0], **arrays)

    def chosen(self, which: np.ndarray) -> Predictions:
        """Some of the targets, by a mask [N]."""
        arrays: dict[str, Any] = {
            one.name: getattr(self, one.name)[which]
            for one in fields(Predictions)
            if isinstance(getattr(self, one.name), np.ndarray)
        }
        return replace(self, **arrays)


def predict(candidate: Candidate, part: Objective, questions: Sequence[Question], draws: int) -> Predictions:
    """Ask a model, and keep what it says at every target.

    Args:
        candidate: whose model it is; rows are as long as its ``room``.
        part: of its objective, which answers questions of this kind.
        questions: in tokens of the run.
        draws: estimates of each.
    """
    rows: list[AskedRow] = []
    unanswered: list[int] = []
    shortened = 0
    for number, (question, key) in enumerate(zip(questions, draw_keys(questions), strict=True)):
        pieces = fitted(question, part.score_length, candidate.room)
        rows += candidate.rows(part, number, key, pieces, draws)
        if not pieces:
            unanswered.append(number)
        elif pieces != [question]:
            shortened += 1
    found = list(candidate.read(part, rows, look))
    return Predictions(
        **{one.name: _joined([getattr(row, one.name) for _, row in found], one.name) for one in fields(RowPredictions)}
        | {"weight": _joined([row.weight for _, row in found], "weight") / draws},
        question=np.repeat([row.question for row, _ in found], [len(row.token) for _, row in found]).astype(np.int64),
        draw=np.repeat([row.draw for row, _ in found], [len(row.token) for _, row in found]).astype(np.int64),
        draws=draws,
        unanswered=tuple(unanswered),
        shortened=shortened,
    )


def preferred_kind(candidate: Candidate, otherwise: Sequence[QuestionKind]) -> QuestionKind | None:
    """What a run is asked: to continue a text where it does that exactly, else the first of these that it can."""
    left_to_right = candidate.way("continue")
    if left_to_right is not None and left_to_right.likelihood == "exact":
        return "continue"
    return next((kind for kind in otherwise if candidate.way(kind) is not None), None)


def has_predictions(part: Objective) -> bool:
    """Whether the losses of its answers are those of the model's head, so that there are logits to look at."""
    return type(part).nll is Objective.nll


def _joined(arrays: list[np.ndarray], name: str) -> np.ndarray:
    if arrays:
        return np.concatenate(arrays)
    return np.zeros((0, len(_INVERSE)) if name in ("normalizers", "slopes") else 0)


def look(part: Objective, model: LanguageModel, batch: Batch) -> list[RowPredictions]:
    """What the model says at the targets of each row of a batch."""
    states = target_states(model, batch)
    length = batch.tokens.shape[1]
    index_N = torch.arange(batch.rows * length, device=batch.tokens.device) if states.index is None else states.index
    position_N = index_N % length if batch.positions is None else batch.positions.flatten()[index_N]
    weight_N = torch.ones_like(position_N, dtype=torch.float32) if states.weights is None else states.weights
    at_once = max(1, _LOGITS_AT_ONCE // model.vocabulary_size)
    inverse_G = torch.tensor(_INVERSE, dtype=torch.float32).tolist()
    parts = [
        _summary(model.logits(hidden), targets, inverse_G, part.excluded)
        for hidden, targets in zip(states.hidden.split(at_once), states.targets.split(at_once), strict=True)
    ]
    said = [torch.cat([one[place] for one in parts]).double().cpu().numpy() for place in range(4)]
    right_N, gap_N, normalizers_NG, slopes_NG = said
    columns = [
        states.targets.cpu().numpy(),
        position_N.cpu().numpy(),
        weight_N.double().cpu().numpy(),
        right_N.astype(bool),
        gap_N,
        normalizers_NG,
        slopes_NG,
    ]
    ends = np.cumsum([tally.targets for tally in batch.tallies])[:-1]
    return [RowPredictions(*one) for one in zip(*(np.split(column, ends) for column in columns), strict=True)]


def _summary(
    logits_NV: Tensor, targets_N: Tensor, inverse_G: list[float], excluded: int | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `RowPredictions` keeps of logits: right and gap [N], normalizers and slopes [N, G]."""
    logits_NV = logits_NV.float()
    if excluded is not None:
        logits_NV[:, excluded] = -torch.inf
    largest_N, likeliest_N = logits_NV.max(-1)
    below_NV = largest_N[:, None] - logits_NV
    gap_N = below_NV.gather(1, targets_N[:, None])[:, 0]
    # A token of probability 0 adds nothing to either sum, and infinity times 0 is no number.
    finite_NV = below_NV if excluded is None else below_NV.masked_fill(below_NV == torch.inf, 0.0)
    normalizers, slopes = [], []
    for inverse in inverse_G:
        shares_NV = torch.exp(-inverse * below_NV)
        total_N = shares_NV.sum(-1)
        normalizers.append(total_N.log())
        slopes.append(-inverse * torch.linalg.vecdot(shares_NV, finite_NV) / total_N)
    return likeliest_N == targets_N, gap_N, torch.stack(normalizers, -1), torch.stack(slopes, -1)


def interpolated(values: np.ndarray, slopes: np.ndarray, temperature: float, derivative: int = 0) -> np.ndarray:
    """A smooth function of ln b, [..., G] values and slopes at the inverse temperatures, at 1/T; or its derivatives.

    Cubic between two of them (Hermite), so exact in value and slope at each of them.

    Args:
        values, slopes: [..., G].
        temperature: T.
        derivative: 0, 1 or 2, by ln b.
    """
    place = -_STEPS * math.log2(temperature) - _FIRST
    low = min(max(math.floor(place), 0), len(_INVERSE) - 2)
    step, x = math.log(2) / _STEPS, place - low
    if not -1e-9 <= x <= 1 + 1e-9:
        raise ValueError(f"nothing is known at the temperature {temperature}")
    if derivative == 0:
        first, second = 2 * x**3 - 3 * x**2 + 1, x**3 - 2 * x**2 + x
        third, fourth = 3 * x**2 - 2 * x**3, x**3 - x**2
    elif derivative == 1:
        first, second = 6 * x**2 - 6 * x, 3 * x**2 - 4 * x + 1
        third, fourth = 6 * x - 6 * x**2, 3 * x**2 - 2 * x
    else:
        first, second, third, fourth = 12 * x - 6, 6 * x - 4, 6 - 12 * x, 6 * x - 2
    mixed: np.ndarray = first * values[..., low] + second * step * slopes[..., low]
    mixed = mixed + third * values[..., low + 1] + fourth * step * slopes[..., low + 1]
    return mixed / step**derivative
