"""What came of an exam, as it is kept."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ntp.evaluation.exams.result import Measure, Result, StoredResult, read_results

RESULT = Result(
    "continue",
    "e" * 64,
    "bound",
    ("left",),
    {"bits_per_byte": Measure(np.array([1.0, np.nan]), np.array([2.0, 3.0]), np.array([0.1, 0.2]), "bits per byte")},
    ["a", "b"],
    notes=("drawn once",),
    caveats=("1 of 2 questions is left out",),
)


@pytest.fixture
def file(tmp_path):
    return StoredResult(RESULT, 4, {"draws": 2}, 0.5).write(tmp_path)


def test_what_happened_and_what_to_be_careful_about_are_kept_apart(file, tmp_path):
    (found,) = read_results(tmp_path)
    assert found.result.notes == ("drawn once",)
    assert found.result.caveats == ("1 of 2 questions is left out",)


def test_a_result_of_a_version_without_caveats_can_be_read(file, tmp_path):
    content = json.loads(file.read_text())
    del content["caveats"]
    file.write_text(json.dumps(content))
    (found,) = read_results(tmp_path)
    assert (found.result.notes, found.result.caveats) == (("drawn once",), ())


@pytest.mark.parametrize("part", ["sums", "weights", "variances"])
def test_a_result_with_more_questions_than_numbers_is_damaged(file, tmp_path, part):
    content = json.loads(file.read_text())
    content["measures"]["bits_per_byte"][part].pop()
    file.write_text(json.dumps(content))
    damaged = []
    assert read_results(tmp_path, damaged) == []
    assert "not as many numbers as questions" in damaged[0]


def test_processes_that_keep_the_same_result_at_once_do_not_meet(tmp_path):
    stored = StoredResult(RESULT, 4, {}, 0.5)
    with ThreadPoolExecutor(8) as pool:
        paths = {one.result() for one in [pool.submit(stored.write, tmp_path) for _ in range(64)]}
    assert [one.name for one in (tmp_path / "exams").iterdir()] == [one.name for one in paths]
    assert len(read_results(tmp_path)) == 1


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="full"):
        StoredResult(RESULT, 4, {}, 0.5).write(tmp_path)
    assert list((tmp_path / "exams").iterdir()) == []


def test_what_is_kept_is_json_that_everybody_reads(file):
    def refuse(constant):
        raise AssertionError(constant)

    content = json.loads(file.read_text(), parse_constant=refuse)
    assert content["measures"]["bits_per_byte"]["sums"] == [1.0, None]
