"""How other packages bring their own configs and targets.

A package declares, in its ``pyproject.toml``,

    [project.entry-points."ntp.configs"]
    anything = "theirs.conf"

and from then on ``objective=theirs`` finds ``theirs/conf/objective/theirs.yaml``, is listed by ``ntp train --help``,
completes in the shell, and may build classes from the package ``theirs``.
"""

import sys
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.plugin import Plugin
from hydra.plugins.search_path_plugin import SearchPathPlugin

ENTRY_POINT_GROUP = "ntp.configs"
OWN_PACKAGES = frozenset({"ntp", "torch", "lightning"})


def plugin_entry_points() -> list[EntryPoint]:
    """The registered config packages, in a fixed order."""
    return _entry_points(tuple(sys.path))


@lru_cache(maxsize=1)
def _entry_points(path: tuple[str, ...]) -> list[EntryPoint]:
    """Of what is installed along a path: asked for each class of a configuration, and slow to find."""
    return sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda entry: (entry.value, entry.name))


def allowed_packages() -> frozenset[str]:
    """Top-level packages whose classes a config may name without being asked about it."""
    return OWN_PACKAGES | {entry.value.split(":")[0].split(".")[0] for entry in plugin_entry_points()}


class PluginConfigs(SearchPathPlugin):
    """Adds the ``conf/`` of every registered package behind ntp's own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append one entry a package; Hydra calls this once, before it composes."""
        for entry in plugin_entry_points():
            search_path.append(provider=entry.name, path=f"pkg://{entry.value.replace(':', '.')}")


def register() -> None:
    """Make Hydra use `PluginConfigs`, and ntp's own launchers and sweepers.

    Hydra finds plug-ins by itself only in ``hydra_plugins``, and not those of an editable install.
    """
    plugins: list[type[Plugin]] = [PluginConfigs, *_launchers_and_sweepers()]
    for plugin in plugins:
        Plugins.instance().register(plugin)


def _launchers_and_sweepers() -> list[type[Plugin]]:
    try:
        from hydra_plugins.ntp_clusters.launchers import LAUNCHERS
        from hydra_plugins.ntp_isolated.launcher import IsolatedLauncher
        from hydra_plugins.ntp_search.sweepers import SWEEPERS
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("hydra_plugins"):
            raise
        return []  # an editable install from before they were there: what is no sweep needs none
    return [IsolatedLauncher, *LAUNCHERS, *SWEEPERS]
