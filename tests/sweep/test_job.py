"""What sweepers are told of a job."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.utils import JobStatus

from ntp.sweep.job import JobEnded, JobResult, job_return

JOB = SimpleNamespace(name="seed=0", overrides=("seed=0",), composed=None)


def returned(state, metric=None, note=""):
    return job_return(JOB, JobResult(1, "seed=0", "1", state, Path("run"), metric, note=note))


def test_a_finished_job_returns_its_metric():
    assert returned("finished", 2.5).return_value == 2.5
    assert returned("finished", 2.5).status is JobStatus.COMPLETED


def test_a_metric_that_is_no_number_is_nan_for_a_sweeper():
    assert math.isnan(returned("finished").return_value)


def test_a_pruned_job_returns_its_metric_and_can_be_told_from_a_finished_one():
    assert returned("pruned", 2.5).return_value == 2.5
    assert returned("pruned", 2.5).result.state == "pruned"


@pytest.mark.parametrize("state", ["failed", "interrupted", "stopped", "elsewhere", "waiting"])
def test_a_job_without_an_end_returns_an_error_and_prints_nothing(state, capsys):
    job = returned(state, note="step two")
    assert job.status is JobStatus.FAILED
    with pytest.raises(JobEnded, match=f"seed=0: {state} step two"):
        _ = job.return_value
    assert capsys.readouterr() == ("", "")
