"""A search as Hydra's sweepers run it: options and corners of the space checked, jobs launched, the best kept."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from ntp.config.errors import ConfigError, RunFailed, RunStopped
from ntp.config.identity import identity
from ntp.config.schema import Section, TrainConfig
from ntp.config.types import PositiveInt, Seed
from ntp.config.validation import resolve, validate
from ntp.sweep.job import JobResult
from ntp.sweep.options import read_options
from ntp.sweep.random_search import draw
from ntp.sweep.results import ENDED, Trial, conclude
from ntp.sweep.space import Space, read_space
from ntp.tracking.study import IN_MEMORY

STUDY, LOCK = "study.db", ".search.lock"
STOPPED = 143


class GridOptions(Section):
    """``conf/hydra/sweeper/grid.yaml``."""

    direction: Literal["minimize", "maximize"]
    params: dict[str, Any] | None


class RandomOptions(GridOptions):
    """``conf/hydra/sweeper/random.yaml``."""

    n_trials: PositiveInt
    seed: Seed


class OptunaOptions(RandomOptions):
    """``conf/hydra/sweeper/optuna.yaml``."""

    sampler: str
    sampler_options: dict[str, Any] | None
    pruner: str
    pruner_options: dict[str, Any] | None
    storage: str | None
    study: str | None


@dataclass(frozen=True)
class Surroundings:
    """What Hydra gives a sweeper."""

    config: DictConfig
    context: HydraContext
    launcher: Launcher

    @property
    def directory(self) -> Path:
        """Of the sweep."""
        return Path(self.config.hydra.sweep.dir)

    @property
    def metric(self) -> str:
        """What is searched for."""
        return str(self.config.sweep.metric)

    def launch(self, batch: list[list[str]], first: int = 0) -> list[JobResult]:
        """Run jobs, of which the first has this number, and wait for them.

        Raises:
            ConfigError: the launcher is Hydra's own or another's, which does not say how jobs ended.
        """
        returns = self.launcher.launch(batch, initial_job_idx=first)
        results = [getattr(one, "result", None) for one in returns]
        if not all(isinstance(one, JobResult) for one in results):
            raise ConfigError("hydra/launcher", "this one does not say how jobs ended; use hydra/launcher=isolated")
        return [one for one in results if one is not None]

    def run_all(self, space: Space, trials: list[dict[str, str]], direction: str) -> list[Trial]:
        """Run trials that do not depend on each other, and conclude."""
        jobs = [space.overrides(values) for values in trials]
        results = self.launch(jobs)
        told = [
            Trial.of(number, values, overrides, result, self.metric)
            for number, (values, overrides, result) in enumerate(zip(trials, jobs, results, strict=True))
        ]
        self.conclude(told, direction)
        return told

    def conclude(self, trials: Sequence[Trial], direction: str) -> None:
        """Tell the end, and keep the best.

        Raises:
            RunFailed: no trial finished, or some were killed.
            RunStopped: some were stopped.
        """
        print(conclude(trials, self.directory, self.metric, direction))
        left = {one.state for one in trials} - set(ENDED)
        if "interrupted" in left:
            raise RunFailed("some trials did not come to an end; the same command goes on with them")
        if left:
            raise RunStopped("some trials were stopped before their end; the same command goes on with them", STOPPED)


def grid_search(arguments: list[str], options: dict[str, Any], around: Surroundings) -> list[Trial]:
    """Run every combination.

    Args:
        arguments: overrides of the command line.
        options: of the sweeper.
        around: what Hydra gives it.
    """
    given = read_options(GridOptions, options, "hydra.sweeper")
    space = read_space(arguments, given.params, around.context.config_loader, must_vary=False)
    return around.run_all(space, space.combinations(), given.direction)


def random_search(arguments: list[str], options: dict[str, Any], around: Surroundings) -> list[Trial]:
    """Run trials whose draws depend on nothing.

    Args:
        arguments: overrides of the command line.
        options: of the sweeper.
        around: what Hydra gives it.
    """
    given = read_options(RandomOptions, options, "hydra.sweeper")
    space = read_space(arguments, given.params, around.context.config_loader)
    tolerate_failures(around.launcher)
    return around.run_all(space, [draw(space, given.seed, number) for number in range(given.n_trials)], given.direction)


def optuna_search(arguments: list[str], options: dict[str, Any], around: Surroundings) -> list[Trial]:
    """Run a search with Optuna, or what is left of it.

    Args:
        arguments: overrides of the command line.
        options: of the sweeper.
        around: what Hydra gives it.
    """
    from ntp.sweep.optuna_search import OptunaSearch, Proposing

    given = read_options(OptunaOptions, options, "hydra.sweeper")
    space = read_space(arguments, given.params, around.context.config_loader)
    proposing = Proposing(
        given.n_trials,
        given.seed,
        given.direction,
        given.sampler,
        given.sampler_options or {},
        given.pruner,
        given.pruner_options or {},
    )
    proposing.check()
    corner = check_corners(space, around)
    tolerate_failures(around.launcher)
    directory, sweep = os.path.abspath(around.directory), around.config.sweep
    with claim(around.directory, sweep.dry_run):
        search = OptunaSearch(
            space,
            proposing,
            # What is only to be shown leaves no trace.
            storage=IN_MEMORY if sweep.dry_run else given.storage or f"sqlite:///{directory}/{STUDY}",
            study_name=given.study or os.path.basename(directory),
            identity=identity(corner),
            metric=around.metric,
        )
        trials = search.run(around.launch, jobs=sweep.jobs, retry=sweep.retry)
        around.conclude(trials, given.direction)
    return trials


@contextlib.contextmanager
def claim(directory: Path, dry_run: bool) -> Iterator[None]:
    """Keep out a second process that would take running trials of this search for left ones.

    Raises:
        ConfigError: there is one already, or the directory can't be written.
    """
    if dry_run:
        yield
        return
    lock = FileLock(directory / LOCK)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise ConfigError("sweep.name", f"another process runs the search in {directory} just now") from None
    except OSError as error:
        raise ConfigError("hydra.sweep.dir", f"{directory} can't be written ({error.strerror})") from None
    try:
        yield
    finally:
        lock.release()


def tolerate_failures(launcher: Any) -> None:
    """In a search a failed job is a result like others: a learning rate that diverges."""
    if (sweep := getattr(launcher, "sweep", None)) is not None:
        sweep.tolerates_failures = True


def check_corners(space: Space, around: Surroundings) -> dict[str, Any]:
    """Compose and validate jobs at the corners of the space, so that a wrong end is told before anything is trained.

    Returns:
        The resolved config of the first corner.

    Raises:
        ConfigError: a value is wrong.
        HydraException: a key or an option is.
    """
    first: dict[str, Any] = {}
    for overrides in space.corners():
        config = around.context.config_loader.load_sweep_config(around.config, overrides)
        with open_dict(config):
            del config["hydra"]
        validate(config, TrainConfig)
        first = first or resolve(config)
    return first
