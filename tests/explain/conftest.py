"""Small objectives that show what an explanation must tell apart, and rows to explain them on."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import nn

from ntp.config.schema import DataConfig
from ntp.data.example import IGNORE, Draw, Example, Row
from ntp.data.special_tokens import MASK
from ntp.data.tokenizers import Bytes, Tokenizer
from ntp.explain import Explanation, explain, text_source
from ntp.objectives.base import Context, Objective


class Masked(Objective):
    """Every third token is hidden, and predicted from all others.

    A second paragraph that nobody should see.
    """

    attention = "full"
    likelihood = "pseudo"
    inference = frozenset({"infill"})

    def special_tokens(self) -> tuple[str, ...]:
        return (MASK,)

    def bind(self, context: Context) -> None:
        self.mask = context.special_ids[MASK]

    def corrupt(self, row: Row, draw: Draw) -> Example:
        hidden = np.arange(len(row)) % 3 == 0
        return Example(
            tokens=np.where(hidden, self.mask, row.tokens),
            targets=np.where(hidden, row.tokens, IGNORE),
            segments=row.segments,
            target_bytes=np.where(hidden, row.bytes, 0),
        )


class TwoCopies(Masked):
    """A clean copy, and a private noisy one whose positions each see what stands before them in the clean one."""

    attention = "ordered"
    likelihood = "bound"

    def raw_length(self, sequence_length: int) -> int:
        return sequence_length // 2

    def corrupt(self, row: Row, draw: Draw) -> Example:
        length, nothing = len(row), np.full(len(row), IGNORE)
        rank = np.arange(length)
        hidden = draw.rng.random(length) < 0.5
        return Example(
            tokens=np.concatenate([row.tokens, np.where(hidden, self.mask, row.tokens)]),
            targets=np.concatenate([nothing, np.where(hidden, row.tokens, IGNORE)]),
            weights=np.concatenate([np.ones(length), np.full(length, 2.5)]),
            order=np.concatenate([2 * rank + 1, 2 * rank]),
            private=np.repeat([False, True], length),
            segments=np.concatenate([row.segments, row.segments]),
            positions=np.concatenate([rank, rank]),
            count=length,
            extra={
                "noise": np.linspace(0, 1, 2 * length, dtype=np.float32),
                "further_targets": np.concatenate([row.tokens, nothing]),
            },
        )


class Chosen(Objective):
    """One of several objectives, by the row's own draw."""

    attention = "ordered"
    likelihood = "none"

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([Masked(), TwoCopies()])
        self.component_names = ["hidden", "copied"]

    def raw_length(self, sequence_length: int) -> int:
        return sequence_length // 2

    def bind(self, context: Context) -> None:
        for part in self.parts:
            part.bind(context)

    def corrupt(self, row: Row, draw: Draw) -> Example:
        # The first comes seldom: more often than not in none of a few rows.
        index = int(draw.rng.random() > 0.05)
        made = self.parts[index].corrupt(row, draw.child(index))
        order = np.zeros(len(made), dtype=np.int64) if made.order is None else made.order
        fields = {name: getattr(made, name) for name in Example.__slots__ if name not in ("order", "component")}
        return Example(**fields, order=order, component=(index,))


TWO_DOCUMENTS = "def area(width):\n    return width\n<|endoftext|>x = 'é'\n"


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Bytes().train()


@pytest.fixture(scope="session")
def explained(tokenizer: Tokenizer) -> Callable[..., Explanation]:
    """Explain an objective on a literal text."""

    def explained(
        objective: Objective,
        text: str = TWO_DOCUMENTS,
        length: int = 48,
        documents: str = "isolate",
        name: str = "option",
        seed: int = 0,
        **options: Any,
    ) -> Explanation:
        objective.bind(Context(length, tokenizer, width=8, make_stack=lambda layers, width: nn.Identity()))
        data = DataConfig.model_construct(sequence_length=length, documents=documents, batch_size=1)
        source = text_source(text, tokenizer, objective, data, seed)
        return explain(objective, tokenizer, source, sequence_length=length, name=name, **options)

    return explained
