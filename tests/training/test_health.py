"""Runs with something wrong in them, through the command line."""

import json
from pathlib import Path

import pytest
import torch

from tests.conftest import call, read_metrics, read_summary

ALLOWED = ("allow_targets=[tests]",)
DDP = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.progress_bar=false")
WINDOW = ("callbacks.health.window=8", "evaluation.every_steps=5", "trainer.log_every_steps=1")
EVERY_STEP = ("callbacks.checkpoint.every_steps=1", "callbacks.checkpoint.keep_last=100")
STEPS = 16


def poisoned(kind="Poisoned", **arguments):
    """Overrides of a run whose data spoils the loss."""
    given = {"total": STEPS} | arguments
    target = f"objective._target_=tests.training.poisoned.{kind}"
    values = (f"+objective.{name}={'null' if value is None else value}" for name, value in given.items())
    return (*ALLOWED, f"budget.steps={STEPS}", target, *(one.replace(" ", "") for one in values))


def callback(name, **arguments):
    target = f"+callbacks.{name.lower()}._target_=tests.training.poisoned.{name}"
    return (*ALLOWED, target, *(f"+callbacks.{name.lower()}.{key}={value}" for key, value in arguments.items()))


@pytest.fixture(scope="module")
def rows(tmp_path_factory, tiny):
    """The rows of each step of the first epoch, as a run says that skips them all."""
    path = tmp_path_factory.mktemp("rows") / "run"
    steps = list(range(1, STEPS + 1))
    assert (
        call("train", *tiny, *poisoned(steps=steps), "callbacks.health.stop_after=100", f"run_dir={path}").status == 0
    )
    recorded = json.loads((path / "nonfinite.json").read_text())
    assert [one["step"] for one in recorded] == steps
    return {one["step"]: [row["row"] for row in one["rows"]] for one in recorded}


def train(ntp, tiny, name, *overrides):
    outcome = ntp("train", *tiny, f"run_dir={name}", *overrides)
    assert outcome.status == 0, outcome.stderr
    return Path(name), outcome


def resume(ntp, name, *overrides):
    return ntp("train", f"resume={name}", *ALLOWED, *overrides)


def numbers(run_dir):
    """The lines of metrics, without what a clock has measured."""
    return [
        {name: value for name, value in line.items() if not name.startswith("perf/") and name != "progress/seconds"}
        for line in read_metrics(run_dir)
    ]


def checkpoint(run_dir, name="last"):
    return torch.load(run_dir / f"checkpoints/{name}.ckpt", weights_only=True)


def same(one, two):
    """Bit by bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two


def same_state(one, two):
    optimizers = ([optimizer["state"] for optimizer in state["optimizer_states"]] for state in (one, two))
    return same(one["state_dict"], two["state_dict"]) and same(*optimizers)


def test_a_healthy_run_is_the_same_to_the_last_bit_without_the_check(ntp, tiny):
    options = ("model.dropout=0.1", "data.micro_batch_size=2", "budget.steps=8", "callbacks.health.window=4")
    checked, _ = train(ntp, tiny, "checked", *options)
    unchecked, _ = train(ntp, tiny, "unchecked", *options[:-1], "~callbacks.health")
    assert numbers(checked) == numbers(unchecked)
    assert same_state(checkpoint(checked), checkpoint(unchecked))


@pytest.mark.parametrize(
    ("kind", "factor"), [("Poisoned", "nan"), ("Poisoned", "inf"), ("PoisonedGradient", "nan")], ids=str
)
def test_a_step_that_is_not_finite_leaves_everything_as_it_was(ntp, tiny, kind, factor):
    options = ("data.micro_batch_size=2", "trainer.gradient_clip_norm=null", *EVERY_STEP)
    bad, outcome = train(ntp, tiny, "bad", *poisoned(kind, steps=[3, 4, 8], factor=factor), *options)
    what = "gradient" if kind == "PoisonedGradient" else "loss"
    assert f"step 3: the {what} is not finite; the step is skipped" in outcome.stderr
    assert same_state(checkpoint(bad, "step-00000002"), checkpoint(bad, "step-00000004"))
    assert not same_state(checkpoint(bad, "step-00000004"), checkpoint(bad, "step-00000005"))
    # The same run with nothing to learn at those steps.
    empty, _ = train(ntp, tiny, "empty", *poisoned(steps=[3, 4, 8], factor=None), *options)
    assert same_state(checkpoint(bad), checkpoint(empty))
    losses = [
        [line.get("train/loss") for line in numbers(run) if "train/learning_rate" in line] for run in (bad, empty)
    ]
    assert losses[0] == losses[1]
    counts = {line["step"]: line.get("train/nonfinite_steps") for line in numbers(bad) if "train/learning_rate" in line}
    assert [counts[step] for step in (2, 3, 4, 7, 8, STEPS)] == [None, 1, 2, 2, 3, 3]


def test_what_is_not_finite_stays_out_of_the_means(ntp, tiny):
    run, _ = train(ntp, tiny, "run", *poisoned(rows=[], steps=[7]), "trainer.log_every_steps=8")
    line = next(line for line in numbers(run) if line["step"] == 8 and "train/loss" in line)
    assert 3.0 < line["train/loss"] < 5.0
    assert line["train/nonfinite_steps"] == 1


def test_a_run_that_skips_steps_resumes_exactly(ntp, tiny):
    options = poisoned(steps=[3, 4, 5, 9])
    whole, _ = train(ntp, tiny, "whole", *options)
    assert ntp("train", *tiny, *options, *callback("Ends", step=4), "run_dir=parts").status == 143
    assert resume(ntp, "parts").status == 0
    parts = Path("parts")
    assert numbers(parts) == numbers(whole)
    assert same_state(checkpoint(parts), checkpoint(whole))
    assert same(checkpoint(parts)["callbacks"]["Health"], checkpoint(whole)["callbacks"]["Health"])


def test_too_many_steps_in_a_row_end_the_run_with_the_rows_and_the_last_good_checkpoint(ntp, tiny, rows):
    options = (
        *poisoned(steps=list(range(8, 17))),
        "callbacks.health.stop_after=3",
        "callbacks.checkpoint.every_steps=3",
    )
    outcome = ntp("train", *tiny, *options, "evaluation.every_steps=null", "run_dir=run")
    assert outcome.status == 1
    last = outcome.stderr.strip().splitlines()[-1]
    assert last.startswith("ntp train: the loss has not been finite for 3 steps, 8 to 10")
    assert "the last good checkpoint is step-00000006.ckpt" in last
    assert ", ".join(map(str, rows[10])) in last
    recorded = json.loads(Path("run/nonfinite.json").read_text())
    assert {one["step"]: [row["row"] for row in one["rows"]] for one in recorded} == {s: rows[s] for s in (8, 9, 10)}
    summary = read_summary(Path("run"))
    assert (summary["state"], summary["train/nonfinite_steps"]) == ("failed", 3)


def test_steps_in_a_row_are_counted_across_an_interruption(ntp, tiny):
    options = (*poisoned(steps=list(range(3, 17))), "callbacks.health.stop_after=4")
    assert ntp("train", *tiny, *options, *callback("Ends", step=4), "run_dir=run").status == 143
    outcome = resume(ntp, "run")
    assert outcome.status == 1
    assert "for 4 steps, 3 to 6" in outcome.stderr


def test_a_spike_is_said_and_counted_and_changes_nothing(ntp, tiny, rows):
    options = (*poisoned(rows=rows[12], factor=30), *WINDOW)
    run, outcome = train(ntp, tiny, "run", *options)
    assert outcome.stderr.count("is a spike") == 1
    assert f"Its rows: {', '.join(map(str, rows[12]))} of epoch 0" in outcome.stderr
    counts = {line["step"]: line.get("train/loss_spikes") for line in numbers(run) if "train/loss" in line}
    assert [counts[step] for step in (11, 12, 16)] == [None, 1, 1]
    silent, outcome = train(ntp, tiny, "silent", *options, "callbacks.health.threshold=null")
    assert "spike" not in outcome.stderr
    assert same_state(checkpoint(run), checkpoint(silent))


def batches(run_dir):
    """The data of each step, the last time that it was computed."""
    return dict(line.split() for line in (run_dir / "batches.txt").read_text().splitlines())


def test_a_rewind_goes_on_from_the_checkpoint_before_the_spike_with_the_data_behind_it(ntp, tiny, rows):
    recorded = callback("RecordsBatches")
    options = (*poisoned(rows=rows[12], factor=30), *WINDOW, "callbacks.health.rewind=true", *recorded)
    run, outcome = train(ntp, tiny, "run", *options)
    assert "going on from step 10, with the data behind step 12" in outcome.stderr
    untouched, _ = train(ntp, tiny, "untouched", *poisoned(total=18), "budget.steps=18", *WINDOW, *recorded)
    seen, order = batches(run), batches(untouched)
    assert [seen[str(step)] for step in range(1, 17)] == [order[str(step)] for step in [*range(1, 11), *range(13, 19)]]
    lines = numbers(run)
    assert [line["step"] for line in lines if "train/loss" in line] == list(range(1, 17))
    assert max(line["train/loss"] for line in lines if "train/loss" in line) < 6.0
    event = next(line for line in lines if "train/rewound_from_step" in line)
    assert (event["step"], event["train/rewound_from_step"], event["train/skipped_batches"]) == (10, 12, 2)
    assert (lines[-2]["train/loss_spikes"], lines[-2]["train/rewinds"]) == (1, 1)
    assert read_summary(run)["progress/tokens"] == STEPS * 4 * 32


@pytest.mark.parametrize("crash", [True, False])
def test_a_run_that_went_back_resumes_exactly(ntp, tiny, rows, crash):
    options = (*poisoned(rows=rows[12], factor=30), *WINDOW, "callbacks.health.rewind=true")
    whole, _ = train(ntp, tiny, "whole", *options)
    ends = callback("Ends", step=14, crash=str(crash).lower())
    assert ntp("train", *tiny, *options, *ends, "run_dir=parts").status == (1 if crash else 143)
    assert resume(ntp, "parts").status == 0
    parts = Path("parts")
    assert numbers(parts) == numbers(whole)
    assert same_state(checkpoint(parts), checkpoint(whole))
    assert same(checkpoint(parts)["callbacks"]["Health"], checkpoint(whole)["callbacks"]["Health"])


def test_a_run_goes_back_so_often_and_not_more(ntp, tiny, rows):
    spoilt = (*poisoned(rows=[*rows[11], *rows[14]], factor=30), *WINDOW, "callbacks.health.window=4")
    options = (*spoilt, "callbacks.health.rewind=true")
    _, outcome = train(ntp, tiny, "once", *options, "callbacks.health.max_rewinds=1")
    assert outcome.stderr.count("is a spike") == 2
    assert outcome.stderr.count("going on from step") == 1
    run, outcome = train(ntp, tiny, "twice", *options)
    assert outcome.stderr.count("going on from step") == 2
    assert read_summary(run)["train/rewinds"] == 2


def test_a_spike_without_a_checkpoint_before_it_is_only_said(ntp, tiny, rows):
    options = (*poisoned(rows=rows[12], factor=30), *WINDOW, "callbacks.health.rewind=true")
    run, outcome = train(ntp, tiny, "run", *options, "evaluation.every_steps=null")
    assert "there is no good checkpoint to go back to" in outcome.stderr
    assert "train/rewinds" not in read_summary(run)


def test_a_run_goes_back_instead_of_failing(ntp, tiny, rows):
    options = (*poisoned(rows=[*rows[7], *rows[8]]), "callbacks.health.stop_after=2", "callbacks.health.rewind=true")
    run, outcome = train(ntp, tiny, "run", *options, *WINDOW)
    assert "no finite loss in steps 7 to 8; going on from step 5, with the data behind step 8" in outcome.stderr
    summary = read_summary(run)
    assert (summary["train/nonfinite_steps"], summary["train/rewinds"], summary["train/skipped_batches"]) == (2, 1, 3)


def test_a_run_that_failed_goes_on_behind_the_rows_when_it_is_allowed_to(ntp, tiny, rows):
    options = (*poisoned(rows=[*rows[7], *rows[8]]), "callbacks.health.stop_after=2", *WINDOW)
    assert ntp("train", *tiny, *options, "run_dir=run").status == 1
    outcome = resume(ntp, "run", "callbacks.health.rewind=true")
    assert outcome.status == 0, outcome.stderr
    assert read_summary(Path("run"))["state"] == "finished"


def test_two_processes_agree(ntp, pair, tiny, rows, tmp_path):
    # A row that spoils a step is on one device; the other one must skip the step too.
    options = (*poisoned(rows=rows[12], factor=30, nan_rows=rows[14][:1]), *WINDOW, "callbacks.health.rewind=true")
    one, _ = train(ntp, tiny, "one", *options)
    assert {"train/rewinds", "train/nonfinite_steps"} <= read_summary(one).keys()
    outcome = pair("train", *tiny, *DDP, *options, "run_dir=two", cwd=tmp_path)
    assert outcome.status == 0, outcome.stderr
    assert "going on from step 10, with the data behind step 12" in outcome.stderr
    ours, theirs = numbers(one), numbers(tmp_path / "two")
    assert [line.keys() for line in ours] == [line.keys() for line in theirs]
    for line, other in zip(ours, theirs, strict=True):
        assert other == pytest.approx(line, rel=1e-5)
