from typing import Any

import numpy as np
import pytest
import torch

from ntp.data.collate import collate
from ntp.data.example import IGNORE, Batch, Example
from ntp.models.encoder_decoder import EncoderDecoder
from ntp.models.transformer import Transformer
from ntp.training.estimate import _saved_bytes


def batch(length: int, *sources: int) -> Batch:
    """Rows of prefix attention, each with a source of so many positions."""
    index = np.arange(length)
    rows = [
        Example(
            tokens=np.zeros(length, dtype=np.int64),
            targets=np.where(index >= source - 1, 1, IGNORE),
            order=np.maximum(index - source + 1, 0),
        )
        for source in sources
    ]
    return collate(rows, length, "prefix", np.ones(9, dtype=np.int64), padding_id=0)


def saved(model: type[Transformer | EncoderDecoder], rows: Batch, **changes: Any) -> int:
    with torch.device("meta"):
        return _saved_bytes(model(vocabulary_size=9, width=32, **changes), rows)


def test_activations_of_an_encoder_decoder_grow_with_its_longest_rows() -> None:
    ragged, long = batch(64, 9, 31, 49), batch(64, 49, 49, 49)
    assert saved(EncoderDecoder, long) < saved(EncoderDecoder, ragged) < saved(EncoderDecoder, batch(128, 9, 31, 49))


def test_activations_of_an_encoder_decoder_are_those_of_a_row_however_many_there_are() -> None:
    few, many = saved(EncoderDecoder, batch(64, 33)), saved(EncoderDecoder, batch(64, *[33] * 8))
    # What all rows share counts once.
    assert few * 0.8 < many <= few


@pytest.mark.parametrize("target", [Transformer, EncoderDecoder])
def test_checkpointing_keeps_less(target: Any) -> None:
    rows = batch(64, 33)
    assert saved(target, rows, activation_checkpointing=True) < saved(target, rows) / 2
