"""What Hydra knows of the composition beside the config itself."""

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode


def option_name(group: str) -> str:
    """The option that was chosen for a config group, such as ``causal`` for ``objective``."""
    return str(HydraConfig.get().runtime.choices[group])


def overrides() -> list[str]:
    """What the user wrote on the command line."""
    return [str(one) for one in HydraConfig.get().overrides.task]


def is_sweep() -> bool:
    """Whether this is one job of several (``-m``)."""
    return HydraConfig.get().mode == RunMode.MULTIRUN
