"""From examples to a batch: padding, and no more tensors than the kernel needs to obey the rule."""

from collections.abc import Sequence

import numpy as np
import torch

from ntp.data.example import IGNORE, Attention, Batch, Example, Tally

PADDING_SEGMENT = -1


def collate(
    examples: Sequence[Example],
    sequence_length: int,
    attention: Attention,
    token_bytes: np.ndarray,
    padding_id: int,
    read_bytes: Sequence[int] | None = None,
) -> Batch:
    """Stack examples into a batch of ``sequence_length`` positions.

    Args:
        examples: what the objective made; each at most ``sequence_length`` long.
        sequence_length: L.
        attention: the kernel that the objective declares.
        token_bytes: [V] bytes that each id stands for, where an example does not say.
        padding_id: what the model reads at padding; no rule depends on it, padding is known by its segment.
        read_bytes: [B] bytes of text in the raw rows, where an example does not say.

    Raises:
        ValueError: an example is longer than ``sequence_length``, or its arrays differ in length.
    """
    for example in examples:
        _check(example, sequence_length)
    shape = (len(examples), sequence_length)
    tokens = _stack([one.tokens for one in examples], shape, padding_id)
    targets = _stack([one.targets for one in examples], shape, IGNORE)
    segments = _stack([_or(one.segments, len(one), 0) for one in examples], shape, PADDING_SEGMENT)
    is_target = targets != IGNORE
    all_targets = bool(is_target.all())

    is_padding = segments == PADDING_SEGMENT
    same_document = segments == segments[:, :1]
    one_document = bool(same_document.all())
    padded_behind = bool((same_document | is_padding).all()) and not bool(
        (is_padding[:, :-1] & ~is_padding[:, 1:]).any()
    )
    # Behind the end of a causal row padding is invisible anyway, and positions count from 0 in either case.
    needs_segments = not (one_document or (attention == "causal" and padded_behind))

    order = private = None
    parts = np.zeros((len(examples), 2), dtype=np.int64)
    if attention in ("prefix", "ordered"):
        order = _stack([_or(one.order, len(one), 0) for one in examples], shape, 0)
        parts = _sources_and_decoded(order, segments)
        if any(one.private is not None for one in examples):
            private = _stack([_or(one.private, len(one), False) for one in examples], shape, False)

    positions = None
    if any(one.positions is not None for one in examples) or not (one_document or padded_behind):
        positions = np.zeros(shape, dtype=np.int64)
        for line, one in enumerate(examples):
            given = one.positions if one.positions is not None else restart(segments[line, : len(one)])
            positions[line, : len(one)] = given

    weights = None
    if any(one.weights is not None for one in examples):
        weights = _stack([_or(one.weights, len(one), 1.0) for one in examples], shape, 0.0).astype(np.float32)

    return Batch(
        tokens=torch.from_numpy(tokens),
        targets=torch.from_numpy(targets),
        attention=attention,
        target_index=None if all_targets else torch.from_numpy(np.flatnonzero(is_target)),
        weights=None if weights is None else torch.from_numpy(weights),
        order=None if order is None else torch.from_numpy(order),
        private=None if private is None else torch.from_numpy(private),
        segments=torch.from_numpy(segments) if needs_segments else None,
        positions=None if positions is None else torch.from_numpy(positions),
        extra={name: torch.from_numpy(array) for name, array in _extra(examples, shape).items()},
        tallies=[
            _tally(
                one, token_bytes, int(np.count_nonzero(~padding)), 0 if read_bytes is None else read_bytes[line], part
            )
            for line, (one, padding, part) in enumerate(zip(examples, is_padding, parts.tolist(), strict=True))
        ],
    )


def _sources_and_decoded(order: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """[B, 2], how many positions an encoder would read and how many a decoder behind it."""
    is_real = segments != PADDING_SEGMENT
    is_source = is_real & (order == 0)
    goes_on = is_source[:, 1:] & (segments[:, 1:] == segments[:, :-1])
    is_last = is_source & ~np.pad(goes_on, ((0, 0), (0, 1)))
    return np.stack([is_source.sum(1), (is_last | (is_real & ~is_source)).sum(1)], axis=1)


def _tally(example: Example, token_bytes: np.ndarray, read_tokens: int, read_bytes: int, parts: Sequence[int]) -> Tally:
    trained = example.targets[example.targets != IGNORE]
    target_bytes = token_bytes[trained] if example.target_bytes is None else example.target_bytes
    return Tally(
        targets=len(trained),
        count=len(trained) if example.count is None else example.count,
        target_bytes=int(target_bytes.sum()),
        read_tokens=read_tokens,
        read_bytes=read_bytes if example.read_bytes is None else example.read_bytes,
        component=example.component,
        sources=parts[0],
        decoded=parts[1],
    )


def _extra(examples: Sequence[Example], shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Every objective's own arrays; rows of an objective without one of them hold nothing but padding there."""
    extra: dict[str, np.ndarray] = {}
    for line, one in enumerate(examples):
        for name, array in (one.extra or {}).items():
            if name not in extra:
                fill = IGNORE if np.issubdtype(array.dtype, np.integer) else 0
                extra[name] = np.full((*shape, *array.shape[1:]), fill, dtype=array.dtype)
            extra[name][line, : len(array)] = array
    return extra


def restart(segments: np.ndarray) -> np.ndarray:
    """[L] positions that count from 0 in every run of equal segments."""
    index = np.arange(len(segments))
    starts = np.concatenate(([True], segments[1:] != segments[:-1]))[: len(segments)]
    return index - np.maximum.accumulate(np.where(starts, index, 0))


def _check(example: Example, sequence_length: int) -> None:
    length = len(example.tokens)
    if length > sequence_length:
        raise ValueError(f"an example of {length} positions does not fit into a row of {sequence_length}")
    for name in ("targets", "weights", "order", "private", "segments", "positions", "target_bytes"):
        array = getattr(example, name)
        if array is not None and len(array) != length:
            raise ValueError(f"an example of {length} tokens has {len(array)} {name}")


def _or(array: np.ndarray | None, length: int, value: object) -> np.ndarray:
    return np.full(length, value) if array is None else array


def _stack(arrays: list[np.ndarray], shape: tuple[int, int], fill: object) -> np.ndarray:
    if all(len(array) == shape[1] for array in arrays):
        return np.stack(arrays)
    stacked = np.full(shape, fill, dtype=arrays[0].dtype)
    for line, array in enumerate(arrays):
        stacked[line, : len(array)] = array
    return stacked
