"""What each prediction is made from: nothing that it must not know, and all that it should.

Each check changes tokens and looks at the hidden states that go into the head, through the objective's own loss and a
real model. An objective that encodes text anew is given rows of single bytes: there one changed byte is one changed
token.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ntp.data.example import IGNORE, Example
from ntp.testing.bench import REGIMES, Bench, Sample, Subject
from ntp.testing.errors import Broken, NotApplicable
from ntp.testing.perturbation import (
    Kernel,
    Prediction,
    Variants,
    by_the_general_rule,
    closure,
    compare,
    order_of,
    other_tokens,
    running,
    sight,
    vary,
)
from ntp.testing.registry import check


@check(quick=True)
def no_target_is_seen(bench: Bench) -> None:
    """No position that is trained can see its own target."""
    asked = shown = 0
    for here, subject, variants, kernel in _rows(bench):
        for one in compare(here, subject, variants.base, variants.examples, kernel):
            new = one.variant_targets != one.targets
            asked += int((new & (one.targets != IGNORE)).sum())
            for variant, index in zip(*np.nonzero(new & one.moved & (one.targets != IGNORE)), strict=True):
                copied = _reads_its_target(one, variants, int(variant), int(index))
                if copied and subject.objective.shows_some_targets:
                    shown += 1
                    continue
                raw = int(variants.places[variant][0])
                problem = (
                    f"{variants.sample}, {one.place(int(index))}: what predicts token {raw} of the row changes when "
                    f"that token changes ({subject.label}, {kernel} kernel)"
                )
                hint = (
                    "a shift of the targets by 0; if on purpose, as BERT's unchanged tokens, set shows_some_targets"
                    if copied
                    else "targets where the position can look at them: on a bidirectional prefix, rolled around the "
                    "end of the row, in a copy that should be private, or behind an order of the wrong sign"
                )
                raise Broken(problem, hint)
    if not asked:
        raise NotApplicable("no text token is predicted through the model's head, or no two rows can be compared")
    if shown > asked / 2:
        problem = f"{shown} of {asked} targets are read at their own position"
        raise Broken(problem, "shows_some_targets, which is meant for a few")


def _reads_its_target(prediction: Prediction, variants: Variants, variant: int, index: int) -> bool:
    if prediction.positions is None:
        return False
    position = int(prediction.positions[index])
    if position >= len(variants.base):
        return False
    return bool(
        variants.base.tokens[position] == prediction.targets[index]
        and variants.examples[variant].tokens[position] == prediction.variant_targets[variant, index]
    )


@check(quick=True)
def every_token_is_used(bench: Bench) -> None:
    """A token that is read is predicted too, or has a part in predictions of its document."""
    compared = 0
    for here, subject, variants, kernel in _rows(bench, kernels=("declared",)):
        attention = subject.objective.attention
        strict = attention != "ordered" and len(subject.objective.attentions) == 1
        base = variants.base
        order = order_of(base, attention)
        segments = np.zeros(len(base), dtype=np.int64) if base.segments is None else base.segments
        predictions = compare(here, subject, base, variants.examples, kernel)
        if not predictions:
            continue
        has_a_part = np.array([(one.moved & (one.targets != IGNORE)).any(1) for one in predictions])
        influences = np.logical_or.reduce(has_a_part, axis=0)
        for number, example in enumerate(variants.examples):
            asked = example.targets != base.targets
            asked_further = any((one.variant_targets[number] != one.targets).any() for one in predictions)
            read = np.flatnonzero(example.tokens != base.tokens)
            compared += 1
            if not len(read) or influences[number] or (asked_further and strict):
                continue
            trained = (base.targets != IGNORE) & np.isin(segments, segments[read]) & ~asked
            if not strict:
                trained &= order > order[read].min()
            if trained.any():
                raw = int(variants.places[number][0])
                position, later = int(read[0]), int(np.flatnonzero(trained)[-1])
                problem = (
                    f"{variants.sample}, position {position}: token {raw} of the row is read there, and no prediction "
                    f"depends on it, not even that of position {later} ({subject.label})"
                )
                hint = (
                    "attention that is too narrow (a causal kernel for a bidirectional objective), an order of the "
                    "wrong sign, or the wrong positions marked private"
                )
                raise Broken(problem, hint)
    if not compared:
        raise NotApplicable("no two rows can be compared")


@check()
def predictions_follow_the_rule(bench: Bench) -> None:
    """A prediction depends on all positions that the rule of attention lets it see, and on no others."""
    compared = 0
    for subject in bench.subjects:
        attention = subject.objective.attention
        for documents in REGIMES:
            for sample in bench.full_samples(documents, 2):
                base = subject.objective.corrupt(sample.row, sample.draw)
                if not (base.targets != IGNORE).any():
                    continue
                seen = sight(base, attention)
                reached = closure(seen)
                for one in compare(bench, subject, base, other_tokens(bench, base))[:1]:
                    if one.positions is None:
                        continue
                    compared += 1
                    inside = np.flatnonzero(one.positions < len(base))
                    positions = one.positions[inside]
                    trained = one.targets[inside] != IGNORE
                    moved = one.moved[:, inside].T
                    for wrong, what in (
                        (moved & ~reached[positions], "depends on"),
                        (~moved & seen[positions], "does not depend on"),
                    ):
                        wrong &= trained[:, None]
                        if wrong.any():
                            index, other = np.argwhere(wrong)[0].tolist()
                            problem = (
                                f"{sample}, position {positions[index]}: its prediction {what} what is read at "
                                f"position {other}, against the order of the two ({subject.label})"
                            )
                            hint = "the call of the model in loss: it takes attention, order, segments, private and "
                            raise Broken(problem, hint + "positions of the batch")
    if not compared:
        raise NotApplicable("the first predictions are not those of the targets")


@check(quick=True)
def documents_stay_apart(bench: Bench) -> None:
    """Where documents are isolated, nothing that is read or predicted in one has to do with another."""
    compared = 0
    here = _comparable(bench)
    if not any(sample.row.segments[-1] for sample in here.full_samples("isolate", 1)):
        here = bench.bytewise or here  # a text of one document has no such rows
    for subject in here.subjects:
        for sample in here.full_samples("isolate", 2 if bench.quick else 6):
            several = [np.flatnonzero(sample.row.segments == one) for one in np.unique(sample.row.segments)]
            if len(several) < 2:
                continue
            variants = vary(here, subject, sample, _whole_documents(here, sample, several))
            if len(variants.examples) < 2:
                continue
            compared += 1
            _check_segments(variants)
            for one in compare(here, subject, variants.base, variants.examples):
                touched = one.moved | (one.variant_targets != one.targets)
                touched &= one.targets != IGNORE
                mixed = np.flatnonzero(touched.sum(0) > 1)
                if len(mixed):
                    problem = (
                        f"{sample}, {one.place(int(mixed[0]))}: its prediction depends on two documents "
                        f"({subject.label})"
                    )
                    raise Broken(problem, "the segments, in the call of the model and of the objective's own layers")
    if not compared:
        raise NotApplicable("no two rows of several documents can be compared")


def _whole_documents(bench: Bench, sample: Sample, several: list[np.ndarray]) -> list[np.ndarray]:
    """The whole documents that a row has parts of, counted from the beginning of the row."""
    offsets = np.asarray(bench.store.offsets)
    begin = sample.index * sample.windows.stride
    groups = []
    for part in several:
        document = int(np.searchsorted(offsets, begin + part[0], side="right")) - 1
        groups.append(np.arange(offsets[document], offsets[document + 1]) - begin)
    return groups


def _check_segments(variants: Variants) -> None:
    """Each segment of the example has text of one document."""
    base = variants.base
    segments = np.zeros(len(base), dtype=np.int64) if base.segments is None else base.segments
    owner: dict[int, tuple[int, int]] = {}
    for number, example in enumerate(variants.examples):
        for name in ("tokens", "targets"):
            for position in np.flatnonzero(getattr(example, name) != getattr(base, name)).tolist():
                segment = int(segments[position])
                first, where = owner.setdefault(segment, (number, position))
                if first != number:
                    problem = (
                        f"{variants.sample}, position {position}: {name} come from another document than what is read "
                        f"or predicted at position {where} of the same segment"
                    )
                    hint = "the segments of the example, and targets across a boundary: IGNORE where segments differ"
                    raise Broken(problem, hint)


@check(quick=True)
def padding_changes_nothing(bench: Bench) -> None:
    """Longer padding changes neither the loss nor its counts."""
    for subject in bench.subjects:
        samples = [*bench.full_samples("isolate", 2), *bench.full_samples("concatenate", 2)]
        samples += [one.part(0, max(2, len(one.row) // 2)) for one in samples[::2]]
        with torch.no_grad():
            usual = subject.loss(bench.batch(subject, samples))
            padded = subject.loss(bench.batch(subject, samples, bench.sequence_length + 9))
        for name in ("count", "bytes"):
            ours, theirs = int(getattr(usual, name)), int(getattr(padded, name))
            if ours != theirs:
                problem = f"{name} of a batch is {ours}, and {theirs} with longer padding"
                raise Broken(problem, "loss, or target_bytes: padding has no target")
        before, after = float(usual.sum), float(padded.sum)
        if not np.isclose(before, after, rtol=1e-4, atol=1e-4):
            problem = f"the loss of a batch is {before:.6g}, and {after:.6g} with longer padding"
            hint = "a sum over all positions, a division by the length of the row, or padding that is told by its id"
            raise Broken(f"{problem} ({subject.label})", hint)


@check()
def kernels_agree(bench: Bench) -> None:
    """The kernel of the declared attention gives the loss of the general rule, as a mask and as FlexAttention."""
    subject = bench.bound()
    if "ordered" not in subject.model.attentions:
        raise NotApplicable(f"{subject.label} does not obey the general rule")
    for documents in REGIMES:
        samples = bench.full_samples(documents, 2)
        examples = [subject.objective.corrupt(one.row, one.draw) for one in samples]
        batch = bench.collated(subject, examples)
        orders = _orders(examples, bench.sequence_length)
        with torch.no_grad():
            usual = float(subject.loss(batch).sum)
            for kernel in _GENERAL:
                with running(kernel):
                    other = float(subject.loss(batch, _Ordered(subject.model, orders)).sum)
                if not np.isclose(usual, other, rtol=1e-3, atol=1e-3):
                    problem = (
                        f"rows with documents {documents}d: the loss is {usual:.6g} with '{batch.attention}' "
                        f"attention, and {other:.6g} by the rule ({kernel})"
                    )
                    raise Broken(problem, "attention, which does not stand for the order of the examples")


_GENERAL: tuple[Kernel, ...] = ("mask", "flex")


def _orders(examples: list[Example], length: int) -> torch.Tensor | None:
    if any(one.order is None for one in examples):
        return None
    orders = np.zeros((len(examples), length), dtype=np.int64)
    for line, one in enumerate(examples):
        if one.order is not None:
            orders[line, : len(one)] = one.order
    return torch.from_numpy(orders)


class _Ordered:
    """A model that always takes the general rule, with the order of the examples where they have one."""

    def __init__(self, model: Any, order: torch.Tensor | None) -> None:
        self.model, self.order = model, order

    def __call__(self, tokens: torch.Tensor, **fields: Any) -> Any:
        fields = by_the_general_rule(tokens, fields)
        if self.order is not None and tokens.shape == self.order.shape:
            fields["order"] = self.order
        return self.model(tokens, **fields)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


def _rows(bench: Bench, kernels: tuple[Kernel, ...] | None = None) -> Iterator[tuple[Bench, Subject, Variants, Kernel]]:
    """Rows with a variant for each of their tokens, and the kernels to compare them with."""
    here = _comparable(bench)
    for subject in here.subjects:
        offered: tuple[Kernel, ...] = ("declared", "mask", "flex")
        if "ordered" not in subject.model.attentions or bench.quick:
            offered = ("declared",)
        for documents in REGIMES:
            for number, sample in enumerate(here.full_samples(documents, 1 if bench.quick else 3)):
                variants = vary(here, subject, sample, _every_token(sample, bench.quick))
                if not variants.examples:
                    continue
                for kernel in kernels or (offered if number == 0 else ("declared",)):
                    yield here, subject, variants, kernel


def _every_token(sample: Sample, quick: bool) -> list[np.ndarray]:
    chosen = np.arange(len(sample.row))
    if quick and len(chosen) > 32:
        chosen = np.linspace(0, len(chosen) - 1, 32).round().astype(int)
    return [np.array([one]) for one in chosen]


def _comparable(bench: Bench) -> Bench:
    """The bench itself if rows keep their structure when one of their tokens changes, else that of single bytes."""
    for sample in bench.full_samples("isolate", 3):
        variants = vary(bench, bench.subject, sample, _every_token(sample, quick=True))
        if variants.incomparable > 0.05 * (len(variants.examples) + variants.incomparable):
            return bench.bytewise or bench
    return bench
