"""Searches through the command line, with a launcher that computes instead of training."""

import math
import sys
from pathlib import Path

import optuna
import pytest
import yaml

from ntp.config.errors import RunStopped
from ntp.sweep.job import JobResult
from ntp.sweep.optuna_search import OptunaSearch, Proposing
from ntp.sweep.space import read_space
from tests.sweep.launching import register

FOUND = Path("outputs", "sweeps", "found")
LEARNING_RATE = "optimizer.learning_rate=tag(log,interval(1e-5,1e-1))"


@pytest.fixture
def search(ntp, tiny):
    """Run a search; returns what the command said."""
    register()

    def run(sweeper, *arguments):
        options = (f"hydra/sweeper={sweeper}", "hydra/launcher=pretend", "sweep.name=found")
        return ntp("train", "-m", *tiny, *options, *arguments)

    return run


def rates(batches):
    return [values["optimizer.learning_rate"] for batch in batches for values in batch]


def study():
    return optuna.load_study(study_name="found", storage=f"sqlite:///{FOUND}/study.db")


def best(tmp_path):
    return yaml.safe_load((tmp_path / FOUND / "best.yaml").read_text())


def test_a_random_search_finds_the_same_jobs_again_and_keeps_the_best(search, tmp_path):
    batches = register()
    options = (LEARNING_RATE, "objective=causal,mlm", "seed=3", "hydra.sweeper.n_trials=12")
    outcome = search("random", *options)
    assert outcome.status == 0, outcome.stderr
    first = [values for batch in batches for values in batch]
    assert len(first) == 12
    assert {values["objective"] for values in first} == {"causal", "mlm"}
    found = best(tmp_path)
    losses = [abs(math.log10(float(values["optimizer.learning_rate"])) + 3) for values in first]
    assert found["value"] == min(losses)
    assert found["trial"] == losses.index(min(losses))
    assert found["parameters"] == {
        "optimizer.learning_rate": float(first[found["trial"]]["optimizer.learning_rate"]),
        "objective": first[found["trial"]]["objective"],
    }
    assert found["directory"] == str(FOUND / str(found["trial"]))
    assert found["command"].startswith("ntp train data=files ")
    assert f"optimizer.learning_rate={first[found['trial']]['optimizer.learning_rate']}" in found["command"]
    assert outcome.stdout.splitlines()[0] == "12 trials: 12 finished"
    assert f"best: trial {found['trial']}, val/loss {found['value']:.4f}" in outcome.stdout

    again = register()
    assert search("random", *options, "sweep.jobs=2").status == 0
    assert [{**values, "sweep.jobs": "2"} for values in first] == [values for batch in again for values in batch]
    longer = register()
    assert search("random", *options, "hydra.sweeper.n_trials=15").status == 0
    assert rates(longer)[:12] == rates([first])


def test_a_grid_keeps_its_best_too(search, tmp_path):
    batches = register()
    outcome = search("grid", "optimizer.learning_rate=1e-4,1e-3,1e-2", "seed=0,1")
    assert outcome.status == 0, outcome.stderr
    assert rates(batches) == ["0.0001"] * 2 + ["0.001"] * 2 + ["0.01"] * 2
    assert best(tmp_path)["parameters"] == {"optimizer.learning_rate": 0.001, "seed": 0}
    assert best(tmp_path)["trials"] == 6


def test_optuna_proposes_trials_near_the_good_ones():
    space = read_space([LEARNING_RATE])
    proposing = Proposing(30, 0, "minimize", "tpe", {}, "none", {})
    search = OptunaSearch(space, proposing, storage="memory:", study_name="search", identity="", metric="val/loss")
    batches = []

    def launch(jobs, first):
        batches.append([first + index for index in range(len(jobs))])
        rates = [float(overrides[0].split("=")[1]) for overrides in jobs]
        losses = [abs(math.log10(rate) + 3) for rate in rates]
        return [JobResult(1, "", "", "finished", Path(), loss) for loss in losses]

    trials = search.run(launch, jobs=4, retry=True)
    assert batches == [[*range(first, min(first + 4, 30))] for first in range(0, 30, 4)]
    assert [trial.number for trial in trials] == [*range(30)]
    losses = [trial.metric for trial in trials[15:]]
    assert sum(losses) / len(losses) < 0.8  # that of draws from the whole interval is 1
    # What was trained is what the study knows, to the digits that are written.
    assert [float(trial.values["optimizer.learning_rate"]) for trial in trials] == pytest.approx(
        [trial.params["optimizer.learning_rate"] for trial in search.study.trials], rel=1e-5
    )


def test_an_interrupted_search_goes_on_with_the_same_trials_and_ends_like_one_that_was_not(search, tmp_path):
    options = (LEARNING_RATE, "model.layers=range(1,4)", "hydra.sweeper.n_trials=6", "sweep.jobs=2")
    options = (*options, "hydra.sweeper.sampler_options.n_startup_trials=2")
    whole = register()
    assert search("optuna", *options).status == 0
    values = [trial.params for trial in study().trials]
    (tmp_path / FOUND).rename(tmp_path / "whole")

    killed_at = iter(range(100))

    def stop_at_the_fourth(_):
        if next(killed_at) == 3:
            raise RunStopped("stopped by SIGTERM", 143)
        return "finished"

    register(stop_at_the_fourth)
    assert search("optuna", *options).status == 143
    states = [trial.state.name for trial in study().trials]
    assert states == ["COMPLETE"] * 2 + ["RUNNING"] * 2
    rest = register()
    assert search("optuna", *options).status == 0
    assert [trial.state.name for trial in study().trials] == ["COMPLETE"] * 6
    assert rates(rest) == rates(whole)[2:]
    assert [trial.params for trial in study().trials] == values


def test_a_trial_that_was_killed_before_it_had_all_its_values_gets_them(search):
    options = (LEARNING_RATE, "model.layers=range(1,4)", "hydra.sweeper.n_trials=2")
    register(lambda _: "stopped")
    assert search("optuna", *options).status == 143
    storage = optuna.storages.get_storage(f"sqlite:///{FOUND}/study.db")
    storage.create_new_trial(study()._study_id)
    register()
    assert search("optuna", *options, "hydra.sweeper.n_trials=3").status == 0
    assert [sorted(trial.params) for trial in study().trials] == [["model.layers", "optimizer.learning_rate"]] * 3


def test_failed_and_pruned_trials_do_not_end_a_search(search, tmp_path):
    def behave(values):
        rate = float(values["optimizer.learning_rate"])
        return "failed" if rate > 1e-2 else "pruned" if rate < 1e-4 else "finished"

    register(behave)
    outcome = search("optuna", LEARNING_RATE, "hydra.sweeper.n_trials=12", "hydra.sweeper.sampler=random")
    assert outcome.status == 0, outcome.stderr
    counts = {state: sum(one.state.name == state for one in study().trials) for state in ("COMPLETE", "PRUNED", "FAIL")}
    assert all(counts.values())
    assert sum(counts.values()) == 12
    said = f"12 trials: {counts['COMPLETE']} finished, {counts['PRUNED']} pruned, {counts['FAIL']} failed"
    assert outcome.stdout.startswith(said)
    assert 1e-4 < best(tmp_path)["parameters"]["optimizer.learning_rate"] < 1e-2


def test_a_search_without_a_finished_trial_fails_and_is_tried_again(search):
    options = (LEARNING_RATE, "hydra.sweeper.n_trials=3")
    failed = register(lambda _: "failed")
    outcome = search("optuna", *options)
    assert outcome.status == 1
    assert "none of the 3 trials finished; outputs/sweeps/found/0 holds one of them" in outcome.stderr
    register()
    assert search("optuna", *options, "sweep.retry=false").status == 1
    again = register()
    outcome = search("optuna", *options)
    assert outcome.status == 0, outcome.stderr
    assert rates(again) == rates(failed)
    assert outcome.stdout.startswith("3 trials: 3 finished")
    nothing = register()
    assert search("optuna", *options).stdout.startswith("3 trials: 3 finished")
    assert nothing == []


def test_trials_that_were_stopped_are_gone_on_with(search):
    options = (LEARNING_RATE, "hydra.sweeper.n_trials=3")
    register(lambda values: "stopped" if float(values["optimizer.learning_rate"]) > 1e-3 else "finished")
    outcome = search("optuna", *options)
    assert outcome.status == 143
    assert "unfinished, which the same command goes on with" in outcome.stdout
    register()
    outcome = search("optuna", *options)
    assert outcome.status == 0
    assert outcome.stdout.startswith("3 trials: 3 finished")


def test_a_study_of_another_search_is_not_gone_on_with(search):
    assert search("optuna", LEARNING_RATE, "hydra.sweeper.n_trials=1").status == 0
    for other, what in (
        (("optimizer.learning_rate=interval(1e-4,1)",), "search space (optimizer.learning_rate)"),
        ((LEARNING_RATE, "model.layers=range(1,3)"), "search space (model.layers)"),
        ((LEARNING_RATE, "seed=1"), "configuration (identity)"),
    ):
        outcome = search("optuna", *other)
        assert outcome.status == 2
        assert "sweep.name: the study in sqlite:///" in outcome.stderr
        assert f"has another {what}; give this search another name" in outcome.stderr
    assert search("optuna", LEARNING_RATE, "hydra.sweeper.n_trials=1", "sweep.jobs=2").status == 0


def test_losses_of_different_kinds_are_not_compared_in_silence(search):
    outcome = search("grid", "optimizer.learning_rate=1e-3,1e-4", "objective=causal,mlm")
    assert "but the likelihoods of the trials are of different kinds (exact, pseudo)" in outcome.stdout
    outcome = search("grid", "optimizer.learning_rate=1e-3,1e-4", "objective=mlm")
    assert "kinds" not in outcome.stdout


def test_a_metric_that_no_run_has_ends_the_search_at_once(search):
    batches = register()
    outcome = search("optuna", LEARNING_RATE, "sweep.metric=val/los")
    assert outcome.status == 2
    assert "sweep.metric: outputs/sweeps/found/0 has no metric 'val/los' (did you mean 'val/loss'?)" in outcome.stderr
    assert len(batches) == 1


def test_a_metric_that_can_be_large_is_searched_for_its_largest_value(search, tmp_path):
    for sweeper in ("random", "optuna"):
        outcome = search(sweeper, LEARNING_RATE, "hydra.sweeper.n_trials=5", "hydra.sweeper.direction=maximize")
        assert outcome.status == 0, outcome.stderr
        assert best(tmp_path)["value"] > 1


def test_a_search_can_be_written_in_a_file(search, tmp_path):
    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "rates.yaml").write_text(
        "# @package _global_\n"
        "defaults:\n"
        "  - override /hydra/sweeper: optuna\n"
        "hydra:\n"
        "  sweeper:\n"
        "    n_trials: 4\n"
        "    params: {optimizer.learning_rate: 'tag(log, interval(1e-4, 1e-2))'}\n"
    )
    batches = register()
    outcome = search("optuna", "experiment=rates", f"hydra.searchpath=[file://{tmp_path / 'conf'}]")
    assert outcome.status == 0, outcome.stderr
    assert len(rates(batches)) == 4


def test_a_journal_can_hold_the_study(search):
    options = (LEARNING_RATE, "hydra.sweeper.n_trials=3", "hydra.sweeper.storage='journal:study.log'")
    first = register(lambda _: "stopped")
    assert search("optuna", *options).status == 143
    second = register()
    assert search("optuna", *options).status == 0
    assert rates(first) == rates(second)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("hydra.sweeper.sampler=tpee",), "hydra.sweeper.sampler: there is no 'tpee' (did you mean 'tpe'?)"),
        (("hydra.sweeper.pruner=medium",), "hydra.sweeper.pruner: there is no 'medium' (did you mean 'median'?)"),
        (("hydra.sweeper.pruner=percentile",), "hydra.sweeper.pruner_options.percentile: percentile needs a value"),
        (
            ("hydra.sweeper.pruner_options.percentile=10",),
            "hydra.sweeper.pruner_options.percentile: median has no such option",
        ),
        (("hydra.sweeper.pruner_options.n_warmup_steps=-1",), "hydra.sweeper.pruner_options: median refuses them"),
        (("hydra.sweeper.n_trials=0",), "hydra.sweeper.n_trials: should be greater than 0"),
        (("+hydra.sweeper.n_trial=3",), "hydra.sweeper.n_trial: no such key (did you mean 'n_trials'?)"),
        (("hydra.sweeper.direction=down",), "hydra.sweeper.direction: should be 'minimize' or 'maximize'"),
        (("hydra.sweeper.storage='sqlite:////nowhere/x.db'",), "hydra.sweeper.storage: sqlite:////nowhere/x.db can't"),
        (("model.layers=range(5,2)",), "model.layers: range(5,2) is empty"),
        (("model.layers=range(-2,2)",), "model.layers: should be greater than 0, not -2"),
        (("objective=causal,cuasal",), "objective: there is no 'cuasal' (did you mean 'causal'?)"),
        (("model.layrs=range(1,3)",), "model.layrs: no such key (did you mean 'model.layers'?)"),
    ],
)
def test_a_wrong_search_is_refused_before_any_trial(search, arguments, problem):
    batches = register()
    outcome = search("optuna", LEARNING_RATE, *arguments)
    assert outcome.status == 2, outcome.stdout + outcome.stderr
    assert outcome.stderr.startswith(f"ntp train: {problem}")
    assert batches == []


def test_a_dry_run_proposes_trials_and_leaves_nothing(ntp, tiny, tmp_path):
    options = (LEARNING_RATE, "sweep.dry_run=true", "sweep.jobs=3", "sweep.name=found")
    outcome = ntp("train", "-m", *tiny, *options, "hydra/sweeper=optuna", "hydra.sweeper.seed=1")
    assert outcome.status == 0, outcome.stderr
    assert outcome.stdout.startswith("3 jobs: 3 to run")
    assert not (tmp_path / "outputs").exists()


def test_a_grid_refuses_an_interval(search):
    outcome = search("grid", LEARNING_RATE)
    assert outcome.status == 2
    assert "optimizer.learning_rate: a grid can't hold an interval" in outcome.stderr


def test_a_launcher_that_says_nothing_of_its_jobs_is_refused(search):
    outcome = search("random", LEARNING_RATE, "hydra/launcher=basic", "hydra.sweeper.n_trials=1", "data.path=nowhere")
    assert outcome.status == 2
    assert "hydra/launcher: this one does not say how jobs ended; use hydra/launcher=isolated" in outcome.stderr


def test_without_optuna_it_says_what_to_install(search, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    outcome = search("optuna", LEARNING_RATE)
    assert outcome.status == 2
    assert outcome.stderr == 'ntp train: hydra/sweeper: optuna is not installed; pip install "ntp[optuna]"\n'
    assert search("random", LEARNING_RATE, "hydra.sweeper.n_trials=1").status == 0
