"""A search in earnest: real runs, a kill in the middle, and the end that it would have had."""

import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time

import optuna
import pytest
import yaml

from tests.conftest import read_metrics, read_summary, spawn

TRIALS = 7
SEARCH = (
    "hydra/sweeper=optuna",
    "optimizer.learning_rate=tag(log,interval(1e-5,1e-1))",
    f"hydra.sweeper.n_trials={TRIALS}",
    "hydra.sweeper.pruner_options.n_startup_trials=2",
    "sweep.name=rates",
    "budget.steps=20",
    "evaluation.every_steps=5",
    "evaluation.sample_tokens=0",
)


def trials(directory):
    path = directory / "study.db"
    if not path.exists():
        return []
    try:
        return optuna.load_study(study_name=directory.name, storage=f"sqlite:///{path}").trials
    except (KeyError, optuna.exceptions.OptunaError):  # just being made
        return []


@pytest.mark.slow(first=True)
@pytest.mark.timeout(900)
def test_a_search_that_is_killed_goes_on_and_finds_a_good_learning_rate(tiny, tmp_path):
    directory = tmp_path / "outputs" / "sweeps" / "rates"
    command = ("train", "-m", *tiny, *SEARCH)
    process = subprocess.Popen(
        [sys.executable, "-m", "ntp", *command], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 400
    while not any(one.state.name == "RUNNING" and one.intermediate_values for one in trials(directory)[3:]):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = trials(directory)
    (left,) = (one for one in before if one.state.name == "RUNNING")
    ended = [one.number for one in before if one.state.name != "RUNNING"]

    outcome = spawn(*command, cwd=tmp_path, timeout=400)
    assert outcome.status == 0, outcome.stdout + outcome.stderr
    after = trials(directory)
    states = [one.state.name for one in after]
    assert len(states) == TRIALS
    assert set(states) == {"COMPLETE", "PRUNED"}
    assert [after[number].datetime_complete for number in ended] == [
        before[number].datetime_complete for number in ended
    ]
    assert after[left.number].params == left.params
    assert after[left.number].intermediate_values.items() >= left.intermediate_values.items()

    jobs = json.loads((directory / "jobs.json").read_text())["jobs"]
    assert len(jobs) == TRIALS
    for one in after:
        run = tmp_path / one.user_attrs["directory"]
        assert read_summary(run)["state"] == {"COMPLETE": "finished", "PRUNED": "pruned"}[one.state.name]
        assert (
            one.intermediate_values.items()
            <= {line["step"]: line["val/loss"] for line in read_metrics(run) if "val/loss" in line}.items()
        )
        assert (one.last_step < 20) == (one.state.name == "PRUNED")

    best = yaml.safe_load((directory / "best.yaml").read_text())
    values = [one.value for one in after]
    assert best["value"] == min(values) < statistics.median(values)
    assert f"best: trial {best['trial']}, val/loss" in outcome.stdout
    assert read_summary(tmp_path / best["directory"])["val/loss"] == best["value"]
    # Trained again by the command that the file gives, the best trial has the same loss.
    again = subprocess.run(
        [sys.executable, "-m", *shlex.split(best["command"])],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0, again.stderr
    (run,) = (tmp_path / "outputs").glob("20*/*")
    assert read_summary(run)["val/loss"] == best["value"]

    outcome = spawn(*command, cwd=tmp_path)
    assert outcome.status == 0, outcome.stderr
    assert len(trials(directory)) == TRIALS
