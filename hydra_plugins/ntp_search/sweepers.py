"""ntp's sweepers, where Hydra wants plug-ins to live. It imports this at every start, so it must stay light."""

from collections.abc import Callable
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class _Search(Sweeper):
    """A sweeper whose search is a function in `ntp.sweep.search`.

    Args:
        **options: see the YAML file of the sweeper.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Make the launcher."""
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def _run(self, search: Callable[..., Any], arguments: list[str]) -> Any:
        from ntp.sweep.search import Surroundings

        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        return search(arguments, self.options, Surroundings(self.config, self.hydra_context, self.launcher))


class GridSearch(_Search):
    """Every combination of the values. See ``conf/hydra/sweeper/grid.yaml``."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run them all."""
        from ntp.sweep.search import grid_search

        return self._run(grid_search, arguments)


class RandomSearch(_Search):
    """Draws of a seed. See ``conf/hydra/sweeper/random.yaml``."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run them all."""
        from ntp.sweep.search import random_search

        return self._run(random_search, arguments)


class OptunaSearch(_Search):
    """What Optuna proposes. See ``conf/hydra/sweeper/optuna.yaml``."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run the search, or what is left of it."""
        from ntp.sweep.search import optuna_search

        return self._run(optuna_search, arguments)


SWEEPERS = (GridSearch, RandomSearch, OptunaSearch)
"""To be registered with Hydra, which does not find plug-ins of an editable install by itself."""
