"""What there is to say of an objective and of rows that it made: plain values, nothing to draw with.

Legend: L positions of a row.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ntp.data.collate import PADDING_SEGMENT
from ntp.explain.pieces import Kind, Piece


@dataclass(frozen=True)
class Fact:
    """One thing that is true of the objective: its name, its value, and what that means."""

    name: str
    value: str
    meaning: str = ""


@dataclass(frozen=True)
class Document:
    """A stretch of the row's text that belongs to one document.

    Attributes:
        text: as it is, line breaks and all.
        ends: whether the end of the document follows.
    """

    text: str
    ends: bool


@dataclass(frozen=True)
class Position:
    """One position of the row.

    Attributes:
        index: its place, from 0.
        reads: what the model reads there.
        predicts: what it must predict there; None for nothing.
        weight: of that prediction's loss.
        order: the visibility rank.
        segment: its document, -1 for padding.
        place: what the positional encoding sees.
        private: whether only positions of its own rank see it.
        sees: how many positions it sees.
        further: values of the objective's own arrays, by their names.
        further_tokens: the tokens in those of them that hold ids; None where there is none.
    """

    index: int
    reads: Piece
    predicts: Piece | None
    weight: float
    order: int
    segment: int
    place: int
    private: bool
    sees: int
    further: Mapping[str, str] = field(default_factory=dict)
    further_tokens: Mapping[str, Piece | None] = field(default_factory=dict)

    @property
    def is_padding(self) -> bool:
        """Whether it is there only to fill the row."""
        return self.segment == PADDING_SEGMENT


@dataclass(frozen=True)
class Array:
    """An array of the objective's own.

    Attributes:
        name: the key under which the objective carries it.
        shape: of the array.
        dtype: of the array.
        values: in words.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    values: str


@dataclass
class Counts:
    """Sums over rows.

    Attributes:
        rows: how many.
        positions: read, without padding.
        padding: positions that fill the rows.
        targets: positions with a target.
        divisor: what the loss is divided by.
        weights: sum of the targets' weights.
        corpus_tokens: of the raw rows, without those that are only looked ahead to.
        read_bytes: bytes of text that were read.
        target_bytes: bytes of text that the loss speaks for.
        special: special tokens read, by kind.
    """

    rows: int = 0
    positions: int = 0
    padding: int = 0
    targets: int = 0
    divisor: int = 0
    weights: float = 0.0
    corpus_tokens: int = 0
    read_bytes: int = 0
    target_bytes: int = 0
    special: Counter[Kind] = field(default_factory=Counter)

    def add(self, *others: "Counts") -> "Counts":
        """Count further rows too."""
        for other in others:
            for name, value in vars(other).items():
                setattr(self, name, getattr(self, name) + value)
        return self


@dataclass(frozen=True)
class Component:
    """What made a row of a mixture.

    Attributes:
        name: in the mixture; parted by slashes from that of the mixture that it is in itself.
        sentence: what is learned.
        options: its arguments.
    """

    name: str
    sentence: str
    options: str


@dataclass(frozen=True)
class ExplainedRow:
    """What the objective made of one row.

    Attributes:
        title: where the row comes from.
        component: for a mixture what made it, else None.
        documents: the raw text.
        lookahead: tokens at the raw row's end that are only predicted.
        positions: [L], padding included.
        attention: the kind of kernel.
        sees: [L, L] bool; entry (i, j) says whether position i may attend to position j.
        arrays: the objective's own.
        counts: of this row.
        sample: counts over the rows of the sample that the same component made; of a rare one there may be none.
    """

    title: str
    component: Component | None
    documents: Sequence[Document]
    lookahead: int
    positions: Sequence[Position]
    attention: str
    sees: np.ndarray
    arrays: Sequence[Array]
    counts: Counts
    sample: Counts

    @property
    def used(self) -> Sequence[Position]:
        """The positions that are not padding."""
        return [one for one in self.positions if not one.is_padding]

    @property
    def ranked(self) -> bool:
        """Whether ranks say more than the positions' places do."""
        return self.attention in ("prefix", "ordered")

    @property
    def placed(self) -> bool:
        """Whether the positional encoding sees something else than the places within each document."""
        begins = {one.segment: one.index for one in reversed(self.used)}
        return any(one.place != one.index - begins[one.segment] for one in self.used)

    @property
    def weighted(self) -> bool:
        """Whether some target counts more than another."""
        return any(one.weight != 1 for one in self.positions if one.predicts)


@dataclass(frozen=True)
class Explanation:
    """What an objective makes of rows.

    Attributes:
        name: the option.
        class_name: the class, with its module.
        sentence: what is learned.
        facts: true of the objective whatever the row.
        rows: one, or one for each component of a mixture.
        sample: counts over many rows.
        sample_of: what these rows are.
    """

    name: str
    class_name: str
    sentence: str
    facts: Sequence[Fact]
    rows: Sequence[ExplainedRow]
    sample: Counts
    sample_of: str

    @property
    def mixed(self) -> bool:
        """Whether several objectives make the rows."""
        return any(row.component for row in self.rows)
