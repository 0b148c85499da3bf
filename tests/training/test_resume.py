"""Going on with a run that was interrupted: exactly where it was, and only where that is what was meant."""

import json
import os
import shlex
import shutil
from pathlib import Path

import pytest
import torch

from ntp.tracking.run_directory import RunDirectory
from ntp.training.schedules import Cosine
from tests.conftest import TEXT, read_metrics, read_summary
from tests.training.going_on import assert_equal, go_on, interrupt, watched

# -- as if nothing had happened --


def test_a_stopped_run_says_how_to_go_on_and_does_so_as_if_it_never_had_stopped(stopped, whole):
    assert read_summary(stopped)["state"] == "stopped"
    asked = (stopped / "overrides.yaml").read_text()
    outcome = go_on(stopped)
    assert outcome.status == 0, outcome.stderr
    assert "from step 5" in outcome.stderr
    assert read_summary(stopped)["state"] == "finished"
    assert (stopped / "overrides.yaml").read_text() == asked
    assert_equal(whole, stopped)


def test_the_command_to_go_on_trusts_whom_the_first_one_trusted(ntp, shape, tmp_path):
    own = ("objective._target_=tests.testing.forgetful.KeepsItsCount", "allow_targets=[tests]")
    interrupt(tmp_path / "run", "SIGTERM", "accumulation", 2)
    stopped = ntp("train", *shape, *own, *watched(tmp_path / "run"), "run_dir=run")
    _, command = stopped.stderr.strip().splitlines()[-1].split("go on with: ntp ")
    assert ntp("train", "resume=run").status == 2
    assert ntp(*shlex.split(command)).status == 0


@pytest.mark.parametrize(("how", "expected"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGUSR1", 143)])
def test_a_signal_leaves_a_checkpoint_and_the_command_to_go_on(ntp, shape, tmp_path, how, expected):
    interrupt(tmp_path / "run", how, "accumulation", 2)
    outcome = ntp("train", *shape, *watched(tmp_path / "run"), "run_dir=run")
    assert outcome.status == expected
    assert outcome.stderr.strip().splitlines()[-1].endswith("at step 2; go on with: ntp train resume=run")
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 2


VARIANTS = {
    "rare lines and checkpoints": ("trainer.log_every_steps=7", "callbacks.checkpoint.every_steps=5"),
    "no validation on the way": ("evaluation.every_steps=null", "callbacks.checkpoint.every_steps=3"),
    "asynchronous, by the clock": (
        "callbacks.checkpoint.asynchronous=true",
        "callbacks.checkpoint.every_steps=null",
        "callbacks.checkpoint.every_minutes=1e-6",
    ),
    "after validations": ("callbacks.checkpoint.every_steps=null",),
    "muon, workers": ("optimizer=muon", "data.workers=2"),
    "bfloat16, mixture": ("objective=mixture", "trainer.precision=bf16-mixed"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_goes_on_twice_whatever_the_settings(ntp, shape, tmp_path, variant):
    options = (*shape, *VARIANTS[variant])
    assert ntp("train", *options, *watched(tmp_path / "whole"), "run_dir=whole").status == 0
    run = tmp_path / "run"
    for where, step in (("accumulation", 3), ("accumulation", 6)):
        interrupt(run, "SIGTERM", where, step)
        outcome = ntp("train", *options, *watched(run), "run_dir=run", "resume=auto")
        assert outcome.status == 143, outcome.stderr
    assert ntp("train", *options, *watched(run), "run_dir=run", "resume=auto").status == 0
    assert_equal(tmp_path / "whole", run)


def test_a_run_that_is_stopped_in_its_last_validation_only_makes_up_for_that(stopped, whole):
    interrupt(stopped, "SIGTERM", "final validation", 8)
    assert go_on(stopped).status == 143
    assert go_on(stopped).status == 0
    assert_equal(whole, stopped)


def test_a_time_limit_stops_with_a_checkpoint(stopped, whole):
    outcome = go_on(stopped, "trainer.time_limit_minutes=0.001")
    assert outcome.status == 143
    assert "stopped at its time limit at step 6; go on with: ntp train resume=run" in outcome.stderr
    assert go_on(stopped, "trainer.time_limit_minutes=null").status == 0
    assert_equal(whole, stopped)


def test_checkpoints_are_written_when_the_minutes_are_over(ntp, tiny, tmp_path):
    checkpoint = "callbacks.checkpoint"
    options = ("evaluation.every_steps=4", "budget.steps=5", f"{checkpoint}.keep_last=9")
    assert ntp("train", *tiny, *options, f"{checkpoint}.every_minutes=1e-6", "run_dir=often").status == 0
    assert len(list((tmp_path / "often/checkpoints").glob("step-*"))) == 5
    assert ntp("train", *tiny, *options, f"{checkpoint}.every_minutes=60", "run_dir=seldom").status == 0
    steps = sorted(int(path.stem[5:]) for path in (tmp_path / "seldom/checkpoints").glob("step-*"))
    assert steps == [4, 5]  # the best so far, and the end


def test_a_budget_in_minutes_counts_the_time_before(ntp, tiny, tmp_path):
    run = tmp_path / "run"
    options = (*tiny, "budget.steps=null", "budget.minutes=0.05", "evaluation.every_steps=null", *watched(run))
    options += ("optimizer.learning_rate=1e-3", "schedule=cosine", "schedule.warmup_fraction=0")
    interrupt(run, "SIGTERM", "accumulation", 10)
    assert ntp("train", *options, "run_dir=run").status == 143
    before = read_summary(run)["progress/seconds"]
    assert 0 < before < 3
    interrupt(run, "SIGTERM", "final validation", 0)
    assert ntp("train", "resume=run").status == 143
    steps = read_metrics(run)[-1]["step"]
    assert ntp("train", "resume=run").status == 0
    assert read_metrics(run)[-1]["step"] == steps
    lines = [line for line in read_metrics(run) if "train/loss" in line]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    seconds = [line["progress/seconds"] for line in lines]
    assert seconds == sorted(seconds)
    assert seconds[10] >= before
    assert seconds[-3] < 3.0 <= read_summary(run)["progress/seconds"]
    # A step's rate is set while its first micro-batch begins: after the line before it, before its own.
    cosine, highest = Cosine(warmup_fraction=0.0), 1e-3
    for begun, ended, line in zip([0.0, *seconds], seconds, lines, strict=False):
        late, early = (highest * cosine.factor(line["step"], min(at / 3.0, 1.0)) for at in (ended, begun))
        assert late - 1e-12 <= line["train/learning_rate"] <= early + 1e-12
    assert lines[-1]["train/learning_rate"] == pytest.approx(highest * cosine.final_fraction)


def test_another_division_changes_nothing_but_rounding(ntp, shape, tmp_path):
    options = (*shape, "model.dropout=0")
    assert ntp("train", *options, "run_dir=whole").status == 0
    interrupt(tmp_path / "run", "SIGTERM", "accumulation", 4)
    assert ntp("train", *options, *watched(tmp_path / "run"), "run_dir=run").status == 143
    assert ntp("train", "resume=run", "data.micro_batch_size=1").status == 0
    for ours, theirs in zip(read_metrics(tmp_path / "run"), read_metrics(tmp_path / "whole"), strict=True):
        for name in ("train/loss", "val/loss", "val/bits_per_byte", "progress/targets"):
            assert (name in ours) == (name in theirs)
            assert ours.get(name, 0) == pytest.approx(theirs.get(name, 0), rel=1e-6)


# -- which run --


def test_auto_goes_on_with_the_newest_unfinished_run_of_the_same_configuration(ntp, shape, tmp_path):
    for name in ("first", "second", "other"):
        interrupt(tmp_path / name, "SIGTERM", "accumulation", 2)
        options = ("seed=1",) if name == "other" else ()
        # What watches them stands at the same place in all of them, and is not told apart.
        watch = [one.replace(f"{name}-notes", "notes") for one in watched(tmp_path / name)]
        shutil.copytree(tmp_path / f"{name}-notes", tmp_path / "notes", dirs_exist_ok=True)
        assert ntp("train", *shape, *watch, *options, f"run_dir=outputs/{name}").status == 143
    outcome = ntp("train", *shape, *watch, "resume=auto")
    assert outcome.status == 0, outcome.stderr
    assert "from step 2" in outcome.stderr
    states = {path.parent.name: json.loads(path.read_text())["state"] for path in Path("outputs").rglob("summary.json")}
    assert states == {"first": "stopped", "second": "finished", "other": "stopped"}
    assert ntp("train", *shape, *watch, "resume=auto").status == 0
    assert read_summary(tmp_path / "outputs/first")["state"] == "finished"
    assert ntp("train", *shape, *watch, "resume=auto").status == 0
    new = [path for path in Path("outputs").rglob("summary.json") if path.parent.name not in states]
    assert len(new) == 1  # nothing was left to go on with


def test_auto_in_a_given_directory_begins_there_goes_on_there_and_does_nothing_else(ntp, shape, tmp_path):
    run = tmp_path / "run"
    options = (*shape, *watched(run), "run_dir=run", "resume=auto")
    interrupt(run, "SIGTERM", "accumulation", 3)
    assert ntp("train", *options).status == 143
    refused = ntp("train", *options, "optimizer.learning_rate=0.5")
    assert refused.status == 2
    assert refused.stderr.startswith("ntp train: run_dir: ")
    assert "/run holds another run: optimizer.learning_rate differs" in refused.stderr
    assert ntp("train", *options).status == 0
    refused = ntp("train", *options)
    assert refused.status == 2
    assert "/run is finished; a larger budget would go on with it" in refused.stderr


def test_a_directory_in_which_nothing_was_written_but_its_claim_is_free(ntp, shape, tmp_path):
    for name, content in (("empty", ""), ("claimed", '{"state": "running"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(content)
        outcome = ntp("train", *shape, f"run_dir={name}", "resume=auto")
        assert outcome.status == 0, outcome.stderr


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(ntp, shape, tmp_path):
    assert ntp("train", *shape, "budget.steps=1", "run_dir=run").status == 0
    shutil.rmtree(tmp_path / "run/checkpoints")
    (tmp_path / "run/summary.json").write_text('{"state": "running"}')
    outcome = ntp("train", *shape, "budget.steps=1", "run_dir=run", "resume=auto")
    assert outcome.status == 0, outcome.stderr
    assert "from the beginning: no checkpoint had been written yet" in outcome.stderr
    assert len(read_metrics(tmp_path / "run")) == 3


def test_a_finished_run_goes_on_only_with_a_larger_budget(ntp, tiny, tmp_path):
    options = (*tiny, "schedule=constant", "evaluation.final_rows=4", *watched(tmp_path / "run"))
    assert ntp("train", *options, "run_dir=run").status == 0
    refused = ntp("train", "resume=run")
    assert refused.status == 2
    assert "resume: run is finished; a larger budget would go on with it" in refused.stderr
    for more in ("budget.steps=3", "budget.steps=4"):
        refused = ntp("train", "resume=run", more)
        assert refused.status == 2
        assert refused.stderr.startswith(("ntp train: budget.steps: ", "ntp train: resume: "))
    longer = ntp("train", "resume=run", "budget.steps=8")
    assert longer.status == 0, longer.stderr
    whole = [*options[:-2], *watched(tmp_path / "whole")]
    assert ntp("train", *whole, "budget.steps=8", "run_dir=whole").status == 0
    assert_equal(tmp_path / "whole", tmp_path / "run")


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("seed=1", "seed: is 0 in this run, and a run that goes on can't change it to 1"),
        ("model.width=64", "model.width: is 32 in this run"),
        ("model=micro", "model.width: is 32"),
        ("objective=mlm", "objective._target_: "),
        ("optimizer.learning_rate=0.1", "optimizer.learning_rate: "),
        ("schedule=cosine", "schedule._target_: "),
        ("data.sequence_length=16", "data.sequence_length: "),
        ("data.batch_size=8", "data.batch_size: "),
        ("trainer.precision=bf16-mixed", "trainer.precision: "),
    ],
)
def test_what_would_make_another_run_of_it_is_refused_by_name(stopped, override, key):
    before = (stopped / "summary.json").read_text()
    outcome = go_on(stopped, override)
    assert outcome.status == 2
    assert f"ntp train: {key}" in outcome.stderr
    assert (stopped / "summary.json").read_text() == before


def test_a_text_that_has_changed_is_refused(ntp, shape, tmp_path):
    text = tmp_path / "own.txt"
    text.write_text(TEXT)
    run = tmp_path / "run"
    interrupt(run, "SIGTERM", "accumulation", 3)
    assert ntp("train", *shape, f"data.path={text}", *watched(run), "run_dir=run").status == 143
    checkpoints = sorted(os.listdir(run / "checkpoints"))
    text.write_text(TEXT.replace("return", "yield"))
    outcome = ntp("train", "resume=run")
    assert outcome.status == 2
    assert "data: the text or its tokenizer is not what this run was trained on so far" in outcome.stderr
    assert sorted(os.listdir(run / "checkpoints")) == checkpoints
    text.write_text(TEXT)
    assert ntp("train", "resume=run").status == 0


def test_a_run_that_another_process_trains_is_refused(stopped):
    directory = RunDirectory(stopped)
    directory.reclaim()
    directory.update_summary("running")
    outcome = go_on(stopped)
    assert outcome.status == 2
    assert "resume: another process is training in " in outcome.stderr
    directory.release()
    assert go_on(stopped).status == 0


def test_a_directory_without_a_run_is_refused(ntp, tmp_path):
    outcome = ntp("train", "resume=nowhere")
    assert outcome.status == 2
    assert "resume: nowhere is not a run directory" in outcome.stderr
    assert not (tmp_path / "nowhere").exists()
    assert not (tmp_path / "outputs").exists() or not any((tmp_path / "outputs").rglob("*.json"))
