"""A trial of a search reports its validations, and ends early where the others were better."""

import warnings

import optuna
import pytest
import torch

from ntp.tracking.study import remember_pruner
from tests.conftest import read_metrics, read_summary, spawn

DDP = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.progress_bar=false")


@pytest.fixture
def study(tmp_path):
    """A study with a finished trial that is better than any run will be, and trial 1, which is running."""
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/study.db", study_name="search")
    remember_pruner(study, "median", {"n_startup_trials": 1})
    better = study.ask()
    for step in range(1, 9):
        better.report(0.001, step)
    study.tell(better, 0.001)
    study.ask()
    return study


def as_trial(tmp_path, number=1):
    return f"sweep.trial={{study:search,storage:'sqlite:///{tmp_path}/study.db',number:{number}}}"


def validations(run_dir, name="val/loss"):
    return {line["step"]: line[name] for line in read_metrics(run_dir) if name in line}


def test_a_hopeless_trial_ends_as_pruned_with_its_checkpoints(ntp, tiny, study, tmp_path):
    outcome = ntp("train", *tiny, as_trial(tmp_path), "run_dir=run", "budget.steps=8")
    assert outcome.status == 0, outcome.stderr
    summary = read_summary(tmp_path / "run")
    assert summary["state"] == "pruned"
    assert summary["progress/step"] == 2
    assert study.trials[1].intermediate_values == validations(tmp_path / "run") == {2: summary["val/loss"]}
    assert study.trials[1].state.name == "RUNNING"  # the sweeper tells it
    checkpoints = [torch.load(path, weights_only=True) for path in (tmp_path / "run").glob("checkpoints/*.ckpt")]
    assert {one["global_step"] for one in checkpoints} == {2}


def test_a_trial_that_is_as_good_as_the_others_reports_every_validation_and_finishes(ntp, tiny, study, tmp_path):
    remember_pruner(study, "none", {})
    outcome = ntp("train", *tiny, as_trial(tmp_path), "run_dir=run", "sweep.metric=val/bits_per_byte")
    assert outcome.status == 0, outcome.stderr
    assert read_summary(tmp_path / "run")["state"] == "finished"
    expected = validations(tmp_path / "run", "val/bits_per_byte")
    assert study.trials[1].intermediate_values == expected
    assert expected.keys() == {2, 4}


def test_a_trial_that_has_done_its_last_step_is_not_pruned(ntp, tiny, study, tmp_path):
    assert ntp("train", *tiny, as_trial(tmp_path), "run_dir=run", "evaluation.every_steps=4").status == 0
    assert read_summary(tmp_path / "run")["state"] == "finished"
    assert study.trials[1].intermediate_values.keys() == {4}


def test_a_step_that_was_reported_before_the_run_was_killed_is_not_reported_again(ntp, tiny, study, tmp_path):
    study.set_user_attr("pruner", {"name": "median", "options": {"n_startup_trials": 1, "n_warmup_steps": 6}})
    trial = optuna.Trial(study, study.trials[1]._trial_id)
    trial.report(7.0, 2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outcome = ntp("train", *tiny, as_trial(tmp_path), "run_dir=run", "budget.steps=8")
    assert outcome.status == 0, outcome.stderr
    assert not [one for one in caught if "already reported" in str(one.message)]
    assert study.trials[1].intermediate_values == {2: 7.0} | {
        step: loss for step, loss in validations(tmp_path / "run").items() if step in (4, 6)
    }
    assert read_summary(tmp_path / "run")["state"] == "pruned"


def test_a_study_that_takes_no_more_reports_does_no_harm_to_the_run(ntp, tiny, study, tmp_path):
    study.tell(1, 0.5)
    with pytest.warns(UserWarning, match="this trial is not pruned any more"):
        outcome = ntp("train", *tiny, as_trial(tmp_path), "run_dir=run")
    assert outcome.status == 0, outcome.stderr
    assert read_summary(tmp_path / "run")["state"] == "finished"


def test_a_trial_that_no_study_knows_is_refused(ntp, tiny, study, tmp_path):
    outcome = ntp("train", *tiny, as_trial(tmp_path, number=9), "run_dir=run")
    assert outcome.status == 2
    assert "sweep.trial: sqlite:///" in outcome.stderr
    assert "has no trial 9 of a study search" in outcome.stderr


def test_two_processes_report_once_and_are_pruned_together(tiny, study, tmp_path):
    outcome = spawn("train", *tiny, *DDP, as_trial(tmp_path), "run_dir=run", "budget.steps=8", cwd=tmp_path)
    assert outcome.status == 0, outcome.stderr
    assert "already reported" not in outcome.stderr
    summary = read_summary(tmp_path / "run")
    assert summary["state"] == "pruned"
    assert study.trials[1].intermediate_values == {2: summary["val/loss"]}
