import pickle
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ntp.config.errors import ConfigError
from ntp.data.store import TokenStore, write_store
from ntp.data.tokenizers import Bytes
from ntp.data.windows import Windows


class Stream:
    """A store in memory, whose tokens are their own places."""

    def __init__(self, lengths: list[int]) -> None:
        self.offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
        self.tokens = np.arange(self.offsets[-1], dtype=np.uint16)
        self.bytes = (self.tokens % 5).astype(np.uint8)


def windows(
    lengths: list[int],
    stride: int,
    lookahead: int,
    documents: Literal["concatenate", "isolate"] = "isolate",
    wrap: bool = False,
) -> Windows:
    stream: Any = Stream(lengths)
    return Windows(stream, stride, lookahead, documents, wrap)


LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=12)
STRIDE = st.integers(1, 15)
LOOKAHEAD = st.integers(0, 4)


@given(lengths=LENGTHS, stride=STRIDE, lookahead=LOOKAHEAD)
def test_validation_rows_put_together_are_the_stream(lengths: list[int], stride: int, lookahead: int) -> None:
    assume(sum(lengths) > lookahead)
    made = windows(lengths, stride, lookahead)
    rows = [made.row(index) for index in range(len(made))]
    tokens = np.concatenate([rows[0].tokens, *(row.tokens[lookahead:] for row in rows[1:])])
    counts = np.concatenate([rows[0].bytes, *(row.bytes[lookahead:] for row in rows[1:])])
    assert tokens.tolist() == list(range(sum(lengths)))
    assert counts.tolist() == [one % 5 for one in tokens]
    assert all(len(row) == stride + lookahead for row in rows[:-1])


@given(lengths=LENGTHS, stride=STRIDE, lookahead=st.integers(1, 4))
def test_every_token_with_a_successor_is_predicted_from_once(lengths: list[int], stride: int, lookahead: int) -> None:
    assume(sum(lengths) > lookahead)
    made = windows(lengths, stride, lookahead)
    targets = np.concatenate([made.row(index).tokens[lookahead:] for index in range(len(made))])
    assert targets.tolist() == list(range(lookahead, sum(lengths)))


@given(lengths=LENGTHS, stride=STRIDE, lookahead=LOOKAHEAD, offset=st.integers(-100, 1000))
def test_training_rows_are_full_and_cover_different_tokens(
    lengths: list[int], stride: int, lookahead: int, offset: int
) -> None:
    total = sum(lengths)
    assume(total >= stride + lookahead)
    made = windows(lengths, stride, lookahead, wrap=True)
    rows = [made.row(index, offset) for index in range(len(made))]
    assert len(rows) == total // stride
    read = np.concatenate([row.tokens[:stride] for row in rows])
    assert len(set(read.tolist())) == stride * len(rows)
    assert read[0] == offset % total
    for row in rows:
        assert row.tokens.tolist() == [(row.tokens[0] + step) % total for step in range(stride + lookahead)]
        assert row.bytes.tolist() == [one % 5 for one in row.tokens]


@given(lengths=LENGTHS, stride=STRIDE, lookahead=LOOKAHEAD, offset=st.integers(0, 200), wrap=st.booleans())
def test_a_segment_begins_where_a_document_begins(
    lengths: list[int], stride: int, lookahead: int, offset: int, wrap: bool
) -> None:
    total = sum(lengths)
    assume(total >= stride + lookahead if wrap else total > lookahead)
    made = windows(lengths, stride, lookahead, wrap=wrap)
    starts = {0, *np.cumsum(lengths)[:-1].tolist()}
    for index in range(len(made)):
        row = made.row(index, offset if wrap else 0)
        assert row.segments[0] == 0
        assert np.diff(row.segments).tolist() == [int(token in starts) for token in row.tokens[1:].tolist()]


@given(lengths=LENGTHS, stride=STRIDE, offset=st.integers(0, 200))
def test_concatenated_documents_are_one_segment(lengths: list[int], stride: int, offset: int) -> None:
    assume(sum(lengths) > stride)
    made = windows(lengths, stride, 1, "concatenate", wrap=True)
    assert all(made.row(index, offset).segments.tolist() == [0] * (stride + 1) for index in range(len(made)))


def test_rows_are_whole_numbers_of_64_bits() -> None:
    for wrap in (False, True):
        row = windows([5, 5], 4, 1, wrap=wrap).row(1)
        assert row.tokens.dtype == row.segments.dtype == row.bytes.dtype == np.int64


def test_a_row_that_is_not_there_is_an_index_error() -> None:
    made = windows([10], 4, 1)
    for index in (-1, len(made)):
        with pytest.raises(IndexError):
            made.row(index)


def test_a_text_shorter_than_a_row_is_refused_with_the_longest_that_fits() -> None:
    message = r"data\.sequence_length: the training text has 10 tokens, .* row of 17; the longest .* fits is 9"
    with pytest.raises(ConfigError, match=message):
        windows([10], 16, 1, wrap=True)
    assert len(windows([10], 9, 1, wrap=True)) == 1


def test_a_validation_text_shorter_than_a_row_is_one_short_row() -> None:
    made = windows([10], 16, 1)
    assert [len(made.row(index)) for index in range(len(made))] == [10]


def test_a_validation_text_of_one_token_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.validation_fraction: the held-out text has 1 tokens"):
        windows([1], 16, 1)


@settings(deadline=None, max_examples=20)
@given(texts=st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=5))
def test_rows_of_a_real_store_decode_to_its_text(texts: list[str]) -> None:
    tokenizer = Bytes().train()
    with tempfile.TemporaryDirectory() as folder:
        made = Windows(write_store(Path(folder, "store"), texts, tokenizer, {}), 4, 0, "isolate", wrap=False)
        rows = [made.row(index) for index in range(len(made))]
    assert tokenizer.decode(np.concatenate([row.tokens for row in rows])) == "".join(texts)
    assert sum(int(row.bytes.sum()) for row in rows) == len("".join(texts).encode())


def test_another_process_maps_the_same_files(tmp_path: Path) -> None:
    store: TokenStore = write_store(tmp_path / "store", ["text " * 1000], Bytes().train(), {})
    raw = pickle.dumps(Windows(store, 16, 1, "isolate", wrap=True))
    assert len(raw) < 5000
    assert np.array_equal(pickle.loads(raw).row(3).tokens, store.tokens[48:65])


@given(lengths=LENGTHS, stride=STRIDE, lookahead=LOOKAHEAD, offset=st.integers(0, 200), wrap=st.booleans())
def test_extents_give_the_documents_of_a_row_whole(
    lengths: list[int], stride: int, lookahead: int, offset: int, wrap: bool
) -> None:
    total = sum(lengths)
    assume(total >= stride + lookahead if wrap else total > lookahead)
    made, starts = windows(lengths, stride, lookahead, wrap=wrap), np.cumsum([0, *lengths])
    for index in range(len(made)):
        row = made.row(index, offset if wrap else 0)
        extents = row.extents(0, len(row)) if row.extents else []
        assert np.concatenate([one.tokens[one.begin : one.end] for one in extents]).tolist() == row.tokens.tolist()
        assert np.concatenate([one.bytes[one.begin : one.end] for one in extents]).tolist() == row.bytes.tolist()
        assert (
            np.repeat(range(len(extents)), [one.end - one.begin for one in extents]).tolist() == row.segments.tolist()
        )
        for one in extents:
            assert one.tokens.tolist() == list(range(starts[one.document], starts[one.document + 1]))
            assert len(one.bytes) == len(one.tokens)
        part = row.part(1, len(row)).extents
        if part is not None and len(row) > 2:
            (second,) = part(0, 1)
            assert second.tokens[second.begin] == row.tokens[1]
