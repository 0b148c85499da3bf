"""``metrics.jsonl``: the metrics of a run, always, whatever other loggers do."""

import json
from pathlib import Path
from typing import Any, TextIO

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment

from ntp.tracking.metric_lines import METRICS, keep_lines, keep_until, read_metrics_file
from ntp.tracking.run_directory import json_safe

__all__ = ["METRICS", "MetricsFile", "keep_lines", "keep_until", "read_metrics_file"]


class MetricsFile(Logger):
    """Appends one JSON object a line: ``step``, the progress counters, and the metrics logged at it.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._file: TextIO | None = None

    @property
    def name(self) -> str:
        """Of this logger."""
        return "metrics"

    @property
    def version(self) -> str:
        """Of this logger: the file has none."""
        return ""

    @property
    def lines(self) -> int:
        """That the file has now."""
        return self.path.read_bytes().count(b"\n") if self.path.exists() else 0

    @property
    @rank_zero_experiment
    def experiment(self) -> TextIO:
        """The open file. A line reaches the system as soon as it is written."""
        if self._file is None:
            self._file = open(self.path, "a", buffering=1, encoding="utf-8")  # noqa: SIM115 - open as long as the run
        return self._file

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one line."""
        self.experiment.write(json.dumps({"step": step} | json_safe(dict(metrics))) + "\n")

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: ``config.yaml`` holds them."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the file; a later line opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None
