"""From an objective and rows to an explanation.

Legend: L positions of a row.
"""

import itertools
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ntp.data.collate import PADDING_SEGMENT, collate, restart
from ntp.data.example import IGNORE, Batch, Example, Row
from ntp.data.tokenizers import Tokenizer
from ntp.explain.explanation import Array, Component, Counts, Document, ExplainedRow, Explanation, Position
from ntp.explain.facts import component, facts, leaves, sentence
from ntp.explain.pieces import Piece, Pieces
from ntp.explain.source import Source
from ntp.models.attention import visible
from ntp.objectives.base import Objective

SEARCHED_ROWS = 512
"""Rows that are tried until every component of a mixture has made one."""

_IDS = re.compile(r"(targets|tokens|labels)(_|$)")
"""Names of an objective's own arrays that hold token ids."""


def explain(
    objective: Objective,
    tokenizer: Tokenizer,
    source: Source,
    *,
    sequence_length: int,
    name: str = "",
    options: Mapping[str, Any] | None = None,
    row: int = 0,
    sampled: int = 64,
) -> Explanation:
    """Explain what an objective makes of a row.

    Args:
        objective: bound.
        tokenizer: of the run.
        source: of the rows.
        sequence_length: L.
        name: of the option that was chosen.
        options: the objective's arguments.
        row: number of the row.
        sampled: how many rows, or draws of the one text, the averages are over.
    """
    maker = _Maker(objective, tokenizer, source, sequence_length, row)
    wanted, samples, first = set(leaves(objective)), dict[tuple[int, ...], Counts](), dict[tuple[int, ...], int]()
    for number in range(max(sampled, SEARCHED_ROWS)):
        if number >= sampled and first.keys() >= wanted:
            break
        made = maker.make(number)
        path = made.example.component
        first.setdefault(path, number)
        if number < sampled:
            samples.setdefault(path, Counts()).add(maker.count(made))
    options = options or {}
    return Explanation(
        name=name,
        class_name=f"{type(objective).__module__}.{type(objective).__qualname__}",
        sentence=sentence(type(objective)),
        facts=facts(objective, sequence_length, options),
        rows=[
            maker.explain(number, component(objective, path, options) if path else None, samples.get(path, Counts()))
            for path, number in sorted(first.items())
            if path or number == 0
        ],
        sample=Counts().add(*samples.values()),
        sample_of=source.sample,
    )


@dataclass(frozen=True)
class _Made:
    row: Row
    example: Example
    batch: Batch


class _Maker:
    """Makes and explains the examples of a sample."""

    def __init__(
        self, objective: Objective, tokenizer: Tokenizer, source: Source, sequence_length: int, row: int
    ) -> None:
        self.objective, self.tokenizer, self.source = objective, tokenizer, source
        self.sequence_length, self.row = sequence_length, row
        self.pieces = Pieces(tokenizer)

    def make(self, number: int) -> _Made:
        """The number-th example, as the data module makes it."""
        row, draw = self.source.take(self.row, number)
        example = self.objective.corrupt(row, draw)
        batch = collate(
            [example],
            self.sequence_length,
            self.objective.attention,
            self.tokenizer.token_bytes,
            self.tokenizer.padding,
            read_bytes=[int(row.bytes[: len(row) - self.objective.lookahead].sum())],
        )
        return _Made(row, example, batch)

    def count(self, made: _Made) -> Counts:
        """The numbers of one example."""
        (tally,) = made.batch.tallies
        example, trained = made.example, made.example.targets != IGNORE
        kinds = (self.pieces[index].kind for index in example.tokens.tolist())
        return Counts(
            rows=1,
            positions=tally.read_tokens,
            padding=self.sequence_length - tally.read_tokens,
            targets=tally.targets,
            divisor=tally.count,
            weights=float(trained.sum() if example.weights is None else example.weights[trained].sum()),
            corpus_tokens=max(len(made.row) - self.objective.lookahead, 0),
            read_bytes=tally.read_bytes,
            target_bytes=tally.target_bytes,
            special=Counter(kind for kind in kinds if kind != "text"),
        )

    def explain(self, number: int, component: Component | None, sample: Counts) -> ExplainedRow:
        """Everything about one example."""
        made = self.make(number)
        example, batch = made.example, made.batch
        sees = visibility(batch, len(example))
        return ExplainedRow(
            title=f"row {self.source.number(self.row, number):,} of {self.source.rows:,} of {self.source.text}",
            component=component,
            documents=documents(made.row, self.tokenizer),
            lookahead=min(self.objective.lookahead, len(made.row)),
            positions=self._positions(example, batch, sees),
            attention=batch.attention,
            sees=sees,
            arrays=[_described(name, array) for name, array in (example.extra or {}).items()],
            counts=self.count(made),
            sample=sample,
        )

    def _positions(self, example: Example, batch: Batch, sees: np.ndarray) -> list[Position]:
        length, used = self.sequence_length, len(example)
        segments = _segments(batch, used)[0].numpy()
        order = _order(batch)[0].numpy()
        places = restart(segments) if batch.positions is None else batch.positions[0].numpy()
        weights = np.ones(length) if batch.weights is None else batch.weights[0].numpy()
        private = np.zeros(length, dtype=bool) if batch.private is None else batch.private[0].numpy()
        tokens, targets = batch.tokens[0].tolist(), batch.targets[0].tolist()
        padding = Piece("padding", "padding", self.pieces[self.tokenizer.padding].token)
        extra = example.extra or {}
        ids = self._ids(extra)
        return [
            Position(
                index=index,
                reads=padding if segments[index] == PADDING_SEGMENT else self.pieces[tokens[index]],
                predicts=None if targets[index] == IGNORE else self.pieces[targets[index]],
                weight=float(weights[index]),
                order=int(order[index]),
                segment=int(segments[index]),
                place=int(places[index]),
                private=bool(private[index]),
                sees=int(sees[index].sum()),
                further={name: _values(array[index]) for name, array in extra.items()} if index < used else {},
                further_tokens={name: self._piece(array, index) for name, array in ids.items()},
            )
            for index in range(length)
        ]

    def _ids(self, extra: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """[L] each, those of the objective's own arrays that hold token ids; of wider ones each column."""
        found: dict[str, np.ndarray] = {}
        for name, array in extra.items():
            if _IDS.search(name) and np.issubdtype(array.dtype, np.integer):
                columns = array.reshape(len(array), -1).T
                short = name.split("/")[-1]
                found |= {f"{short} {k}" if len(columns) > 1 else short: one for k, one in enumerate(columns, start=1)}
        return found

    def _piece(self, ids: np.ndarray, index: int) -> Piece | None:
        known = index < len(ids) and 0 <= ids[index] < self.tokenizer.vocabulary_size
        return self.pieces[int(ids[index])] if known else None


def visibility(batch: Batch, used: int) -> np.ndarray:
    """[L, L] bool, who may attend to whom in the only row of a batch, by the rule itself.

    Args:
        batch: of one row.
        used: positions that are not padding.
    """
    return visible(_order(batch), _segments(batch, used), batch.private)[0].numpy()


def _order(batch: Batch) -> torch.Tensor:
    if batch.order is not None:
        return batch.order
    if batch.attention == "causal":
        return torch.arange(batch.tokens.shape[1])[None]
    return torch.zeros_like(batch.tokens)


def _segments(batch: Batch, used: int) -> torch.Tensor:
    if batch.segments is not None:
        return batch.segments
    # Left out where the kernel has no need of them: one document, and padding that nobody sees.
    segments = torch.zeros_like(batch.tokens)
    segments[:, used:] = PADDING_SEGMENT
    return segments


def documents(row: Row, tokenizer: Tokenizer) -> list[Document]:
    """The text of a raw row, a piece for each document."""
    ends = row.tokens == tokenizer.end_of_text
    new = np.concatenate(([True], ends[:-1] | (row.segments[1:] != row.segments[:-1])))[: len(row)]
    starts = [*np.flatnonzero(new).tolist(), len(row)]
    return [
        Document(tokenizer.decode(row.tokens[first:behind]), bool(ends[behind - 1]))
        for first, behind in itertools.pairwise(starts)
    ]


def _values(value: Any) -> str:
    numbers = np.asarray(value).reshape(-1)[:8].tolist()
    return " ".join(f"{one:.3g}" if isinstance(one, float) else str(one) for one in numbers)


def _described(name: str, array: np.ndarray) -> Array:
    real = array[array != IGNORE] if np.issubdtype(array.dtype, np.integer) else array
    if not real.size:
        values = "empty"
    elif real.min() == real.max():
        values = f"all {_values(real.min())}"
    else:
        values = f"from {_values(real.min())} to {_values(real.max())}"
    return Array(name, array.shape, str(array.dtype), values)
