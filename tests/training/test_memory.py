"""Runs that do not fit into memory, through the command line."""

import sys
from pathlib import Path

import pytest
import yaml

from ntp.training.memory import smaller_micro_batch
from tests.conftest import read_metrics, read_summary, spawn

ALLOWED = ("allow_targets=[tests]", "data.batch_size=8")
AUTO = "trainer.auto_micro_batch=true"


def greedy(**arguments):
    """Overrides of a run that needs too much memory for more than a few rows."""
    values = (f"+objective.{name}={value}" for name, value in arguments.items())
    return (*ALLOWED, "objective._target_=tests.training.poisoned.Greedy", *values)


def numbers(run_dir):
    """The lines of metrics, without what a clock has measured."""
    return [
        {name: value for name, value in line.items() if not name.startswith("perf/") and name != "progress/seconds"}
        for line in read_metrics(run_dir)
    ]


def assert_same_curves(one, two):
    ours, theirs = numbers(one), numbers(two)
    assert [line.keys() for line in ours] == [line.keys() for line in theirs]
    for line, other in zip(ours, theirs, strict=True):
        assert other == pytest.approx(line, rel=1e-6)


@pytest.mark.parametrize(
    ("rows", "share", "expected"),
    [(16, 16, 8), (12, 12, 6), (6, 12, 3), (3, 12, 1), (9, 9, 3), (5, 5, 1), (1, 4, None)],
)
def test_a_smaller_micro_batch_is_at_most_half_and_divides_the_batch(rows, share, expected):
    assert smaller_micro_batch(rows, share) == expected


def test_a_run_that_does_not_fit_says_in_one_line_what_to_lower(ntp, tiny):
    outcome = ntp("train", *tiny, *greedy(fits=1, after=5), "data.micro_batch_size=4", "run_dir=run")
    assert outcome.status == 1
    assert "Traceback" not in outcome.stderr
    last = outcome.stderr.strip().splitlines()[-1]
    assert last.startswith("ntp train: out of memory at step 3, with 4 rows of data.sequence_length=32 at a time")
    for words in ("data.batch_size=8", "data.micro_batch_size=2", "trainer.auto_micro_batch=true"):
        assert words in last
    assert read_summary(Path("run"))["state"] == "failed"


@pytest.mark.parametrize("after", [0, 5], ids=["at the first step", "in the middle of a step"])
def test_the_micro_batch_is_halved_until_it_fits_and_the_result_stays(ntp, tiny, tmp_path, after):
    options = (*greedy(fits=1, after=after), "data.micro_batch_size=4")
    outcome = ntp("train", *tiny, *options, AUTO, "run_dir=found")
    assert outcome.status == 0, outcome.stderr
    step = 1 if after == 0 else 3
    for before, now in ((4, 2), (2, 1)):
        line = f"out of memory at step {step} with {before} rows at a time; going on with data.micro_batch_size={now}"
        assert outcome.stderr.count(line) == 1
    assert ntp("train", *tiny, *options, "data.micro_batch_size=1", "run_dir=given").status == 0
    assert_same_curves(tmp_path / "given", tmp_path / "found")
    assert yaml.safe_load((tmp_path / "found/config.yaml").read_text())["data"]["micro_batch_size"] == 4
    assert read_summary(tmp_path / "found")["micro_batch_size"] == 1
    assert "micro_batch_size" not in read_summary(tmp_path / "given")


@pytest.mark.filterwarnings("error:Found .* in eval mode")
def test_validation_too_is_halved_until_it_fits(ntp, tiny, tmp_path):
    options = greedy(fits=8, validates=4)
    outcome = ntp("train", *tiny, *options, AUTO, "run_dir=found")
    assert outcome.status == 0, outcome.stderr
    assert "out of memory at step 3 with 8 rows at a time; going on with data.micro_batch_size=4" in outcome.stderr
    assert ntp("train", *tiny, *options, "data.micro_batch_size=4", "run_dir=given").status == 0
    assert_same_curves(tmp_path / "given", tmp_path / "found")


def test_a_single_row_that_does_not_fit_ends_the_run(ntp, tiny):
    outcome = ntp("train", *tiny, *greedy(fits=0), "data.micro_batch_size=2", AUTO, "run_dir=run")
    assert outcome.status == 1
    assert "out of memory at step 1, with one row of data.sequence_length=32 at a time" in outcome.stderr
    assert "lower data.sequence_length, or take a smaller model" in outcome.stderr


def test_an_update_that_does_not_fit_is_not_tried_again(ntp, tiny):
    optimizer = "optimizer._target_=tests.training.poisoned.GreedyAdamW"
    outcome = ntp("train", *tiny, *ALLOWED, optimizer, AUTO, "run_dir=run")
    assert outcome.status == 1
    assert "going on" not in outcome.stderr
    assert "the optimizer's state does not fit; a smaller model does" in outcome.stderr


def test_several_devices_are_refused(ntp, tiny):
    outcome = ntp("train", *tiny, AUTO, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    assert outcome.status == 2
    assert "trainer.auto_micro_batch: works on one device, and this run has 2" in outcome.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of the process's memory")
def test_a_machine_without_enough_memory_trains_all_the_same(tiny, tmp_path):
    limit = ("+callbacks.limit._target_=tests.training.poisoned.LimitsMemory", "+callbacks.limit.more=300e6")
    rows = ("data.sequence_length=512", "data.batch_size=64", "model.layers=4", "evaluation.every_steps=null")
    outcome = spawn(
        "train", *tiny, *ALLOWED, *limit, *rows, AUTO, "budget.steps=2", "run_dir=run",
        cwd=tmp_path, PYTHONPATH=str(Path(__file__).parents[2]),
    )  # fmt: skip
    assert outcome.status == 0, outcome.stderr
    assert "out of memory at step 1 with 64 rows at a time; going on with data.micro_batch_size=32" in outcome.stderr
    assert 1 <= read_summary(tmp_path / "run")["micro_batch_size"] <= 32
