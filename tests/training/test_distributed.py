"""Two processes compute what one computes."""

import pytest

from tests.conftest import read_metrics, read_summary, spawn

DDP = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.progress_bar=false")


def test_a_run_on_two_processes_equals_a_run_on_one(ntp, tiny, packed, tmp_path):
    options = (*packed, "data.documents=isolate")
    assert ntp("train", *tiny, *options, "run_dir=one").status == 0
    outcome = spawn("train", *tiny, *DDP, *options, "run_dir=two", cwd=tmp_path)
    assert outcome.status == 0, outcome.stderr
    names = ("train/loss", "train/bits_per_byte", "train/gradient_norm", "val/loss", "val/bits_per_byte")
    one, two = read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")
    assert len(one) == len(two)
    for ours, theirs in zip(one, two, strict=True):
        assert ours.keys() == theirs.keys()
        for name in names:
            if name in ours:
                assert theirs[name] == pytest.approx(ours[name], rel=1e-6)
    counters = [f"progress/{name}" for name in ("step", "tokens", "bytes", "targets", "flops")]
    first, second = read_summary(tmp_path / "one"), read_summary(tmp_path / "two")
    assert [first[name] for name in counters] == [second[name] for name in counters]


def test_a_clock_ends_a_run_on_two_processes(tiny, tmp_path):
    options = ("budget.steps=null", "budget.minutes=0.03", "trainer.log_every_steps=10", "evaluation.every_steps=null")
    outcome = spawn("train", *tiny, *DDP, *options, "run_dir=run", cwd=tmp_path, timeout=120)
    assert outcome.status == 0, outcome.stderr
    assert read_summary(tmp_path / "run")["state"] == "finished"


def test_few_validation_rows_are_shared_and_fewer_than_devices_are_refused(ntp, tiny, tmp_path):
    rows = ("evaluation.rows=2", "evaluation.final_rows=2", "budget.steps=2", "data.documents=isolate")
    outcome = spawn("train", *tiny, *DDP, *rows, "run_dir=run", cwd=tmp_path)
    assert outcome.status == 0, outcome.stderr
    outcome = ntp("train", *tiny, *DDP, "evaluation.rows=1")
    assert outcome.status == 2
    assert "evaluation.rows: there is less than one row for each of 2 devices" in outcome.stderr


def test_a_batch_that_does_not_divide_among_devices_is_refused(ntp, tiny):
    outcome = ntp("train", *tiny, *DDP, "data.batch_size=5")
    assert outcome.status == 2
    assert "data.batch_size: 5 rows do not divide among 2 devices; the nearest that does is 4" in outcome.stderr
