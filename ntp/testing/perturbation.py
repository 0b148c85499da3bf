"""Change one token, and see what else changes: in the example, and in the hidden states that predictions are made from.

Legend: B variants of a row, L positions, N predictions of a row, D width, R tokens of the raw row.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from ntp.data.example import IGNORE, Attention, Example
from ntp.models.attention import visible
from ntp.testing.bench import Bench, Sample, Subject
from ntp.testing.corpus import MemoryStore, twins
from ntp.testing.errors import NotApplicable

Kernel = Literal["declared", "mask", "flex"]
"""That of the attention which the objective declares; the general rule as a dense mask; FlexAttention, uncompiled."""

NOISE = 1e-6
"""Hidden states that differ by less, relative to their size, are equal: both went through the same kernels."""


@dataclass(frozen=True)
class Variants:
    """A row, and the same with other text at some places, corrupted by the same draw.

    Attributes:
        sample: the row.
        base: its example.
        examples: those of the variants; all have the structure of ``base``.
        places: the raw positions at which each variant has another token, those outside of the row left out.
        incomparable: variants that were left out, because their examples differ in more than that.
    """

    sample: Sample
    base: Example
    examples: list[Example]
    places: list[np.ndarray]
    incomparable: int


@dataclass(frozen=True)
class Prediction:
    """What one call of the head predicts, in a row and in its variants.

    Attributes:
        positions: [N] of each prediction in the row, None where the call does not tell.
        targets: [N], `IGNORE` for none.
        variant_targets: [B, N].
        moved: [B, N] bool, whether the hidden state differs from that of the row.
    """

    positions: np.ndarray | None
    targets: np.ndarray
    variant_targets: np.ndarray
    moved: np.ndarray

    def place(self, index: int) -> str:
        """Where a prediction is made, in words."""
        return (
            f"prediction {index} of a further head" if self.positions is None else f"position {self.positions[index]}"
        )


def vary(bench: Bench, subject: Subject, sample: Sample, groups: Sequence[np.ndarray]) -> Variants:
    """Corrupt a row anew for each group of raw positions whose tokens are replaced by others of the same kind.

    Variants whose example has another structure than that of the row are left out: their positions can't be compared.
    So are those of a single token in which other targets change than that token, as where a text is encoded anew.

    Args:
        bench: of the row.
        subject: the objective.
        sample: a row of windows that do not wrap around.
        groups: raw positions, counted from the beginning of the row; some may lie outside of it.
    """
    twin_V = twins(bench.tokenizer)
    windows = sample.windows
    store = windows.store
    assert isinstance(store, MemoryStore)
    begin = sample.index * windows.stride
    base = subject.objective.corrupt(sample.row, sample.draw)
    kept: list[np.ndarray] = []
    examples: list[Example] = []
    incomparable = 0
    for group in groups:
        flat = begin + group
        flat = flat[(flat >= 0) & (flat < len(store.tokens))]
        flat = flat[twin_V[store.tokens[flat]] >= 0]
        if not len(flat):
            continue
        changed = bench.windows(windows.documents, store.replaced(flat, twin_V[store.tokens[flat]]))
        example = subject.objective.corrupt(changed.row(sample.index), sample.draw)
        if not alike(base, example) or (len(flat) == 1 and not _same_but(base, example, store.tokens[flat[0]], twin_V)):
            incomparable += 1
            continue
        examples.append(example)
        inside = flat - begin
        kept.append(inside[(inside >= 0) & (inside < len(sample.row))])
    return Variants(sample, base, examples, kept, incomparable)


def _same_but(base: Example, example: Example, token: int, twin_V: np.ndarray) -> bool:
    changed = base.targets != example.targets
    return bool((base.targets[changed] == token).all() and (example.targets[changed] == twin_V[token]).all())


def alike(one: Example, other: Example) -> bool:
    """Whether two examples differ in nothing but which text is read and predicted at each position."""
    if len(one) != len(other) or one.component != other.component:
        return False
    for name in ("order", "private", "segments", "positions"):
        left, right = getattr(one, name), getattr(other, name)
        if (left is None) != (right is None) or (left is not None and not np.array_equal(left, right)):
            return False
    ours, theirs = one.extra or {}, other.extra or {}
    return np.array_equal(one.targets == IGNORE, other.targets == IGNORE) and all(
        name in theirs and np.array_equal(array == IGNORE, theirs[name] == IGNORE) for name, array in ours.items()
    )


class Recorder:
    """A model that remembers the hidden states and targets of every prediction, and spares itself the head.

    Args:
        model: whose hidden states are used.
        kernel: which one computes them.
    """

    def __init__(self, model: Any, kernel: Kernel = "declared") -> None:
        self.model, self.kernel = model, kernel
        self.predictions: list[tuple[Tensor, Tensor]] = []

    def __call__(self, tokens: Tensor, **fields: Any) -> Any:
        """The model's hidden states."""
        if self.kernel != "declared":
            fields = by_the_general_rule(tokens, fields)
        return self.model(tokens, **fields)

    def token_nll(self, hidden: Tensor, targets: Tensor, *, excluded: int | None = None) -> Tensor:
        """Zeros that are connected to the graph."""
        self.predictions.append((hidden.detach().float(), targets.detach()))
        return 0.0 * hidden.float().sum(-1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


def by_the_general_rule(tokens: Tensor, fields: dict[str, Any]) -> dict[str, Any]:
    """The keywords of a forward, with the order that its attention stands for."""
    attention, changed = fields.get("attention", "causal"), dict(fields)
    if changed.get("order") is None:
        index = torch.arange(tokens.shape[1]).expand_as(tokens)
        changed["order"] = index if attention == "causal" else torch.zeros_like(index)
    return changed | {"attention": "ordered"}


@contextlib.contextmanager
def running(kernel: Kernel) -> Iterator[None]:
    """Let the models of this process use a kernel, where they have the choice."""
    if kernel != "flex":
        yield
        return
    with mock.patch("ntp.models.flex.usable", return_value=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "flex_attention called without torch.compile")  # as is meant
        yield


def record(bench: Bench, subject: Subject, examples: Sequence[Example], kernel: Kernel = "declared") -> Recorder:
    """Every prediction of a batch of examples.

    Raises:
        NotApplicable: nothing is predicted through the model's head.
    """
    recorder = Recorder(subject.model, kernel)
    with torch.no_grad(), running(kernel):
        subject.loss(bench.collated(subject, examples), recorder)
    if not recorder.predictions:
        raise NotApplicable("the loss asks the model's head nothing")
    return recorder


def compare(
    bench: Bench, subject: Subject, base: Example, variants: Sequence[Example], kernel: Kernel = "declared"
) -> list[Prediction]:
    """Run a row and its variants through the model, and see which predictions are made from something else.

    Row and variants go through in batches of one shape, in which equal rows give equal numbers to the last bit.

    Raises:
        NotApplicable: nothing is predicted through the model's head, or the calls of the head can't be compared.
    """
    rows = len(variants)
    before = record(bench, subject, [base] * rows, kernel).predictions
    after = record(bench, subject, variants, kernel).predictions
    shapes = [[hidden.shape for hidden, _ in calls] for calls in (before, after)]
    if shapes[0] != shapes[1] or any(shape[0] % rows for shape in shapes[0]):
        raise NotApplicable("the calls of the head differ from row to row")
    trained = np.flatnonzero(base.targets != IGNORE)
    found = []
    for (old_ND, targets), (new_ND, new_targets) in zip(before, after, strict=True):
        size = old_ND.shape[0] // rows
        if not size:
            continue
        old, new = old_ND.reshape(rows, size, -1), new_ND.reshape(rows, size, -1)
        scale = old.square().mean().sqrt().clamp_min(1e-30)
        moved = ((new - old).abs().amax(-1) / scale > NOISE).numpy()
        positions = trained if size == len(trained) else None
        if positions is None and size == bench.sequence_length:
            positions = np.arange(size)
        one_row = targets.reshape(rows, size)[0].numpy()
        found.append(Prediction(positions, one_row, new_targets.reshape(rows, size).numpy(), moved))
    return found


def order_of(example: Example, attention: Attention) -> np.ndarray:
    """[L] visibility ranks, also where the attention says them."""
    if example.order is not None:
        return example.order
    return np.arange(len(example)) if attention == "causal" else np.zeros(len(example), dtype=np.int64)


def sight(example: Example, attention: Attention) -> np.ndarray:
    """[L, L] bool, who sees whom by the rule of attention."""
    order = torch.from_numpy(np.asarray(order_of(example, attention)))[None]
    segments = None if example.segments is None else torch.from_numpy(np.asarray(example.segments))[None]
    private = None if example.private is None else torch.from_numpy(np.asarray(example.private))[None]
    return visible(order, segments, private)[0].numpy()


def closure(seen: np.ndarray) -> np.ndarray:
    """[L, L] bool, what reaches whom through any number of layers."""
    reached = seen
    while True:
        further = (reached.astype(np.int64) @ reached.astype(np.int64)) > 0
        if np.array_equal(further, reached):
            return reached
        reached = further


def other_tokens(bench: Bench, example: Example) -> list[Example]:
    """For each position the example with another token read there."""
    first, second = bench.tokenizer.text_ids[:2].tolist()
    changed = []
    for position, token in enumerate(example.tokens.tolist()):
        tokens = example.tokens.copy()
        tokens[position] = second if token == first else first
        changed.append(replace(example, tokens=tokens))
    return changed
