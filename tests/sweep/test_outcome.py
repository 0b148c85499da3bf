"""How a job ended, by what its process and its run directory say."""

import json
import signal
from types import SimpleNamespace

import pytest

from ntp.sweep.outcome import metric_of, outcome
from ntp.tracking.run_directory import RunDirectory


def ended(path, state=None, identity="mine", told=""):
    if state is not None:
        path.mkdir()
        (path / "summary.json").write_text(json.dumps({"state": state, "identity": identity}))
    return SimpleNamespace(
        job=SimpleNamespace(identity="mine"),
        decision=SimpleNamespace(directory=path),
        process=SimpleNamespace(last_line=lambda: "RuntimeError: no"),
        told=told,
    )


@pytest.mark.parametrize(
    ("state", "told", "status", "expected"),
    [
        ("finished", "", 0, ("finished", "")),
        ("finished", "time limit", 0, ("finished", "")),  # it was quicker than the signal
        ("pruned", "", 0, ("pruned", "")),
        ("stopped", "", 143, ("stopped", "")),  # by its own time limit, or by somebody
        ("stopped", "time limit", 143, ("stopped", "time limit")),
        ("running", "time limit", -signal.SIGKILL, ("stopped", "time limit")),
        (None, "interrupted", -signal.SIGTERM, ("stopped", "interrupted")),
        ("running", "", -signal.SIGKILL, ("interrupted", "killed by SIGKILL")),
        ("running", "", -signal.SIGSEGV, ("failed", "killed by SIGSEGV")),
        ("failed", "", 1, ("failed", "RuntimeError: no")),
        (None, "", 2, ("failed", "RuntimeError: no")),
        (None, "", 0, ("failed", "RuntimeError: no")),
    ],
)
def test_state_and_reason_of_a_job_that_has_ended(tmp_path, state, told, status, expected):
    assert outcome(ended(tmp_path / "run", state, told=told), status) == expected


def test_a_run_of_another_configuration_is_not_this_jobs(tmp_path):
    assert outcome(ended(tmp_path / "run", "finished", "another"), 2) == ("failed", "RuntimeError: no")


def test_configuration_files_that_change_during_a_sweep_are_told(tmp_path):
    state, note = outcome(ended(tmp_path / "run", "finished", "another"), 0)
    assert state == "failed"
    assert note.startswith("the configuration files have changed since the sweep began")


def test_a_job_whose_directory_another_process_holds_runs_elsewhere(tmp_path):
    job = ended(tmp_path / "run", "running")
    held = RunDirectory(tmp_path / "run")
    held.reclaim()
    assert outcome(job, 2) == ("elsewhere", "")
    held.release()


@pytest.mark.parametrize(("value", "metric"), [(2.5, 2.5), (3, 3.0), (None, None), ("much", None)])
def test_a_metric_is_a_finite_number_or_none(tmp_path, value, metric):
    (tmp_path / "summary.json").write_text(json.dumps({"val/loss": value}))
    assert metric_of(tmp_path, "val/loss") == metric
    assert metric_of(tmp_path, "val/los") is None
