"""Two processes compute what one computes."""

import pytest

from tests.conftest import read_metrics, read_summary, spawn

DDP = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.progress_bar=false")


def test_a_run_on_two_processes_equals_a_run_on_one(ntp, tiny, tmp_path):
    # Isolated documents give every micro-batch another number of targets: a mean of means would differ.
    options = ("data.documents=isolate", "data.sequence_length=24", "trainer.log_every_steps=1")
    tiny = [one for one in tiny if not one.startswith("data.sequence_length")]
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
                assert theirs[name] == pytest.approx(ours[name], abs=1e-6)
    counters = [f"progress/{name}" for name in ("step", "tokens", "bytes", "targets", "flops")]
    first, second = read_summary(tmp_path / "one"), read_summary(tmp_path / "two")
    assert [first[name] for name in counters] == [second[name] for name in counters]


def test_a_clock_ends_a_run_on_two_processes(tiny, tmp_path):
    options = ("budget.steps=null", "budget.minutes=0.03", "trainer.log_every_steps=10", "evaluation.every_steps=null")
    outcome = spawn("train", *tiny, *DDP, *options, "run_dir=run", cwd=tmp_path, timeout=120)
    assert outcome.status == 0, outcome.stderr
    assert read_summary(tmp_path / "run")["state"] == "finished"


def test_a_batch_that_does_not_divide_among_devices_is_refused(ntp, tiny):
    outcome = ntp("train", *tiny, *DDP, "data.batch_size=5")
    assert outcome.status == 2
    assert "data.batch_size: 5 rows do not divide among 2 devices; the nearest that does is 4" in outcome.stderr
