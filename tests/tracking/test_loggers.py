"""What other loggers get is what metrics.jsonl holds."""

import csv
import time

import pytest

from tests.conftest import read_metrics

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


def read_wandb(path):
    """All records of an offline W&B run file, once the exit record is written: W&B's own process writes it."""
    deadline = time.monotonic() + 30
    while True:
        records = parse_wandb(path.read_bytes())
        if time.monotonic() > deadline or "exit" in [record.WhichOneof("record_type") for record in records]:
            return records
        time.sleep(0.1)


def parse_wandb(data):
    """The protobuf records of W&B's run log."""
    import struct

    from wandb.proto import wandb_internal_pb2 as protocol

    position, records, partial = 7, [], b""
    block = 32768
    while position + 7 <= len(data):
        left = block - position % block
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        piece = data[position + 7 : position + 7 + length]
        position += 7 + length
        partial += piece
        if kind in (1, 4):  # a whole record, or the last part of one
            record = protocol.Record()
            record.ParseFromString(partial)
            records.append(record)
            partial = b""
    return records


def test_wandb_offline_holds_the_same_metrics_config_tags_and_axes(ntp, tiny, tmp_path):
    import json

    outcome = ntp("train", *tiny, "logger=wandb", "logger.wandb.group=study", "tags=[first]", "run_dir=run")
    assert outcome.status == 0, outcome.stderr
    files = list((tmp_path / "run/wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 1
    records = read_wandb(files[0])
    history = [
        {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]
    for name in ("train/loss", VALIDATION):
        assert [line[name] for line in history if name in line] == logged(tmp_path / "run", name)
    run = next(record.run for record in records if record.WhichOneof("record_type") == "run")
    assert run.run_group == "study"
    assert run.job_type == "causal"
    assert list(run.tags) == ["first"]
    assert run.display_name == "run"
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["data"]["sequence_length"] == 32
    axes = {
        record.metric.glob_name or record.metric.name: record.metric.step_metric
        for record in records
        if record.WhichOneof("record_type") == "metric"
    }
    assert axes["train/*"] == axes[VALIDATION] == "progress/tokens"
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
    exits = [
        record.exit.exit_code
        for record in read_wandb(next((tmp_path / "run/wandb").glob("offline-run-*/*.wandb")))
        if record.WhichOneof("record_type") == "exit"
    ]
    assert exits == [1]


def test_the_metrics_file_has_no_nan_and_no_infinity(tmp_path):
    import json
    import math

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
