"""What a trained model makes of a text that it only reads: its hidden states, at places in bytes.

A text is read by the means of the run's objective (`ntp.objectives.base.Objective.read`): causally, or in both
directions, or block by block. Nothing is hidden from the model and nothing is asked of it.

Legend: B rows, L positions of a row, D width, K places of a text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ntp.data.example import Batch
from ntp.evaluation.candidate import AskedRow, Candidate
from ntp.models.base import LanguageModel
from ntp.objectives.base import Objective, forward

_KEPT = "kept"


@dataclass(frozen=True, eq=False)
class Reading:
    """A text, and where its hidden states are asked for.

    Attributes:
        text: as a whole document, which ends.
        ends: [K] int64, in bytes; what is given is the state of the token that holds the byte before each. None for the
            mean over all tokens of the text, the end-of-text token not among them.
    """

    text: str
    ends: np.ndarray | None


@torch.inference_mode()
def hidden_states(candidate: Candidate, readings: Sequence[Reading], layer: int | None = None) -> list[np.ndarray]:
    """The hidden states of some texts.

    A text that is longer than the rows of training is read in pieces that overlap by half, and each token is taken from
    the piece in which it stands nearest to the middle.

    Args:
        candidate: a trained run.
        readings: texts and places.
        layer: behind which layer, counted from 1; None for what the model's head reads, behind the last norm.

    Returns:
        For each text [K, D] float32, or [1, D] for a mean. A text without any token gives zeros.

    Raises:
        ValueError: the model has no such layer, or does not let its layers be asked.
    """
    part = candidate.objective.reader
    rows, places, homes = _rows(candidate, part, readings)
    look = partial(_look, layer)
    found: list[dict[int, np.ndarray]] = [{} for _ in readings]
    for row, states in candidate.read(part, rows, look):
        found[row.question][row.draw] = states
    width = candidate.model.width
    result = []
    for reading, by_piece, home, place in zip(readings, found, homes, places, strict=True):
        if reading.ends is None:
            total = sum((states.sum(0, keepdims=True) for states in by_piece.values()), np.zeros((1, width)))
            result.append((total / max(1, len(place))).astype(np.float32))
            continue
        states_KD = np.zeros((len(reading.ends), width), dtype=np.float32)
        for piece, states in by_piece.items():
            # Of a row come the states of its kept tokens, in their order; several places may share one.
            own = np.flatnonzero(home == piece)
            kept = np.unique(place[own])
            states_KD[own] = states[np.searchsorted(kept, place[own])]
        result.append(states_KD)
    return result


def _rows(
    candidate: Candidate, part: Objective, readings: Sequence[Reading]
) -> tuple[list[AskedRow], list[np.ndarray], list[np.ndarray]]:
    """Rows, and for each text the token [K] of each place and the piece [K] that it is taken from."""
    room = part.raw_length(candidate.room) - part.lookahead
    if candidate.model.context_length is not None:
        room = min(room, candidate.model.context_length)
    room = max(1, min(room, candidate.room))
    end = np.array([candidate.tokenizer.end_of_text])
    rows: list[AskedRow] = []
    places: list[np.ndarray] = []
    homes: list[np.ndarray] = []
    encoded = candidate.tokenizer.encode_batch([reading.text for reading in readings])
    for number, (reading, (ids, counts)) in enumerate(zip(readings, encoded, strict=True)):
        # As in training, where each document ends in the token, and follows one where documents are concatenated.
        before = 0 if candidate.isolated else 1
        tokens = np.concatenate([end[:before], ids, end]).astype(np.int64)
        token_ends = np.cumsum(counts)
        if reading.ends is None:
            place = np.arange(len(ids))
        else:
            place = np.minimum(np.searchsorted(token_ends, reading.ends, side="left"), max(0, len(ids) - 1))
        place = place + before
        starts = _starts(len(tokens), room)
        middles = starts + (min(room, len(tokens)) - 1) / 2
        home = np.abs(place[:, None] - middles).argmin(1)
        for piece, start in enumerate(starts):
            read = tokens[start : start + room]
            kept = np.zeros(len(read), dtype=bool)
            kept[place[home == piece] - start] = True
            if kept.any():
                example = replace(part.read(read), extra={_KEPT: kept})
                rows.append(AskedRow(number, piece, example))
        places.append(place)
        homes.append(home)
    return rows, places, homes


def _starts(length: int, room: int) -> np.ndarray:
    """Where the pieces of a text begin; the last one ends with it."""
    if length <= room:
        return np.zeros(1, dtype=np.int64)
    last, step = length - room, max(1, room // 2)
    return np.append(np.arange(0, last, step), last)


def _look(layer: int | None, part: Objective, model: LanguageModel, batch: Batch) -> list[np.ndarray]:
    """The kept states of each row, [kept, D]."""
    kept_BL = batch.extra[_KEPT]
    with _captured(model, layer) as last:
        hidden_BLD = last(forward(model, batch))
    # A layer may have left out padding behind all rows.
    kept_BL = kept_BL[:, : hidden_BLD.shape[1]]
    return [hidden_LD[kept_L].float().cpu().numpy() for hidden_LD, kept_L in zip(hidden_BLD, kept_BL, strict=True)]


@contextmanager
def _captured(model: LanguageModel, layer: int | None) -> Iterator[Callable[[Tensor], Tensor]]:
    """Gives a function of the model's output: the output of a layer in the forward before."""
    if layer is None:
        yield lambda output: output
        return
    layers = model.layers
    if not 1 <= layer <= len(layers):
        has = f"has layers 1 to {len(layers)}" if layers else "does not tell its layers apart"
        raise ValueError(f"there is no layer {layer}: {type(model).__name__} {has}")
    outputs: list[Tensor] = []
    handle = layers[layer - 1].register_forward_hook(lambda _, __, output: outputs.append(output))
    try:
        yield lambda _: outputs[-1]
    finally:
        handle.remove()
