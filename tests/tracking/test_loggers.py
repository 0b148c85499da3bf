"""What other loggers get is what metrics.jsonl holds."""

import csv
import json
import math

import pytest

from tests.conftest import read_metrics
from tests.tracking import wandb_files

VALIDATION = "val/bits_per_byte"


def logged(run_dir, name):
    return [line[name] for line in read_metrics(run_dir) if name in line]


def test_csv_holds_the_same_metrics(ntp, tiny, tmp_path):
    assert ntp("train", *tiny, "logger=csv", "run_dir=run").status == 0
    with open(tmp_path / "run/csv/metrics.csv") as file:
        rows = [row[VALIDATION] for row in csv.DictReader(file) if row.get(VALIDATION)]
    # A later line at the same step, such as the final validation, takes the place of the earlier one.
    assert {float(one) for one in rows} <= set(logged(tmp_path / "run", VALIDATION))
    assert float(rows[-1]) == logged(tmp_path / "run", VALIDATION)[-1]


def test_tensorboard_holds_the_same_metrics(ntp, tiny, tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert ntp("train", *tiny, "logger=tensorboard", "run_dir=run").status == 0
    events = event_accumulator.EventAccumulator(str(tmp_path / "run/tensorboard"))
    events.Reload()
    values = [event.value for event in events.Scalars("train/loss")]
    assert values == pytest.approx(logged(tmp_path / "run", "train/loss"), rel=1e-6)


def test_wandb_offline_holds_the_same_metrics_config_tags_and_axes(ntp, tiny, tmp_path):
    outcome = ntp("train", *tiny, "logger=wandb", "logger.wandb.group=study", "tags=[first]", "run_dir=run")
    assert outcome.status == 0, outcome.stderr
    assert "W&B is off" not in outcome.stderr
    (file,) = wandb_files.offline_files(tmp_path / "run")
    records = wandb_files.read_wandb(file)
    assert wandb_files.history(records) == wandb_files.as_mirrored(read_metrics(tmp_path / "run"))
    (run,) = wandb_files.of_type(records, "run")
    assert run.run_group == "study"
    assert run.job_type == "causal"
    assert list(run.tags) == ["first"]
    assert run.display_name == "run"
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["data"]["sequence_length"] == 32
    axes = wandb_files.definitions(records)
    assert axes["train/*"] == ("progress/tokens", False)
    assert axes[VALIDATION] == ("progress/tokens", True)
    counted = {name for line in read_metrics(tmp_path / "run") for name in line if name.startswith("progress/")}
    assert counted
    assert counted <= axes.keys()
    assert wandb_files.summary(records)["state"] == "finished"
    assert records[-1].WhichOneof("record_type") in ("final", "footer", "exit")


def test_wandb_is_finished_when_a_run_fails(ntp, tiny, tmp_path):
    import wandb

    outcome = ntp(
        "train",
        *tiny,
        "logger=wandb",
        "run_dir=run",
        "+callbacks.bad._target_=tests.tracking.failing.FailsAtStepTwo",
        "allow_targets=[tests]",
    )
    assert outcome.status == 1
    assert "RuntimeError: step two" in outcome.stderr
    assert wandb.run is None
    (file,) = wandb_files.offline_files(tmp_path / "run")
    assert [one.exit_code for one in wandb_files.of_type(wandb_files.read_wandb(file), "exit")] == [1]


def test_the_metrics_file_has_no_nan_and_no_infinity(tmp_path):
    from ntp.tracking.metrics_file import MetricsFile

    logger = MetricsFile(tmp_path / "metrics.jsonl")
    logger.log_metrics({"train/loss": math.nan, "train/perplexity": math.inf, "val/loss": 1.5}, step=3)
    logger.finalize("success")
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {
        "step": 3,
        "train/loss": None,
        "train/perplexity": None,
        "val/loss": 1.5,
    }
