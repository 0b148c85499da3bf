"""What the launchers of clusters are told, and what a job asks of a cluster."""

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ntp.config.errors import ConfigError
from ntp.config.schema import Section
from ntp.config.types import Count, PositiveFloat, PositiveInt
from ntp.sweep.executor import Executor
from ntp.sweep.job import Job
from ntp.sweep.options import read_options


class SubmititOptions(Section):
    """``conf/hydra/launcher/submitit_local.yaml``."""

    timeout_min: PositiveInt
    signal_delay_s: PositiveInt
    max_num_timeout: Count
    setup: list[str]


class SlurmOptions(SubmititOptions):
    """``conf/hydra/launcher/submitit_slurm.yaml``."""

    cpus_per_task: PositiveInt | None
    mem_gb: PositiveFloat | None
    gpu_type: str | None
    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    exclude: str | None
    comment: str | None
    name: str | None
    array_parallelism: PositiveInt
    srun_args: list[str]
    additional_parameters: dict[str, Any]


class RayOptions(Section):
    """``conf/hydra/launcher/ray.yaml``."""

    address: str | None
    num_cpus: PositiveFloat | None
    resources: dict[str, float]
    runtime_env: dict[str, Any]


def import_extra(module: str, extra: str) -> Any:
    """A module that not everybody has.

    Raises:
        ConfigError: it is not installed; names ntp's extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError("hydra/launcher", f'{module} is not installed; pip install "ntp[{extra}]"') from None


@dataclass(frozen=True)
class Shape:
    """What a job asks of a cluster, by its own configuration.

    Attributes:
        nodes: machines.
        processes: on each of them.
        gpus: on each of them.
        threads: of each process; None where the configuration does not say.
    """

    nodes: int
    processes: int
    gpus: int
    threads: int | None = None


def shape_of(job: Job) -> Shape:
    """One process a device; Lightning, which would start those of a machine itself, finds all of them started.

    Raises:
        ConfigError: it depends on a machine that is not known yet.
    """
    trainer, sweep = job.config.trainer, job.config.sweep
    if trainer.devices == "auto":
        raise ConfigError("trainer.devices", "a cluster must be asked for a number, such as trainer.devices=1")
    if trainer.accelerator == "auto":
        raise ConfigError("trainer.accelerator", "a cluster must be asked for gpu or cpu: trainer.accelerator=gpu")
    gpus = trainer.devices if trainer.accelerator == "gpu" else 0
    if sweep.gpus is not None and sweep.gpus < gpus:
        raise ConfigError("sweep.gpus", f"{sweep.gpus} is less than trainer.devices={gpus}; null takes as many")
    threads = None if sweep.threads is None else max(1, sweep.threads // trainer.devices)
    return Shape(trainer.num_nodes, trainer.devices, gpus if sweep.gpus is None else sweep.gpus, threads)


def slurm_executor(options: dict[str, Any], config: DictConfig) -> Executor:
    """What runs the jobs of ``hydra/launcher=submitit_slurm``.

    Args:
        options: of the launcher.
        config: of the whole sweep, Hydra's own node included.

    Raises:
        ConfigError: an option is wrong, or submitit is not installed.
    """
    given = read_options(SlurmOptions, options, "hydra.launcher")
    import_extra("submitit", "slurm")
    from ntp.sweep.submitit_executors import SlurmExecutor

    return SlurmExecutor(given, sweep_directory(config))


def local_executor(options: dict[str, Any], config: DictConfig) -> Executor:
    """What runs the jobs of ``hydra/launcher=submitit_local``; see `slurm_executor`."""
    given = read_options(SubmititOptions, options, "hydra.launcher")
    import_extra("submitit", "slurm")
    from ntp.sweep.submitit_executors import LocalExecutor

    return LocalExecutor(given, sweep_directory(config))


def ray_executor(options: dict[str, Any], config: DictConfig) -> Executor:
    """What runs the jobs of ``hydra/launcher=ray``; see `slurm_executor`."""
    from ntp.sweep.ray_executor import RayExecutor

    return RayExecutor(read_options(RayOptions, options, "hydra.launcher"))


def sweep_directory(config: DictConfig) -> Path:
    """Where a sweep writes."""
    return Path(os.path.abspath(config.hydra.sweep.dir))
