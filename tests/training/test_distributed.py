"""Two processes compute what one computes, and one goes on with what two have begun."""

from pathlib import Path

import pytest
import torch
from torch import distributed, nn

from ntp.training.strategies import DataParallel
from tests.conftest import call, read_metrics, read_summary, spawn
from tests.training.several import DDP, assert_same_curve, stopped_at

SHAPE = (
    "budget.steps=6",
    "evaluation.rows=9",
    "evaluation.final_rows=9",
    "evaluation.sample_tokens=0",
    "data.documents=isolate",
    "callbacks.checkpoint.every_steps=2",
    "callbacks.checkpoint.keep_last=9",
)


@pytest.fixture(scope="module")
def shape(tiny, packed):
    """Documents of uneven length: every micro-batch has another number of targets, and a mean of means would differ."""
    return (*tiny, *packed, *SHAPE)


@pytest.fixture(scope="module")
def one(shape, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("one") / "run"
    outcome = call("train", *shape, f"run_dir={path}")
    assert outcome.status == 0, outcome.stderr
    return path


@pytest.fixture(scope="module")
def two(shape, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("two") / "run"
    outcome = spawn("train", *shape, *DDP, f"run_dir={path}", cwd=path.parent)
    assert outcome.status == 0, outcome.stderr
    return path


def test_a_run_on_two_processes_equals_a_run_on_one(one, two):
    assert_same_curve(one, two)
    counters = [f"progress/{name}" for name in ("step", "rows", "tokens", "bytes", "targets", "flops")]
    first, second = read_summary(one), read_summary(two)
    assert [first[name] for name in counters] == [second[name] for name in counters]


def test_one_process_goes_on_with_a_run_of_two(two, tmp_path):
    run = stopped_at(two, 2, tmp_path / "run")
    outcome = call("train", f"resume={run}", "trainer=cpu", "trainer.progress_bar=false", "trainer.log_every_steps=1")
    assert outcome.status == 0, outcome.stderr
    assert_same_curve(two, run)


@pytest.mark.slow
def test_two_processes_go_on_with_a_run_of_one(one, tmp_path):
    run = stopped_at(one, 2, tmp_path / "run")
    outcome = spawn("train", f"resume={run}", *DDP, cwd=tmp_path)
    assert outcome.status == 0, outcome.stderr
    assert_same_curve(one, run)


def test_a_run_does_not_go_on_with_devices_among_which_its_batch_does_not_divide(one, tmp_path):
    run = stopped_at(one, 2, tmp_path / "run")
    lines = read_metrics(run)
    outcome = call("train", f"resume={run}", "trainer=ddp_cpu", "trainer.devices=3")
    assert outcome.status == 2
    assert "data.batch_size: 4 rows do not divide among 3 devices; the nearest that does is 3" in outcome.stderr
    assert read_metrics(run) == lines


def test_a_clock_ends_a_run_on_two_processes(pair, tiny, tmp_path):
    options = ("budget.steps=null", "budget.minutes=0.03", "trainer.log_every_steps=10", "evaluation.every_steps=null")
    outcome = pair("train", *tiny, *DDP, *options, "run_dir=run", cwd=tmp_path, timeout=120)
    assert outcome.status == 0, outcome.stderr
    assert read_summary(tmp_path / "run")["state"] == "finished"


def test_few_validation_rows_are_shared_and_fewer_than_devices_are_refused(ntp, pair, tiny, tmp_path):
    rows = ("evaluation.rows=2", "evaluation.final_rows=2", "budget.steps=2", "data.documents=isolate")
    outcome = pair("train", *tiny, *DDP, *rows, "run_dir=run", cwd=tmp_path)
    assert outcome.status == 0, outcome.stderr
    outcome = ntp("train", *tiny, *DDP, "evaluation.rows=1")
    assert outcome.status == 2
    assert "evaluation.rows: there is less than one row for each of 2 devices" in outcome.stderr


def test_a_batch_that_does_not_divide_among_devices_is_refused(ntp, tiny):
    outcome = ntp("train", *tiny, *DDP, "data.batch_size=5")
    assert outcome.status == 2
    assert "data.batch_size: 5 rows do not divide among 2 devices; the nearest that does is 4" in outcome.stderr


@pytest.mark.parametrize("kept", [True, False])
def test_only_buffers_that_are_in_checkpoints_are_sent_in_every_step(kept):
    module = nn.Linear(2, 2)
    module.register_buffer("table", torch.zeros(3), persistent=kept)
    strategy = DataParallel(parallel_devices=[torch.device("cpu")])
    strategy.set_world_ranks()
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        assert strategy._setup_model(module).will_sync_module_buffers() == kept
    finally:
        distributed.destroy_process_group()
