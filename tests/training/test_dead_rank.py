"""A run of two processes of which one dies, fails, hangs or is told to stop."""

import os
import re
import signal

import pytest

from tests.conftest import read_summary, spawn
from tests.training.several import DDP, FSDP, TESTS_PATH, assert_gone, assert_same_curve, end, further, start, wait_for

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs Linux to find the processes")

ENDLESS = ("budget.steps=1000000", "evaluation.every_steps=20")


@pytest.fixture
def begin(tiny, tmp_path):
    """Starts a run of two processes that goes on for ever; gives the first process and the pid of the second."""
    started = []

    def begin(*overrides):
        process = start("train", *tiny, *DDP, *ENDLESS, "run_dir=run", *overrides, cwd=tmp_path)
        started.append(process)
        wait_for(tmp_path / "run/checkpoints/last.ckpt", process)
        (second,) = further(process)
        return process, second

    yield begin
    for process in started:
        end(process)


def test_the_death_of_the_second_process_ends_the_first_which_says_so(begin, tmp_path):
    process, second = begin()
    os.kill(second, signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    last = stderr.strip().splitlines()[-1]
    assert last.startswith("ntp train: rank 1 of 2 died of SIGKILL")
    assert last.endswith("go on with: ntp train resume=run")
    assert "Traceback" not in stderr
    assert read_summary(tmp_path / "run")["state"] == "failed"


@pytest.mark.slow
def test_the_second_process_does_not_outlive_the_first(begin):
    process, second = begin()
    os.kill(process.pid, signal.SIGKILL)
    assert_gone(second)


@pytest.mark.slow(first=True)
def test_a_process_that_hangs_is_given_up(begin, tmp_path):
    process, second = begin("trainer.collective_timeout_minutes=1")
    os.kill(second, signal.SIGSTOP)
    _, stderr = process.communicate(timeout=180)
    assert process.returncode == 1
    message = "rank 0 of 2 has waited 1 minutes (trainer.collective_timeout_minutes) in vain for another; go on with"
    assert message in stderr.strip().splitlines()[-1]
    assert read_summary(tmp_path / "run")["state"] == "failed"
    assert_gone(second)


@pytest.mark.slow(first=True)
def test_an_exception_in_the_second_process_is_seen_and_ends_both(tiny, tmp_path):
    failing = ("+callbacks.bad={_target_: tests.training.poisoned_ranks.FailsAlone, step: 3}", "allow_targets=[tests]")
    outcome = spawn("train", *tiny, *DDP, *ENDLESS, *failing, "run_dir=run", cwd=tmp_path, **TESTS_PATH)
    assert outcome.status == 1
    assert "ArithmeticError: something is wrong here" in outcome.stderr
    last = outcome.stderr.strip().splitlines()[-1]
    assert last.startswith("ntp train: rank 1 of 2 has failed with status 1; it said why above; go on with: ")
    assert outcome.stderr.count("Traceback") == 1
    assert read_summary(tmp_path / "run")["state"] == "failed"


@pytest.mark.slow(first=True)
def test_a_process_that_dies_before_they_have_met_does_not_keep_the_other_waiting(tiny, tmp_path):
    process = start("train", *tiny, *DDP, *ENDLESS, "run_dir=run", cwd=tmp_path)
    try:
        while not further(process):
            assert process.poll() is None
        os.kill(further(process)[0], signal.SIGKILL)
        _, stderr = process.communicate(timeout=90)
        assert process.returncode == 1
        assert "ntp train: rank 1 of 2 died of SIGKILL" in stderr
        assert read_summary(tmp_path / "run")["state"] == "failed"
    finally:
        end(process)


@pytest.mark.slow
@pytest.mark.parametrize("told", ["the first", "the second", "both"])
def test_all_stop_with_a_checkpoint_whichever_is_told(begin, tmp_path, told):
    process, second = begin()
    if told == "both":
        os.killpg(process.pid, signal.SIGTERM)
    else:
        os.kill(process.pid if told == "the first" else second, signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    (stopped,) = re.findall(r"ntp train: stopped.* at step (\d+); go on with: ntp train resume=run", stderr)
    assert read_summary(tmp_path / "run")["state"] == "stopped"
    assert (tmp_path / f"run/checkpoints/step-{int(stopped):08d}.ckpt").exists()
    assert_gone(second)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [DDP, FSDP], ids=["ddp", "fsdp"])
def test_a_run_whose_second_process_is_told_to_stop_in_a_validation_goes_on(pair, tiny, tmp_path, devices):
    told = (
        "+callbacks.told._target_=tests.training.poisoned_ranks.IsToldInValidation",
        "allow_targets=[tests]",
        "evaluation.rows=9",
        "data.micro_batch_size=1",
        "callbacks.checkpoint.every_steps=1",
    )
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole/told").touch()
    outcome = pair("train", *tiny, *devices, *told, "run_dir=whole", cwd=tmp_path)
    assert outcome.status == 0, outcome.stderr
    outcome = spawn("train", *tiny, *devices, *told, "run_dir=run", cwd=tmp_path, **TESTS_PATH)
    assert outcome.status == 143, outcome.stderr
    assert read_summary(tmp_path / "run")["state"] == "stopped"
    outcome = spawn("train", "resume=run", "allow_targets=[tests]", cwd=tmp_path, **TESTS_PATH)
    assert outcome.status == 0, outcome.stderr
    assert_same_curve(tmp_path / "whole", tmp_path / "run")
