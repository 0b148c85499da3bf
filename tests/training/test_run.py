"""What a run computes, leaves behind, and does when it is disturbed; through the command line."""

import json
import math

import pytest
import torch
import yaml

from ntp.training.schedules import Constant, Cosine, Linear, WarmupStableDecay
from tests.conftest import TEXT, read_metrics, read_summary

PROGRESS = {f"progress/{name}" for name in ("step", "rows", "tokens", "bytes", "targets", "flops", "seconds")}
VALIDATION = {f"val/{name}" for name in ("loss", "perplexity", "bits_per_token", "bits_per_byte")}


def losses(run_dir):
    return [line["train/loss"] for line in read_metrics(run_dir) if "train/loss" in line]


def test_the_run_directory_holds_everything_that_is_true_of_a_run(trained):
    for name in (
        "config.yaml",
        "overrides.yaml",
        "environment.json",
        "metrics.jsonl",
        "summary.json",
        "sample.txt",
        "tokenizer/tokenizer.json",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
    ):
        assert (trained / name).is_file(), name
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["data"]["sequence_length"] == 32
    assert config["run_dir"] == str(trained)
    assert "${" not in (trained / "config.yaml").read_text()
    assert json.loads((trained / "environment.json").read_text())["packages"]["torch"]


def test_the_summary_says_how_it_ended_with_the_last_value_of_every_metric(trained):
    summary = read_summary(trained)
    assert summary["state"] == "finished"
    assert summary["objective"] == "causal"
    assert summary["likelihood"] == "exact"
    assert summary["parameters"] > 0
    last = {}
    for line in read_metrics(trained):
        last |= line
    last.pop("step")
    assert {name: summary[name] for name in last} == last
    assert VALIDATION | PROGRESS | {"train/loss", "perf/tokens_per_second"} <= last.keys()


def test_every_line_of_metrics_has_the_step_and_the_progress(trained):
    lines = read_metrics(trained)
    assert [line["step"] for line in lines if "train/loss" in line] == [1, 2, 3, 4]
    for line in lines:
        assert line.keys() >= PROGRESS | {"step"}


def test_progress_counts_what_was_read_and_trained(trained):
    summary = read_summary(trained)
    assert summary["progress/tokens"] == summary["progress/targets"] == 4 * 4 * 32
    assert summary["progress/rows"] == 4 * 4
    assert summary["progress/bytes"] == pytest.approx(4 * 4 * 32, abs=8)  # characters of one byte each
    assert summary["progress/flops"] > 0


def test_the_ledger_has_the_peak_of_memory_which_never_falls(trained):
    peaks = [line["perf/peak_memory_bytes"] for line in read_metrics(trained) if "train/loss" in line]
    assert len(peaks) == 4
    assert peaks == sorted(peaks)
    assert peaks[0] > 50e6  # torch alone takes more
    assert read_summary(trained)["perf/peak_memory_bytes"] == peaks[-1]


def test_bits_per_byte_follow_from_the_loss_and_the_text(trained):
    summary = read_summary(trained)
    nats = summary["val/loss"]
    assert summary["val/perplexity"] == pytest.approx(math.exp(nats))
    assert summary["val/bits_per_token"] == pytest.approx(nats / math.log(2))
    # One byte a character, and an end-of-text token of none.
    assert summary["val/bits_per_byte"] == pytest.approx(nats / math.log(2), rel=0.02)


def test_the_first_loss_is_that_of_a_uniform_guess(trained):
    vocabulary = len(json.loads((trained / "tokenizer/tokenizer.json").read_text())["model"]["vocab"])
    assert losses(trained)[0] == pytest.approx(math.log(vocabulary), abs=0.3)


def test_checkpoints_load_without_running_code(trained):
    for name in ("last", "best"):
        checkpoint = torch.load(trained / f"checkpoints/{name}.ckpt", weights_only=True)
        assert checkpoint["global_step"] in (2, 4)
        assert checkpoint["ntp"]["progress"]["step"] == checkpoint["global_step"]
        assert not [name for name in checkpoint["state_dict"] if "_orig_mod" in name]


def test_a_run_directory_that_holds_a_run_is_refused_and_left_alone(ntp, tiny, trained):
    before = (trained / "summary.json").read_text()
    outcome = ntp("train", *tiny, f"run_dir={trained}")
    assert outcome.status == 2
    assert "run_dir" in outcome.stderr
    assert "already holds a run" in outcome.stderr
    assert (trained / "summary.json").read_text() == before


def test_two_runs_never_share_a_directory(ntp, tiny, tmp_path):
    for _ in range(2):
        assert ntp("train", *tiny, "budget.steps=1").status == 0
    assert len(list((tmp_path / "outputs").glob("*/*/summary.json"))) == 2


def test_nothing_is_left_behind_by_a_configuration_that_is_wrong(ntp, tiny, tmp_path):
    assert ntp("train", *tiny, "model.heads=3", "run_dir=wrong").status == 2
    assert not (tmp_path / "wrong").exists()


def run_losses(ntp, tiny, name, *overrides):
    outcome = ntp("train", *tiny, f"run_dir={name}", *overrides)
    assert outcome.status == 0, outcome.stderr
    from pathlib import Path

    return losses(Path(name))


def test_the_same_seed_gives_the_same_losses_to_the_last_bit(ntp, tiny):
    first = run_losses(ntp, tiny, "a", "model.dropout=0.1")
    assert first == run_losses(ntp, tiny, "b", "model.dropout=0.1")
    assert first != run_losses(ntp, tiny, "c", "model.dropout=0.1", "seed=1")


def test_workers_change_nothing(ntp, tiny):
    first = run_losses(ntp, tiny, "none", "data.workers=0")
    assert first == run_losses(ntp, tiny, "one", "data.workers=1")
    assert first == run_losses(ntp, tiny, "two", "data.workers=2")


def test_accumulation_changes_nothing_but_rounding(ntp, tiny, packed, tmp_path):
    isolated = (*packed, "data.documents=isolate")
    whole = run_losses(ntp, tiny, "whole", *isolated)
    parts = run_losses(ntp, tiny, "parts", *isolated, "data.micro_batch_size=1")
    assert parts == pytest.approx(whole, rel=1e-6)
    targets = [line["progress/targets"] for line in read_metrics(tmp_path / "whole") if "train/loss" in line]
    steps = [after - before for before, after in zip([0, *targets], targets, strict=False)]
    assert len(set(steps)) > 1
    assert max(steps) < 4 * 32


def test_speed_does_not_depend_on_where_validation_falls(ntp, tiny, tmp_path):
    options = ("budget.steps=40", "trainer.log_every_steps=20", "evaluation.every_steps=15")
    run_losses(ntp, tiny, "run", *options)
    for line in read_metrics(tmp_path / "run"):
        if line.get("step") in (20, 40) and "train/loss" in line:
            assert line["perf/tokens_per_second"] * line["perf/step_seconds"] == pytest.approx(4 * 32)


def test_the_best_checkpoint_knows_its_own_loss(trained):
    best = torch.load(trained / "checkpoints/best.ckpt", weights_only=True)
    line = next(line for line in read_metrics(trained) if line["step"] == best["global_step"] and "val/loss" in line)
    assert best["callbacks"]["Checkpoint"]["best_loss"] == pytest.approx(line["val/loss"])


def test_one_batch_is_learned_by_heart(ntp, tiny):
    options = (
        "debug=overfit",
        "budget.steps=250",
        "optimizer.learning_rate=1e-2",
        "trainer.log_every_steps=50",
        "evaluation.sample_tokens=0",
        "evaluation.every_steps=null",
    )
    assert run_losses(ntp, tiny, "overfit", *options)[-1] < 0.05


@pytest.mark.parametrize("documents", ["concatenate", "isolate"])
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_bfloat16_trains(ntp, tiny, packed, documents, precision):
    options = (f"trainer.precision={precision}", f"data.documents={documents}", "budget.steps=12", *packed)
    result = run_losses(ntp, tiny, "bf16", *options, "optimizer.learning_rate=1e-2", "schedule=constant")
    assert result[-1] < result[0] - 0.5


def test_the_final_validation_is_of_all_that_is_held_out(ntp, tiny, tmp_path):
    run_losses(ntp, tiny, "run", "evaluation.rows=2", "evaluation.final_rows=null")
    assert ntp("evaluate", "run=run", "checkpoint=last").status == 0
    record = json.loads((tmp_path / "run/evaluations.jsonl").read_text())
    assert record["rows"] > 8
    assert record["loss"] == pytest.approx(read_summary(tmp_path / "run")["val/loss"], rel=1e-6)


def test_numbers_of_two_validations_never_stand_together(ntp, tiny, tmp_path):
    options = ("objective=mixture", "evaluation.rows=8", "evaluation.final_rows=1", "run_dir=run")
    outcome = ntp("train", *tiny, *options)
    assert outcome.status == 0, outcome.stderr
    first, *_, last = (line for line in read_metrics(tmp_path / "run") if "val/loss" in line)
    assert {"val/causal/loss", "val/mlm/loss"} <= first.keys()
    summary = read_summary(tmp_path / "run")
    shown = {name for name in summary if name.startswith("val/")}
    assert shown == {name for name in last if name.startswith("val/")}
    assert len(shown & {"val/causal/loss", "val/mlm/loss"}) == 1  # a single row is of one of them


BASIC = ("-m", "hydra/launcher=basic", "budget.steps=1")


def test_hydras_own_launcher_runs_every_combination_in_this_process(ntp, tiny, tmp_path):
    assert ntp("train", *tiny, *BASIC, "seed=0,1", "model.width=16,32").status == 0
    assert len(list((tmp_path / "outputs/sweeps").glob("*/*/summary.json"))) == 4


def test_a_failing_job_of_hydras_own_launcher_does_not_stop_the_others(ntp, tiny, tmp_path):
    outcome = ntp("train", *tiny, *BASIC, "model.heads=3,2")
    assert outcome.status == 2
    assert "model.heads" in outcome.stderr
    assert len(list((tmp_path / "outputs/sweeps").glob("*/1/summary.json"))) == 1


def test_muon_trains(ntp, tiny):
    result = run_losses(ntp, tiny, "muon", "optimizer=muon", "budget.steps=12", "optimizer.learning_rate=1e-2")
    assert result[-1] < result[0] - 0.5


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant", "wsd"])
def test_every_schedule_is_followed(ntp, tiny, tmp_path, schedule):
    run_losses(ntp, tiny, "run", f"schedule={schedule}", "schedule.warmup_steps=2", "optimizer.learning_rate=0.5")
    rates = [line["train/learning_rate"] for line in read_metrics(tmp_path / "run") if "train/loss" in line]
    classes = {"cosine": Cosine, "linear": Linear, "constant": Constant, "wsd": WarmupStableDecay}
    expected = [0.5 * classes[schedule](warmup_steps=2).factor(step, step / 4) for step in range(1, 5)]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(
    ("budget", "steps"),
    [("budget.tokens=640", 5), ("budget.bytes=300", 3), ("budget.flops=1", 1)],
)
def test_a_budget_in_any_unit_ends_the_run(ntp, tiny, tmp_path, budget, steps):
    assert ntp("train", *tiny, "budget.steps=null", budget, "run_dir=run").status == 0
    assert read_summary(tmp_path / "run")["progress/step"] == steps


def test_a_budget_in_minutes_ends_with_the_clock(ntp, tiny, tmp_path):
    options = ("budget.steps=null", "budget.minutes=0.05", "trainer.log_every_steps=5")
    assert ntp("train", *tiny, *options, "evaluation.every_steps=20", "run_dir=run").status == 0
    summary = read_summary(tmp_path / "run")
    assert summary["state"] == "finished"
    assert 3.0 <= summary["progress/seconds"] < 60.0
    assert summary["progress/step"] > 4
    assert summary["train/learning_rate"] < 0.5e-3  # the cosine came down as the time ran out


def test_clipping_limits_the_norm_of_the_gradient(ntp, tiny, tmp_path):
    recorder = ("+callbacks.recorder._target_=tests.training.recorder.RecordsGradients", "allow_targets=[tests]")
    run_losses(ntp, tiny, "run", *recorder, "trainer.gradient_clip_norm=0.001")
    before = [line["train/gradient_norm"] for line in read_metrics(tmp_path / "run") if "train/loss" in line]
    after = [float(line) for line in (tmp_path / "run/gradients.txt").read_text().split()]
    assert min(before) > 0.1
    assert after == pytest.approx([0.001] * 4, rel=1e-3)


def test_fast_dev_run_and_profiler_configs_run(ntp, tiny, tmp_path):
    assert ntp("train", *tiny[:3], *tiny[3:8], "debug=fast_dev_run", "budget.steps=2", "run_dir=fast").status == 0
    assert ntp("train", *tiny, "debug=profiler", "budget.steps=3", "run_dir=profile").status == 0
    assert "run_training_batch" in (tmp_path / "profile" / "fit-profile.txt").read_text()


def test_a_callback_of_the_users_is_built_and_called(ntp, tiny, tmp_path):
    outcome = ntp(
        "train",
        *tiny,
        "+callbacks.stop._target_=lightning.pytorch.callbacks.Timer",
        "+callbacks.stop.duration='00:00:00:01'",
        "+callbacks.stop.verbose=false",
        "budget.steps=100000",
        "evaluation.every_steps=50",
        "run_dir=run",
    )
    assert outcome.status == 0, outcome.stderr
    assert read_summary(tmp_path / "run")["progress/step"] < 100000


def test_early_stopping_of_lightnings_sees_the_validation_loss(ntp, tiny, tmp_path):
    outcome = ntp(
        "train",
        *tiny,
        "+callbacks.early._target_=lightning.pytorch.callbacks.EarlyStopping",
        "+callbacks.early.monitor=val/loss",
        "+callbacks.early.stopping_threshold=100.0",
        "run_dir=run",
    )
    assert outcome.status == 0, outcome.stderr
    assert read_summary(tmp_path / "run")["progress/step"] == 2


def test_print_config_shows_the_resolved_config(ntp, tiny):
    outcome = ntp("train", *tiny, "print_config=true", "run_dir=run")
    assert "sequence_length: 32" in outcome.stdout


def test_the_end_says_how_it_went_and_how_to_go_on(ntp, tiny):
    outcome = ntp("train", *tiny, "run_dir=run")
    for words in ("bits per byte", "ntp evaluate run=run", "ntp generate run=run", "sample"):
        assert words in outcome.stdout


def test_several_documents_and_one_are_split_as_documented(ntp, tiny, tmp_path):
    one = ntp("check", *tiny)
    assert "data.validation=tail" in one.stdout
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text(TEXT[number * 50 : (number + 5) * 50])
    several = ntp("check", *tiny, f"data.path={tmp_path}/*.txt", "data.validation_fraction=0.3")
    assert several.status == 0, several.stderr
    assert "data.validation=tail" not in several.stdout


@pytest.mark.slow
def test_a_compiled_model_learns_the_same_and_leaves_ordinary_checkpoints(ntp, tiny, tmp_path):
    eager = run_losses(ntp, tiny, "eager")
    compiled = run_losses(ntp, tiny, "compiled", "trainer.compile=true")
    assert compiled == pytest.approx(eager, abs=1e-4)
    names = [
        list(torch.load(tmp_path / run / "checkpoints/last.ckpt", weights_only=True)["state_dict"])
        for run in ("eager", "compiled")
    ]
    assert names[0] == names[1]
    assert ntp("evaluate", "run=compiled", "rows=2").status == 0
