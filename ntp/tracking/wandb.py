"""Weights & Biases, as a mirror of what the run directory holds."""

import os
from pathlib import Path
from typing import Any, Literal

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import WandbLogger

from ntp.tracking.run_directory import json_safe


class WandbMirror(WandbLogger):
    """Sends every metric to W&B under the names of ``metrics.jsonl``, over the tokens read.

    Args:
        project: W&B project.
        entity: user or team; None for the account's default.
        mode: ``online`` or ``offline``; None is online when an API key is configured.
        group: runs of one experiment.
        name: of the run; None for the name of its directory.
    """

    def __init__(
        self,
        project: str = "ntp",
        entity: str | None = None,
        mode: Literal["online", "offline"] | None = None,
        group: str | None = None,
        name: str | None = None,
    ) -> None:
        self.mode = mode or os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
        # create_new: a run that a crashed job of this process left open is not continued by mistake.
        super().__init__(project=project, name=name, entity=entity, group=group, mode=self.mode, reinit="create_new")

    @rank_zero_only
    def start(self, directory: Path, config: dict[str, Any], tags: list[str], objective: str) -> None:
        """Begin the run: where it lives, what it is, and what its metrics are drawn over."""
        self._wandb_init |= {"dir": str(directory), "tags": tags, "config": config, "job_type": objective}
        self._wandb_init["name"] = self._wandb_init["name"] or directory.name
        run = self.experiment
        run.define_metric("progress/tokens", hidden=True)
        for family in ("train/*", "val/*", "perf/*"):
            run.define_metric(family, step_metric="progress/tokens")
        run.define_metric("val/bits_per_byte", step_metric="progress/tokens", summary="min,last")
        run.define_metric("val/loss", step_metric="progress/tokens", summary="min,last")

    @rank_zero_only
    def summarize(self, summary: dict[str, Any]) -> None:
        """Put the run's summary beside its curves; nothing for a run that never started."""
        if self._experiment is not None:
            self._experiment.summary.update(json_safe(summary))

    @rank_zero_only
    def finish(self, failed: bool) -> None:
        """End the run; an offline one is whole on disk afterwards."""
        if self._experiment is not None:
            self._experiment.finish(exit_code=int(failed))
            self._experiment = None


def _has_key() -> bool:
    """Whether W&B would find an API key without asking."""
    import wandb

    return bool(os.environ.get("WANDB_API_KEY") or wandb.api.api_key)
