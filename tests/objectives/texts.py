"""Texts as rows, for tests of objectives that cut them, and statistics of what was drawn."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ntp.data.example import Draw, Example, Row
from ntp.data.tokenizers import BytePair, Bytes, Characters, Tokenizer
from ntp.data.windows import Windows
from ntp.models.attention import visible
from ntp.objectives.base import Context, Objective

PROSE = [
    f"The {number % 7}th ship left harbour {number} days ago, with naïve hopes; 日本語 and 🙂🙃 were aboard.\n"
    for number in range(200)
]
BYTES = Bytes().train()
SUBWORDS = BytePair(600, sentinels=32).train(PROSE)
LETTERS = Characters().train(PROSE)
TOKENIZERS = {"bytes": BYTES, "subwords": SUBWORDS, "characters": LETTERS}

# Few characters, so that tokens repeat; of one to four bytes; and empty documents.
ANY_TEXT = st.text(alphabet=" abé日🙂\n", max_size=40) | st.sampled_from(["", "a", "🙂", *PROSE[:3]])
DOCUMENTS = st.lists(ANY_TEXT, min_size=1, max_size=8)


class Store:
    """Documents as a token store in memory, each with its end-of-text token."""

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer) -> None:
        encoded = tokenizer.encode_batch(list(texts))
        end, nothing = [tokenizer.end_of_text], [0]
        self.tokens = np.concatenate([part for ids, _ in encoded for part in (ids, end)]).astype(np.int64)
        self.bytes = np.concatenate([part for _, counts in encoded for part in (counts, nothing)]).astype(np.int64)
        self.offsets = np.cumsum([0, *(len(ids) + 1 for ids, _ in encoded)])


def bound(objective: Objective, length: int = 64, tokenizer: Tokenizer = BYTES) -> Any:
    """The objective, told about a run."""
    objective.bind(Context(length, tokenizer, width=16, make_stack=lambda layers, width: None))
    return objective


def draw(row: int = 0, epoch: int = 0) -> Draw:
    return Draw(seed=0, epoch=epoch, row=row, stratum=(0, 1))


def rows(
    texts: Sequence[str],
    objective: Objective,
    documents: Any = "concatenate",
    tokenizer: Tokenizer = BYTES,
    length: int = 64,
) -> list[Row]:
    """Windows of the texts as a run cuts them; none if there is too little text to predict."""
    store: Any = Store(texts, tokenizer)
    stride = objective.raw_length(length) - objective.lookahead
    if len(store.tokens) <= objective.lookahead:
        return []
    windows = Windows(store, stride, objective.lookahead, documents, wrap=False)
    return [windows.row(index) for index in range(len(windows))]


def row_of(tokens: Sequence[int], segments: Sequence[int] | None = None, tokenizer: Tokenizer = BYTES) -> Row:
    """A row of given tokens."""
    given = np.array(tokens, dtype=np.int64)
    own = np.zeros_like(given) if segments is None else np.array(segments)
    return Row(given, own, tokenizer.token_bytes[given])


def seen(example: Example) -> np.ndarray:
    """[L, L] bool, who sees whom by the rule of attention."""
    import torch

    assert example.order is not None
    segments = np.zeros(len(example), dtype=np.int64) if example.segments is None else example.segments
    return visible(torch.tensor(example.order)[None], torch.tensor(segments)[None])[0].numpy()


def distance(observed: Iterable[Hashable], expected: Mapping[Any, float]) -> float:
    """Pearson's chi-square of draws against probabilities, in standard deviations above its mean.

    Raises:
        AssertionError: something was drawn that has no probability.
    """
    counts = Counter(observed)
    assert counts.keys() <= expected.keys()
    total = counts.total()
    square = sum((counts[key] - total * share) ** 2 / (total * share) for key, share in expected.items())
    freedom = len(expected) - 1
    return (square - freedom) / np.sqrt(2 * freedom)


def off(values: Sequence[float] | np.ndarray, mean: float) -> float:
    """How many standard errors the mean of draws is away from another."""
    values = np.asarray(values, dtype=np.float64)
    return abs(values.mean() - mean) / (values.std(ddof=1) / np.sqrt(len(values)))
