"""Which GPUs there are, and which job has which of them."""

import os
import subprocess
from collections.abc import Mapping, Sequence

from ntp.config.errors import ConfigError
from ntp.config.schema import SweepConfig, TrainerConfig

VISIBLE = "CUDA_VISIBLE_DEVICES"


def may_use_gpus(sweep: SweepConfig, trainer: TrainerConfig) -> bool:
    """Whether it matters to a job which GPUs there are."""
    return trainer.accelerator != "cpu" or bool(sweep.gpus)


def visible_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    if VISIBLE in environment:
        return [one.strip() for one in environment[VISIBLE].split(",") if one.strip() not in ("", "-1")]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    except (OSError, subprocess.SubprocessError):
        import torch  # takes seconds, and knows other makes too

        return [str(index) for index in range(torch.cuda.device_count())]
    return listed.stdout.split()


def gpus_needed(sweep: SweepConfig, trainer: TrainerConfig, available: int) -> int:
    """How many GPUs a job gets.

    Args:
        sweep: the ``sweep`` node of its configuration.
        trainer: the ``trainer`` node.
        available: how many there are.

    Raises:
        ConfigError: there are not as many, or it gets fewer than it will use.
    """
    on_gpu = trainer.accelerator == "gpu" or (trainer.accelerator == "auto" and available > 0)
    if sweep.gpus is not None:
        if sweep.gpus > available:
            raise ConfigError("sweep.gpus", f"{_counted(sweep.gpus)} asked for a job, and {available} here")
        if trainer.accelerator == "gpu" and trainer.devices != "auto" and trainer.devices > sweep.gpus:
            raise ConfigError(
                "sweep.gpus", f"{sweep.gpus} is less than trainer.devices={trainer.devices}; null takes as many"
            )
        return sweep.gpus
    if not on_gpu:
        return 0
    if not available:
        raise ConfigError("trainer.accelerator", "there is no GPU here; trainer=cpu runs on the processor")
    needed = available if trainer.devices == "auto" else trainer.devices
    if needed > available:
        raise ConfigError("trainer.devices", f"{_counted(needed)} asked for a job, and {available} here")
    return needed


def _counted(number: int) -> str:
    return f"{number} GPU{'s are' if number != 1 else ' is'}"


class GpuPool:
    """GPUs that jobs take and give back.

    Args:
        names: as ``CUDA_VISIBLE_DEVICES`` has them.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.size = len(names)
        self._free = list(names)
        self._names = list(names)

    def take(self, count: int) -> list[str] | None:
        """So many GPUs, the first ones first; None while there are not as many free."""
        if count > len(self._free):
            return None
        taken, self._free = self._free[:count], self._free[count:]
        return taken

    def give_back(self, names: Sequence[str]) -> None:
        """Let other jobs have them."""
        self._free = sorted({*self._free, *names}, key=self._names.index)
