"""What Hydra knows of the composition beside the config itself."""

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
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


def overridden_keys() -> list[str]:
    """The keys of the configuration that the command line sets or deletes; a group's key is that of its node."""
    parsed = OverridesParser.create().parse_overrides(overrides())
    return [str(one.package or one.key_or_group.replace("/", ".")) for one in parsed]


def is_run_dir_given() -> bool:
    """Whether the command line says where the run writes."""
    given = HydraConfig.get().overrides
    return any(str(one).startswith(("run_dir=", "hydra.run.dir=")) for one in [*given.task, *given.hydra])
