"""Starting a run, and going on with it, in this process or in one of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from lightning import seed_everything
from omegaconf import DictConfig

from ntp.config import resolvers, search_path
from ntp.config.compose import CONFIG_MODULE
from ntp.config.errors import RunFailed, RunStopped
from ntp.config.schema import TrainConfig
from ntp.config.validation import resolve, validate
from ntp.testing.interruption import Interrupted
from ntp.tracking.run_directory import RunDirectory
from ntp.training.resume import find_resumption, take_over
from ntp.training.run import TrainingRun
from ntp.training.setup import set_up

_STOPPED = (-signal.SIGKILL, 143)


def compose_training(overrides: Sequence[str]) -> DictConfig:
    """The configuration of ``ntp train`` with these overrides."""
    resolvers.register()
    search_path.register()
    if GlobalHydra.instance().is_initialized():  # in a command
        return compose("train", list(overrides))
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        return compose("train", list(overrides))


class Here:
    """Trains in this process; what would kill it must be an exception.

    Args:
        overrides: of ``ntp train``.
    """

    def __init__(self, overrides: Sequence[str]) -> None:
        self.config = compose_training(overrides)

    def train(self, run: Path, resume: bool) -> bool:
        """Start a run, or go on with it.

        Args:
            run: its directory.
            resume: go on with what is there.

        Returns:
            Whether it came to its end.

        Raises:
            ConfigError: the configuration would not run, or the run can't go on.
        """
        self.config.run_dir = str(run)
        self.config.resume = str(run) if resume else None
        typed, plain = validate(self.config, TrainConfig), resolve(self.config)
        resumed = find_resumption(typed, plain, [], given_run_dir=True, first=True)
        if resumed is not None:
            typed, plain = resumed.config, resumed.plain
        directory = RunDirectory(run)
        seed_everything(typed.seed, workers=True, verbose=False)
        setup = set_up(typed)
        name = type(setup.objective).__name__
        training = TrainingRun(setup, directory, plain, name, resumed.checkpoint if resumed else None)
        try:
            if resumed is None:
                directory.claim()
                directory.write_config(plain)
            else:
                take_over(resumed, directory, setup)
            training.train()
        except (Interrupted, RunStopped):
            return False
        finally:
            directory.release()
        return True


class Processes:
    """Trains in processes of their own, by the command that a person would type.

    Args:
        overrides: of ``ntp train``.
    """

    def __init__(self, overrides: Sequence[str]) -> None:
        self.overrides = list(overrides)
        self.trusted = [one for one in self.overrides if one.partition("=")[0] == "allow_targets"]

    def train(self, run: Path, resume: bool) -> bool:
        """Start a run, or go on with it.

        Args:
            run: its directory.
            resume: go on with what is there.

        Returns:
            Whether it came to its end.

        Raises:
            RunFailed: it ended neither at its end nor by a signal.
        """
        arguments = [*self.trusted, f"resume='{run}'"] if resume else [*self.overrides, f"run_dir='{run}'"]
        process = subprocess.Popen(
            [sys.executable, "-m", "ntp", "train", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            _, stderr = process.communicate()
        finally:
            with contextlib.suppress(ProcessLookupError):  # what a killed process leaves of its devices
                os.killpg(process.pid, signal.SIGKILL)
        if process.returncode != 0 and process.returncode not in _STOPPED:
            said = stderr.strip().splitlines()
            raise RunFailed(f"ntp train ended with status {process.returncode}: {said[-1] if said else 'silently'}")
        return process.returncode == 0
