"""Weights & Biases, as a mirror of what the run directory holds."""

import contextlib
import functools
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import WandbLogger

from ntp.config.types import PositiveFloat
from ntp.tracking.describe import relative
from ntp.tracking.metric_lines import METRICS, read_metrics_file
from ntp.tracking.run_directory import read_summary
from ntp.tracking.wandb_run import Mode, WandbRecord, WandbRun, explained, has_key

Arguments = ParamSpec("Arguments")


def harmless(
    method: Callable[Concatenate[Any, Arguments], Any],
) -> Callable[Concatenate[Any, Arguments], Any]:
    """Whatever goes wrong in the method of a mirror ends the mirror, never the run."""

    @functools.wraps(method)
    def guarded(self: Any, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Any:
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            self.switch_off(error)
            return None

    return guarded


class WandbMirror(WandbLogger):
    """Sends every line of ``metrics.jsonl`` to W&B, over the tokens read.

    The file is the truth. When W&B or the network fails, the mirror is switched off with one warning, the run goes on,
    and ``ntp sync`` uploads what is missing. A run that is resumed goes on as the same W&B run.

    Args:
        project: W&B project.
        entity: user or team; None for the account's default.
        mode: ``online`` or ``offline``; None is online when an API key is configured.
        group: runs of one experiment.
        name: of the run; None for the name of its directory.
        init_timeout: seconds to wait for W&B at the start.
        finish_timeout: seconds to wait for W&B at the end.
    """

    def __init__(
        self,
        project: str = "ntp",
        entity: str | None = None,
        mode: Literal["online", "offline"] | None = None,
        group: str | None = None,
        name: str | None = None,
        init_timeout: PositiveFloat = 30.0,
        finish_timeout: PositiveFloat = 120.0,
    ) -> None:
        super().__init__(project=project)
        self.project, self.entity, self.mode, self.group, self.run_name = project, entity, mode, group, name
        self.init_timeout, self.finish_timeout = init_timeout, finish_timeout
        self._directory = Path()
        self._mirror: WandbRun | None = None
        self._is_off = False
        self._abandoned: Any = None  # the W&B run, once it has failed

    @rank_zero_only
    @harmless
    def start(self, directory: Path, config: dict[str, Any], tags: list[str], objective: str) -> None:
        """Begin the run, or go on with it, and send what W&B has missed of ``metrics.jsonl``."""
        self._directory = directory
        record = WandbRecord.read(directory)
        if record is None:
            record = WandbRecord.new(self.project, self.entity, self.run_name or directory.name)
            record.write(directory)
        if (mode := self._chosen_mode()) is None:
            return
        self._id = record.id
        self._mirror = WandbRun(
            directory,
            record,
            mode=mode,
            config=config,
            tags=tags,
            group=self.group,
            objective=objective,
            init_timeout=self.init_timeout,
            finish_timeout=self.finish_timeout,
        )
        self._experiment = self._mirror.run
        record.live = True
        record.write(directory)
        for line in read_metrics_file(directory / METRICS):
            self._mirror.send(line)

    def _chosen_mode(self) -> Mode | None:
        """None where W&B is switched off for this machine."""
        if (asked := self.mode or os.environ.get("WANDB_MODE")) == "disabled":
            return None
        if asked is not None:
            if asked == "online" and not has_key():  # W&B would ask for it, and nobody may be there to answer
                raise PermissionError("no API key is configured; `wandb login` keeps one")
            return "online" if asked == "online" else "offline"
        return "online" if has_key() else "offline"

    @rank_zero_only
    @harmless
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:  # type: ignore[override]
        """Send one line."""
        if self._mirror is not None:
            self._mirror.send({"step": step} | metrics)

    @rank_zero_only
    @harmless
    def summarize(self, summary: dict[str, Any]) -> None:
        """Put the run's summary beside its curves; nothing for a run that never started."""
        if self._mirror is not None:
            self._mirror.summarize(read_summary(self._directory) | summary)

    @rank_zero_only
    @harmless
    def finish(self, failed: bool) -> None:
        """End the run; an offline one is whole on disk afterwards."""
        mirror, self._mirror, self._experiment = self._mirror, None, None
        if mirror is not None:
            mirror.finish(read_summary(self._directory).get("state"), failed=failed)
        elif self._abandoned is not None:
            with contextlib.suppress(Exception):  # said already
                self._abandoned.finish(exit_code=1)

    def switch_off(self, error: Exception) -> None:
        """Do without W&B from here on, and say so once."""
        if not self._is_off:
            self._is_off = True
            print(
                f"W&B is off for this run ({explained(error)}); {METRICS} keeps everything, and "
                f"`ntp sync run={shlex.quote(str(relative(self._directory)))}` uploads it later",
                file=sys.stderr,
            )
        mirror, self._mirror, self._experiment = self._mirror, None, None
        if mirror is not None:
            self._abandoned = mirror.run
            mirror.record.live = False
            with contextlib.suppress(OSError):  # a full disk
                mirror.record.write(self._directory)

    @property
    def experiment(self) -> Any:
        """The W&B run; something that takes every call and does nothing where there is none."""
        return _Nothing() if self._experiment is None else self._experiment

    @property
    def version(self) -> str | None:
        """Id of the W&B run."""
        return self._id

    # What Lightning and callbacks of others call besides.
    log_hyperparams = harmless(WandbLogger.log_hyperparams)
    after_save_checkpoint = harmless(WandbLogger.after_save_checkpoint)
    finalize = harmless(WandbLogger.finalize)
    watch = harmless(WandbLogger.watch)
    log_table = harmless(WandbLogger.log_table)
    log_text = harmless(WandbLogger.log_text)
    log_image = harmless(WandbLogger.log_image)
    log_audio = harmless(WandbLogger.log_audio)
    log_video = harmless(WandbLogger.log_video)
    use_artifact = harmless(WandbLogger.use_artifact)


class _Nothing:
    """Takes every attribute and every call, like W&B's own disabled run, and does not become the process's run."""

    def __getattr__(self, name: str) -> "_Nothing":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> "_Nothing":
        return self
