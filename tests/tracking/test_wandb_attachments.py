"""Results of exams and samples, read back from W&B's own files."""

import json
from pathlib import Path

import pytest

from ntp.tracking.runs import read_run
from ntp.tracking.sync import Destination, upload
from ntp.tracking.wandb import WandbMirror
from ntp.tracking.wandb_attachments import EXAM_COLUMNS
from tests.conftest import read_metrics, read_summary
from tests.tracking.runs import CONFIG, OBJECTIVE, TAGS, make
from tests.tracking.wandb_files import as_mirrored, history, of_type, offline_files, read_wandb, summary

OFFLINE = Destination("offline", None, None, None, False, 30, 60)


def result(exam, value, **others):
    plain = {
        "step": 4,
        "exam": exam,
        "digest": "0123456789abcdef",
        "likelihood": "bound",
        "given": ["left", "length"],
        "documents": ["a", "b"],
        "refusal": None,
        "details": {},
        "measures": {"bits_per_byte": {"value": value, "standard_error": 0.01, "unit": "bits per byte"}},
    }
    return json.dumps(plain | others)


def examined(directory):
    """A finished run with one result, one refusal, and samples."""
    make(directory)
    (directory / "exams").mkdir()
    (directory / "exams" / "continue-01234567-4.json").write_text(result("continue", 2.5))
    (directory / "exams" / "infill-01234567-4.json").write_text(result("infill", 0, measures={}, refusal="no means"))
    samples = [{"prefix": "def f(", "suffix": None, "reference": "x):", "sample": "self):"}]
    (directory / "exams" / "generation-01234567-4.json").write_text(
        result("generation", 1, details={"samples": samples})
    )
    (directory / "exams" / "broken-01234567-4.json").write_text("{")
    (directory / "sample.txt").write_text("import os\n")
    return directory


def tables(run_dir):
    """By name: the rows of the tables of the newest W&B file of a run."""
    file = offline_files(run_dir)[-1]
    known = summary(read_wandb(file))
    names = ("exam_table", "sample_table")
    return {one: json.loads((file.parent / "files" / known[one]["path"]).read_text())["data"] for one in names}


def artifacts(records):
    return {one.type: sorted(entry.path for entry in one.manifest.contents) for one in of_type(records, "artifact")}


@pytest.mark.parametrize("way", ["live", "synced"])
def test_a_run_holds_its_exams_and_samples_as_tables_and_files(tmp_path, way):
    directory = examined(tmp_path / "run")
    if way == "live":
        mirror = WandbMirror(mode="offline")
        mirror.start(directory, CONFIG, TAGS, OBJECTIVE)
        mirror.summarize({})
        mirror.finish(failed=False)
    else:
        upload(read_run(directory), CONFIG, OFFLINE)
    found = tables(directory)
    assert found["exam_table"] == [
        ["continue", "bits_per_byte", 2.5, 0.01, "bits per byte", "bound", "left, length", 2, 4, "01234567", None],
        ["generation", "bits_per_byte", 1, 0.01, "bits per byte", "bound", "left, length", 2, 4, "01234567", None],
        ["infill", None, None, None, None, "bound", "left, length", 2, 4, "01234567", "no means"],
    ]
    assert found["sample_table"] == [
        [None, None, None, None, "import os\n"],
        ["generation", "def f(", None, "x):", "self):"],
    ]
    records = read_wandb(offline_files(directory)[-1])
    kept = artifacts(records)["exam-results"]
    assert "exams/continue-01234567-4.json" in kept
    assert "sample.txt" in kept
    assert history(records) == []  # a table that were logged would count as a line of metrics.jsonl


def test_an_exam_that_is_taken_later_is_sent_by_the_next_sync_and_only_once(tmp_path):
    directory = examined(tmp_path / "run")
    assert upload(read_run(directory), CONFIG, OFFLINE).note == ""
    assert upload(read_run(directory), CONFIG, OFFLINE).note == "nothing new in 0 lines"
    (directory / "exams" / "cloze-01234567-4.json").write_text(result("cloze", 3.5))
    assert upload(read_run(directory), CONFIG, OFFLINE).note == ""
    assert "cloze" in [row[0] for row in tables(directory)["exam_table"]]
    assert upload(read_run(directory), CONFIG, OFFLINE).note == "nothing new in 0 lines"


def test_a_run_without_exams_and_samples_has_no_tables(tmp_path):
    directory = make(tmp_path / "run")
    upload(read_run(directory), CONFIG, OFFLINE)
    records = read_wandb(offline_files(directory)[-1])
    assert not summary(records).keys() & {"exam_table", "sample_table"}
    assert artifacts(records) == {}


def test_a_run_that_takes_exams_in_training_is_whole_in_its_offline_file(ntp, tiny, packed, tmp_path):
    exams = ("evaluation/exams=[continue,any_order]", "evaluation.exams.continue.documents=8")
    outcome = ntp("train", *tiny, *packed, *exams, "evaluation.exams_every_steps=2", "logger=wandb", "run_dir=run")
    assert outcome.status == 0, outcome.stderr
    directory = tmp_path / "run"
    (file,) = offline_files(directory)
    records, told = read_wandb(file), read_summary(directory)
    assert history(records) == as_mirrored(read_metrics(directory))
    logged = [line for line in history(records) if "exam/continue/bits_per_byte" in line]
    assert [line["trainer/global_step"] for line in logged] == [2, 4]
    assert all(line["progress/tokens"] > 0 for line in logged)

    known = summary(records)
    exam_matrix = {name: value for name, value in told.items() if name.startswith("exam/")}
    assert exam_matrix["exam/continue/likelihood"] == "exact"
    assert "exam/any_order/refusal" in exam_matrix
    assert exam_matrix.items() <= known.items()
    assert known["exam/continue/bits_per_byte"] == logged[-1]["exam/continue/bits_per_byte"]

    found = tables(directory)
    rows = [dict(zip(EXAM_COLUMNS, row, strict=True)) for row in found["exam_table"]]
    values = {
        row["step"]: row["value"] for row in rows if (row["exam"], row["measure"]) == ("continue", "bits_per_byte")
    }
    assert values == {line["trainer/global_step"]: line["exam/continue/bits_per_byte"] for line in logged}
    assert {row["refusal"] for row in rows if row["exam"] == "any_order"} == {exam_matrix["exam/any_order/refusal"]}
    sample = (directory / "sample.txt").read_text()
    assert found["sample_table"] == [[None, None, None, None, sample]]

    (manifest,) = [one.manifest.contents for one in of_type(records, "artifact") if one.type == "exam-results"]
    assert {one.path: Path(one.local_path).read_bytes() for one in manifest} == {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in [*(directory / "exams").glob("*.json"), directory / "sample.txt"]
    }
