"""From the overrides of jobs to checked configurations, before any of them starts."""

import os
from collections.abc import Sequence
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from ntp.config.compose import quoted
from ntp.config.errors import ConfigError
from ntp.config.identity import identity
from ntp.config.naming import job_name, overrides_by_key
from ntp.config.schema import TrainConfig
from ntp.config.validation import check_arguments, resolve, validate
from ntp.sweep.job import Job

_OWN = (
    "hydra.run.",
    "hydra.sweep.",
    "hydra.mode",
    "hydra/launcher",
    "hydra.launcher",
    "hydra/sweeper",
    "hydra.sweeper",
)
"""Overrides of Hydra's that speak of the sweep, not of its jobs."""


class JobComposer:
    """Composes and checks the jobs of a sweep.

    Args:
        loader: Hydra's.
        config: of the whole sweep, Hydra's own node included.
    """

    def __init__(self, loader: ConfigLoader, config: DictConfig) -> None:
        self.loader, self.config = loader, config
        self.sweep_dir = Path(os.path.abspath(config.hydra.sweep.dir))
        told = overrides_by_key(config.hydra.overrides.task, config.hydra.sweeper)
        for key in ("run_dir", "resume"):
            if key in told:
                raise ConfigError(key, "a sweep says this to each of its jobs itself; sweep.name names its directory")
        self._fixed = [key for key, one in told.items() if not one.is_sweep_override()]

    def compose(self, overrides: Sequence[str], number: int) -> Job:
        """Compose one job, as its own process will.

        Args:
            overrides: of the job.
            number: within the sweep.

        Raises:
            ConfigError: something in it is wrong.
            HydraException: it does not compose.
        """
        name = job_name(overrides, self._fixed)
        # What a value is made of may include the run directory.
        where = quoted(f"run_dir={self.sweep_dir / name}")
        composed = self.loader.load_sweep_config(self.config, [*overrides, where, "resume=auto"])
        around = HydraConfig.instance().cfg
        HydraConfig.instance().set_config(composed)
        try:
            with open_dict(composed):
                del composed["hydra"]
            config = validate(composed, TrainConfig, arguments=False)
            plain = resolve(composed)
        finally:
            HydraConfig.instance().cfg = around
        return Job(number, name, tuple(overrides), identity(plain), config, plain, composed)

    def check_arguments(self, job: Job) -> None:
        """Check what the classes of a job's configuration take, which imports them.

        Raises:
            ConfigError: a class is refused, or does not take its arguments.
        """
        raw = OmegaConf.to_container(job.composed, resolve=False)
        check_arguments(job.plain, raw, job.config.allow_targets)

    def command(self, job: Job, directory: Path) -> list[str]:
        """Arguments of ``python -m ntp`` that train a job in a directory."""
        config = self.config.hydra
        flags = [
            argument
            for source in config.runtime.config_sources
            if source.provider == "command-line"
            for argument in ("--config-dir", source.path)
        ]
        if config.job.config_name != "train":
            flags += ["--config-name", config.job.config_name]
        inherited = [one for one in config.overrides.hydra if not one.lstrip("+~").startswith(_OWN)]
        return [
            "train",
            *flags,
            *inherited,
            *job.overrides,
            "hydra.mode=RUN",
            quoted(f"run_dir={directory}"),
            quoted(f"hydra.run.dir={directory}"),
            "resume=auto",
        ]
