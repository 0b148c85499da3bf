"""``metrics.jsonl`` after a kill, at whatever byte, and where a run goes on."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntp.tracking.metrics_file import METRICS, MetricsFile, keep_lines, keep_until, read_metrics_file

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.none()
names = st.sampled_from(["train/loss", "val/loss", "progress/tokens", "é"])


@st.composite
def files(draw):
    """Lines as a run writes them, and how many bytes of the file are left."""
    steps = sorted(draw(st.lists(st.integers(0, 20), max_size=6)))
    lines = [{"step": step} | draw(st.dictionaries(names, numbers)) for step in steps]
    whole = "".join(json.dumps(line) + "\n" for line in lines).encode()
    return lines, whole, draw(st.integers(0, len(whole)))


def whole_lines(lines, whole, cut):
    """Those of which all but perhaps the end of the line is left."""
    ends = [index for index, byte in enumerate(whole) if byte == ord("\n")]
    return [line for line, end in zip(lines, ends, strict=True) if end <= cut]


@given(files())
def test_reading_a_file_cut_at_any_byte_gives_its_whole_lines(tmp_path_factory, file):
    lines, whole, cut = file
    path = tmp_path_factory.mktemp("run") / METRICS
    path.write_bytes(whole[:cut])
    assert list(read_metrics_file(path)) == whole_lines(lines, whole, cut)


@given(files(), st.integers(-1, 21))
def test_going_on_from_a_step_keeps_the_whole_lines_up_to_it(tmp_path_factory, file, step):
    lines, whole, cut = file
    path = tmp_path_factory.mktemp("run") / METRICS
    path.write_bytes(whole[:cut])
    kept = [line for line in whole_lines(lines, whole, cut) if line["step"] <= step]
    assert keep_until(path, step) == len(kept)
    assert path.read_bytes() == whole[: len("".join(json.dumps(line) + "\n" for line in kept).encode())]


@given(files(), st.integers(0, 7))
def test_going_on_from_a_number_of_lines_keeps_those_that_are_whole(tmp_path_factory, file, count):
    lines, whole, cut = file
    path = tmp_path_factory.mktemp("run") / METRICS
    path.write_bytes(whole[:cut])
    kept = whole_lines(lines, whole, cut)[:count]
    assert keep_lines(path, count) == len(kept)
    assert list(read_metrics_file(path)) == kept


def test_a_run_that_goes_on_writes_behind_what_was_kept(tmp_path):
    path = tmp_path / METRICS
    path.write_text('{"step": 1, "a": 1.0}\n{"step": 2, "a": 2.0}\n{"step": 3, "a"')
    keep_until(path, 2)
    logger = MetricsFile(path)
    logger.log_metrics({"a": 3.5}, step=3)
    logger.finalize("success")
    assert [line["a"] for line in read_metrics_file(path)] == [1.0, 2.0, 3.5]
    assert logger.lines == 3


def test_a_damaged_line_in_the_middle_is_named_when_reading_and_dropped_when_going_on(tmp_path):
    path = tmp_path / METRICS
    path.write_bytes(b'{"step": 1}\n\x00\x00\x00\n{"step": 2}\n')
    with pytest.raises(ValueError, match=r"line 2 of .*metrics.jsonl can't be read"):
        list(read_metrics_file(path))
    assert keep_until(path, 2) == 2
    assert [line["step"] for line in read_metrics_file(path)] == [1, 2]


def test_where_no_file_is_there_are_no_lines_and_none_is_made(tmp_path):
    assert list(read_metrics_file(tmp_path / METRICS)) == []
    assert keep_until(tmp_path / METRICS, 3) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_replaced_stays_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / METRICS
    path.write_text('{"step": 1}\n{"step": 2}\n')

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        keep_until(path, 1)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
