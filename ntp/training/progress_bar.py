"""What a person watches while a run trains."""

import sys
import time
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

REFRESHES_PER_SECOND = 4


class _Metrics(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.fields["metrics"])


class ProgressBar(Callback):
    """A bar in a terminal; elsewhere, such as in a log file, one line for every validation.

    It shows only numbers that were logged anyway, so it never makes a step wait for the device.

    Args:
        enabled: false shows nothing.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._next_update = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Show the bar."""
        if self.enabled and trainer.is_global_zero and self._console.is_terminal:
            columns = (
                TextColumn("training"),
                BarColumn(bar_width=24),
                TextColumn("{task.percentage:>3.0f}%"),
                _Metrics(),
            )
            self._bar = Progress(*columns, console=self._console, refresh_per_second=REFRESHES_PER_SECOND)
            self._bar.add_task("training", total=1.0, metrics="")
            self._bar.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Move the bar."""
        if self._bar is not None and time.monotonic() >= self._next_update:
            self._next_update = time.monotonic() + 1 / REFRESHES_PER_SECOND
            self._bar.update(self._bar.task_ids[0], completed=pl_module.spent, metrics=describe(pl_module, "train"))

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Print the line of this validation."""
        if self.enabled and trainer.is_global_zero and trainer.state.fn == "fit":
            line = f"step {pl_module.progress.step:>6}  {describe(pl_module, 'val')}"
            (self._bar.console if self._bar else self._console).print(line, highlight=False)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Take the bar away."""
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Leave the terminal as it was."""
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        sys.stderr.flush()


def describe(module: Any, stage: str) -> str:
    """Loss, bits per byte, tokens per second and time left, as far as they are known."""
    latest, parts = module.latest, []
    if (loss := latest.get(f"{stage}/loss")) is not None:
        parts.append(f"{stage} loss {loss:.3f}")
    if (bits := latest.get(f"{stage}/bits_per_byte")) is not None:
        parts.append(f"{bits:.3f} bits/byte")
    if (speed := latest.get("perf/tokens_per_second")) is not None:
        parts.append(f"{speed:,.0f} tokens/s")
    if 0 < module.spent < 1:
        left = module.seconds / module.spent * (1 - module.spent)
        parts.append(f"{int(left // 60)}:{int(left % 60):02d} left")
    return "  ".join(parts)
