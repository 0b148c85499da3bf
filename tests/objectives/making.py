"""Rows, draws and batches for tests of objectives, and a model whose losses are written down."""

from collections.abc import Sequence
from itertools import combinations
from math import comb

import numpy as np
import torch
from torch import Tensor

from ntp.data.collate import collate
from ntp.data.example import Batch, Draw, Example, Row
from ntp.data.special_tokens import MASK
from ntp.data.tokenizers import Bytes
from ntp.models.transformer import Transformer
from ntp.objectives.base import Context, Objective

TOKENIZER = Bytes().train()
MASK_ID, END = TOKENIZER.special_tokens[MASK], TOKENIZER.end_of_text
LETTERS = TOKENIZER.encode("abcdefghijklmnopqrstuvwxyz")


def bound(objective, sequence_length: int = 64):
    """The objective, told about a run."""
    objective.bind(Context(sequence_length, TOKENIZER, width=16, make_stack=lambda layers, width: None))
    return objective


def letters(length: int, segments: Sequence[int] | None = None) -> Row:
    """A row of random letters, each a byte."""
    tokens = np.random.default_rng(length).choice(LETTERS, size=length)
    given = np.zeros(length, dtype=np.int64) if segments is None else np.array(segments)
    return Row(tokens, given, TOKENIZER.token_bytes[tokens])


def draw(row: int = 0, place: int = 0, batch_size: int = 1, *, evaluation: bool = False, epoch: int = 0) -> Draw:
    return Draw(seed=0, epoch=epoch, row=row, stratum=(place, batch_size), evaluation=evaluation)


def batch(objective: Objective, examples: Sequence[Example], sequence_length: int | None = None) -> Batch:
    length = max(map(len, examples)) if sequence_length is None else sequence_length
    return collate(examples, length, objective.attention, TOKENIZER.token_bytes, TOKENIZER.padding)


def transformer(seed: int = 0) -> Transformer:
    """Two layers, with weights large enough for every part of it to matter."""
    torch.manual_seed(seed)
    return Transformer(TOKENIZER.vocabulary_size, width=16, layers=2, heads=4, init_std=0.3).eval()


class Table:
    """A model whose nats are those of a table: for each token of a row, given which tokens of it are hidden.

    Args:
        nats: [2 ** L, L]; the sets of hidden tokens are numbered in binary, the first token as the lowest digit.
    """

    def __init__(self, nats: np.ndarray) -> None:
        self.nats = torch.tensor(nats, dtype=torch.float64)

    @classmethod
    def random(cls, length: int, seed: int = 0) -> "Table":
        """The more is hidden, the more nats a token costs."""
        hidden = np.array([bin(one).count("1") for one in range(2**length)])
        return cls(hidden[:, None] * (0.5 + np.random.default_rng(seed).random((2**length, length))))

    def __call__(self, tokens: Tensor, **rule: object) -> Tensor:
        length = self.nats.shape[1]
        tokens = tokens[:, -length:]  # the noisy copy, where there is a clean one before it
        hidden = self.nats[((tokens == MASK_ID).long() << torch.arange(length)).sum(1)]
        return torch.cat((hidden.new_zeros(len(tokens), 0), hidden), dim=1)[..., None]

    def token_nll(self, hidden: Tensor, targets: Tensor, *, excluded: int | None = None) -> Tensor:
        return hidden[:, 0]

    def given(self, hidden: Sequence[int]) -> np.ndarray:
        """[L] nats of each token where these are hidden."""
        return self.nats[sum(1 << one for one in hidden)].numpy()

    def bound(self) -> float:
        """The bound on the likelihood of the row, by enumeration of all sets of hidden tokens."""
        length = self.nats.shape[1]
        return sum(
            self.given(hidden)[list(hidden)].sum() / (size * comb(length, size))
            for size in range(1, length + 1)
            for hidden in combinations(range(length), size)
        )


def nats_by_batch(objective: Objective, model: object, row: Row, batches: int, size: int, *, evaluation: bool):
    """[batches] the loss of a row, in nats, averaged over full global batches of ``size`` draws of it each."""
    means = []
    for number in range(batches):
        draws = [draw(number * size + place, place, size, evaluation=evaluation, epoch=number) for place in range(size)]
        made = batch(objective, [objective.corrupt(row, one) for one in draws])
        means.append(float(objective.loss(model, made).sum) / size)
    return np.array(means)


def agrees(values: np.ndarray, expected: float, sigmas: float = 5.0, precision: float = 0.02) -> bool:
    """Whether a mean is the expected one within its standard error, which itself must be small."""
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert error < precision * expected, "too few draws to tell"
    return abs(values.mean() - expected) < sigmas * error
