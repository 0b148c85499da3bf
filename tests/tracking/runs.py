"""Runs as W&B and a reader of their directories see them, without a model."""

import json
from pathlib import Path
from typing import Any

import yaml

from ntp.tracking.metrics_file import METRICS, MetricsFile, keep_lines
from ntp.tracking.wandb import WandbMirror

CONFIG = {"seed": 3, "model": {"width": 32, "rates": [0.1, 0.2]}, "tags": ["first"]}
TAGS, OBJECTIVE = ["first"], "mlm"


def metrics_at(step: int) -> dict[str, Any]:
    """The same whenever it is asked, as in a run that is resumed exactly."""
    return {"train/loss": 4.0 / (1 + step), "val/loss": abs(step - 4.5), "progress/tokens": 100 * step}


def make(directory: Path, state: str = "finished") -> Path:
    """The files of a run that has logged nothing yet."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    end(directory, state)
    return directory


def end(directory: Path, state: str) -> None:
    """Say how the run has ended."""
    summary = {"state": state, "objective": OBJECTIVE, "val/loss": 1.25, "train/loss": 1.5, "total_seconds": 7.5}
    (directory / "summary.json").write_text(json.dumps(summary))


def train(directory: Path, steps: range, *mirrors: WandbMirror, state: str | None = "finished") -> None:
    """Log steps behind those before; the state None is that of a killed process."""
    keep_lines(directory / METRICS, steps.start)
    file = MetricsFile(directory / METRICS)
    for mirror in mirrors:
        mirror.start(directory, CONFIG, TAGS, OBJECTIVE)
    for step in steps:
        for logger in (file, *mirrors):
            logger.log_metrics(metrics_at(step), step=step)
    file.finalize("success")
    end(directory, state or "running")
    for mirror in mirrors:
        if state is None:
            mirror.experiment.finish()  # what was logged has left the process, and nothing else has happened
        else:
            mirror.summarize({})
            mirror.finish(failed=state != "finished")


def history(steps: range) -> list[dict[str, Any]]:
    """What W&B has to have of these steps."""
    return [{"trainer/global_step": step} | metrics_at(step) for step in steps]


def record(directory: Path) -> dict[str, Any]:
    """Content of ``wandb.json``."""
    return json.loads((directory / "wandb.json").read_text())
