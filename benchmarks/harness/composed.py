"""The parts of a run, from the same configs as ``ntp train``."""

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from ntp.config import resolvers, search_path
from ntp.config.compose import CONFIG_MODULE
from ntp.config.schema import TrainConfig
from ntp.config.validation import validate
from ntp.training.setup import Setup, set_up


def composed_setup(overrides: list[str]) -> Setup:
    """What ``ntp train <overrides>`` would train."""
    resolvers.register()
    search_path.register()
    GlobalHydra.instance().clear()
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        return set_up(validate(compose("train", overrides=overrides), TrainConfig))
