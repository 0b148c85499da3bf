"""What is done with a job, by what the directory of its sweep holds."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from ntp.config.identity import identity
from ntp.sweep.decision import decide, find_by_identity
from ntp.sweep.job import JobResult
from ntp.sweep.record import SweepRecord
from ntp.tracking.run_directory import RunDirectory


def job(identity="mine"):
    return SimpleNamespace(name="seed=0", identity=identity, overrides=())


def leave(directory: Path, state: str, identity: str | None = "mine") -> Path:
    directory.mkdir(parents=True)
    (directory / "summary.json").write_text(json.dumps({"state": state, "identity": identity, "progress/step": 3}))
    return directory


def decision(sweep: Path, *, retry: bool = True, identity: str = "mine"):
    record = SweepRecord(sweep, "val/loss", [])
    found = decide(job(identity), sweep, find_by_identity(sweep), record, retry)
    return found.action, found.directory.name


def test_a_job_that_was_never_begun_is_run_under_its_name(tmp_path):
    assert decision(tmp_path / "sweep") == ("run", "seed=0")


@pytest.mark.parametrize(
    ("state", "action"),
    [
        ("finished", "skip"),
        ("pruned", "skip"),
        ("stopped", "resume"),
        ("running", "resume"),  # and nobody holds its lock: it was killed
        ("failed", "retry"),
    ],
)
def test_the_state_of_a_run_says_what_is_to_be_done(tmp_path, state, action):
    leave(tmp_path / "seed=0", state)
    assert decision(tmp_path) == (action, "seed=0")


def test_a_failed_job_is_left_where_retry_is_off(tmp_path):
    leave(tmp_path / "seed=0", "failed")
    assert decision(tmp_path, retry=False) == ("leave", "seed=0")


def test_a_job_that_failed_before_its_run_began_is_remembered(tmp_path):
    (tmp_path / "seed=0").mkdir()
    (tmp_path / "seed=0" / "log.txt").touch()
    SweepRecord(tmp_path, "val/loss", []).write(job(), JobResult(1, "seed=0", "mine", "failed", tmp_path / "seed=0"))
    assert decision(tmp_path) == ("retry", "seed=0")
    assert decision(tmp_path, retry=False) == ("leave", "seed=0")


def test_a_run_that_another_process_trains_is_left_alone(tmp_path):
    held = RunDirectory(leave(tmp_path / "seed=0", "running"))
    held.reclaim()
    assert decision(tmp_path) == ("elsewhere", "seed=0")
    held.release()
    assert decision(tmp_path) == ("resume", "seed=0")


def test_a_run_is_recognised_by_what_it_computes_whatever_its_directory_is_called(tmp_path):
    leave(tmp_path / "renamed", "finished")
    assert decision(tmp_path) == ("skip", "renamed")


def test_of_two_runs_of_a_job_the_finished_one_counts(tmp_path):
    leave(tmp_path / "a", "stopped")
    leave(tmp_path / "b", "finished")
    leave(tmp_path / "c", "failed")
    assert decision(tmp_path) == ("skip", "b")


def test_a_directory_of_the_right_name_with_another_run_is_left_to_that(tmp_path):
    leave(tmp_path / "seed=0", "finished", "another")
    assert decision(tmp_path) == ("run", "seed=0-2")
    leave(tmp_path / "seed=0-2", "stopped", "a third")
    assert decision(tmp_path) == ("run", "seed=0-3")


def test_a_run_that_was_killed_before_it_wrote_its_identity_is_known_by_its_config(tmp_path):
    run = leave(tmp_path / "seed=0", "running", None)
    (run / "config.yaml").write_text("seed: 0\nrun_dir: here\n")
    assert decision(tmp_path) == ("run", "seed=0-2")
    assert decision(tmp_path, identity=identity({"seed": 0})) == ("resume", "seed=0")


def test_a_directory_in_which_nothing_was_begun_is_free(tmp_path):
    (tmp_path / "seed=0").mkdir()
    (tmp_path / "seed=0" / "summary.json").write_text('{"state": "running"}')
    assert decision(tmp_path) == ("run", "seed=0")
