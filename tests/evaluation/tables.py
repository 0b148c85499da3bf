"""Models whose predictions are written down, and runs of them."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ntp.evaluation.candidate import Candidate
from ntp.models import head
from ntp.models.base import LanguageModel
from ntp.objectives.base import Objective
from ntp.objectives.causal import Causal
from tests.objectives.making import LETTERS, TOKENIZER, bound

SIZE = TOKENIZER.vocabulary_size


class Bigrams(LanguageModel):
    """The logits of a row of a table, which the token that is read chooses.

    Args:
        logits_VV: by what is read, and by what is predicted.
        known: places of a row at which it does so; behind them all tokens are as likely.
    """

    def __init__(self, logits_VV: np.ndarray, known: int | None = None) -> None:
        super().__init__()
        self.vocabulary_size, self.width, self.context_length, self.known = SIZE, SIZE, None, known
        self.table = torch.tensor(logits_VV, dtype=torch.float32)

    def forward(self, tokens_BL: Tensor, **rule: Any) -> Tensor:
        hidden_BLV = self.table[tokens_BL].clone()
        if self.known is not None:
            hidden_BLV[:, self.known :] = 0
        return hidden_BLV

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden

    def token_nll(self, hidden_ND: Tensor, targets_N: Tensor, *, excluded: int | None = None) -> Tensor:
        return head.token_nll(hidden_ND, torch.eye(SIZE), targets_N, excluded=excluded)

    def forward_flops(self, length: int, targets: int) -> int:
        return 0


def letters_bigrams(seed: int = 0) -> np.ndarray:
    """[V, V] logits of a language of small letters, behind anything, and of nothing else."""
    logits_VV = np.full((SIZE, SIZE), -60.0)
    logits_VV[:, LETTERS] = 2 * np.random.default_rng(seed).standard_normal((SIZE, len(LETTERS)))
    return logits_VV


def spoken(logits_VV: np.ndarray, length: int, seed: int = 0) -> str:
    """A text of a language of bigrams."""
    rng, ids = np.random.default_rng(seed), [TOKENIZER.end_of_text]
    odds_VV = np.exp(logits_VV - logits_VV.max(1, keepdims=True))
    odds_VV /= odds_VV.sum(1, keepdims=True)
    for _ in range(length):
        ids.append(int(rng.choice(SIZE, p=odds_VV[ids[-1]])))
    return TOKENIZER.decode(ids[1:])


def candidate(model: LanguageModel, objective: Objective | None = None, room: int = 64, **changes: Any) -> Candidate:
    """A run of a model, of isolated documents."""
    objective = bound(Causal() if objective is None else objective, room)
    return Candidate(model.eval(), objective, TOKENIZER, isolated=True, room=room, **changes)
