"""The processes of one run, as each of them finds itself started."""

import os
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning.fabric.utilities.rank_zero import rank_zero_only
from omegaconf import read_write

from ntp.commands.composed import is_run_dir_given
from ntp.config.errors import ConfigError

# What torchrun and SLURM tell each process that they start.
_SIZES = ("WORLD_SIZE", "SLURM_NTASKS")


def is_first_process() -> bool:
    """Whether this process is the one of the run that writes files."""
    return getattr(rank_zero_only, "rank", 0) == 0


def check_run_dir_is_given_to_all() -> None:
    """Processes that a cluster starts must not each make up a directory.

    Raises:
        ConfigError: they would.
    """
    several = any(os.environ.get(name, "1").isdigit() and int(os.environ.get(name, "1")) > 1 for name in _SIZES)
    if several and not is_run_dir_given():
        raise ConfigError("run_dir", "several processes are started for this run; tell all of them where: run_dir=...")


def tell_processes_where(path: Path) -> None:
    """Let the processes that Lightning starts for further devices write where this one does."""
    run: Any = HydraConfig.get().run
    with read_write(run):
        run.dir = os.fspath(path)
