"""Callbacks with work to do before a run and behind it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import Callback

from ntp.config.instantiate import build, locate
from ntp.training.setup import Setup


class RunCallback(Callback):
    """A callback that gets ready before anything starts, and has something to do when everything is trained.

    Lightning's own hooks come when a run has already begun; and at the end, which a run that is gone on with may reach
    without training or validating once more, none of them is certain to come.
    """

    def prepare(self, setup: Setup, run: Path) -> list[tuple[str, str]]:
        """Get ready. Called once, by every process, when all other parts of the run are there.

        Args:
            setup: the parts.
            run: directory of the run, which need not exist yet.

        Returns:
            Names and values for the plan that is shown to the user.

        Raises:
            ConfigError: what is asked of it can't be had.
        """
        return []

    def on_run_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Behind the last validation, on all devices; the module has been put back on the CPU."""


def plans(setup: Setup, run: Path) -> list[tuple[str, str]]:
    """What the callbacks of a run would prepare and say, for somebody who does not start it.

    Raises:
        ConfigError: what is asked of one of them can't be had.
    """
    config = setup.config
    return prepare(
        [
            build(node, f"callbacks.{name}", allow=config.allow_targets)
            for name, node in config.callbacks.items()
            if issubclass(locate(node["_target_"], f"callbacks.{name}", config.allow_targets), RunCallback)
        ],
        setup,
        run,
    )


def prepare(callbacks: Iterable[RunCallback], setup: Setup, run: Path) -> list[tuple[str, str]]:
    """Let callbacks get ready.

    Returns:
        What they say. Exams that nobody takes are named: a run without the callback, or one that is older than exams.

    Raises:
        ConfigError: what is asked of one of them can't be had.
    """
    lines = [line for one in callbacks for line in one.prepare(setup, run)]
    if setup.config.evaluation.exams and all(name != "exams" for name, _ in lines):
        lines.append(("exams", "none in this run, which has no callbacks.exams; `ntp evaluate` takes them"))
    return lines
