"""Going back to an earlier checkpoint of the same run, past the data that spoilt it."""

from pathlib import Path
from typing import Any

from ntp.data.module import TextDataModule
from ntp.tracking.metrics_file import keep_lines, keep_until
from ntp.training.checkpoint_format import STATE
from ntp.training.checkpoint_store import CheckpointStore, CheckpointWriter
from ntp.training.restore import read_checkpoint


class Rewind(Exception):
    """Asks for another fit from an earlier checkpoint. Raised on all ranks, at the boundary of an optimizer step.

    Args:
        latest: the newest step whose checkpoint may be used.
        batches: of the data that the run is done with; it goes on with the one behind them.
        seconds: of the run so far: going back does not give time back.
        callback: key of the state of the callback that asks.
        state: what it will find changed in its state.
    """

    def __init__(self, latest: int, batches: int, seconds: float, callback: str, state: dict[str, Any]) -> None:
        super().__init__(f"back to step {latest} or before")
        self.latest, self.batches, self.seconds = latest, batches, seconds
        self.callback, self.state = callback, state


def go_back(asked: Rewind, store: CheckpointStore, metrics: Path) -> Path | None:
    """Bring a run's files to an earlier state, from which it then goes on like any resumed run.

    What is to be different this time is written into the checkpoint: a run that is killed now goes on in the same way.

    Args:
        asked: which state.
        store: the run's checkpoints.
        metrics: the run's ``metrics.jsonl``.

    Returns:
        The checkpoint to go on from; None where none is whole.
    """
    store.forget_after(asked.latest)
    entry, _ = store.newest_whole()
    if entry is None:
        return None
    store.forget_after(entry.step)
    path = store.directory / entry.file
    checkpoint = read_checkpoint(path, "callbacks.health")
    checkpoint[TextDataModule.__qualname__] = {"skipped_batches": asked.batches - entry.step}
    checkpoint["callbacks"].setdefault(asked.callback, {}).update(asked.state)
    checkpoint[STATE]["progress"]["seconds"] = asked.seconds
    CheckpointWriter(store).save_checkpoint(checkpoint, path)
    if entry.loss is not None:
        store.measure(entry.step, entry.loss)
    lines = checkpoint[STATE]["metric_lines"]
    keep_until(metrics, entry.step) if lines is None else keep_lines(metrics, lines)
    return path
