"""``hydra/launcher=submitit_slurm``, ``submitit_local`` and ``ray``: jobs of a sweep on other machines."""

import sys
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from ntp.sweep.executor import Executor


class _ClusterLauncher(Launcher):
    """A sweep as of ``hydra/launcher=isolated``, except for where its jobs run.

    Args:
        **options: see the YAML file of the launcher.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra knows; see `hydra_plugins.ntp_isolated.launcher`."""
        from ntp.sweep.sweep import Sweep

        task: Any = task_function
        executor = self._executor(config)
        self.sweep = Sweep(hydra_context.config_loader, config, [task.command, *sys.argv[1:]], executor)
        task.finish = self.sweep.finish

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a batch of jobs; each of what is returned has a `ntp.sweep.job.JobResult` as ``result``."""
        return self.sweep.launch(job_overrides, initial_job_idx)

    @abstractmethod
    def _executor(self, config: DictConfig) -> "Executor":
        """What runs the jobs."""


class SubmititSlurmLauncher(_ClusterLauncher):
    """Jobs in SLURM's queue. See ``conf/hydra/launcher/submitit_slurm.yaml``."""

    def _executor(self, config: DictConfig) -> "Executor":
        from ntp.sweep.clusters import slurm_executor

        return slurm_executor(self.options, config)


class SubmititLocalLauncher(_ClusterLauncher):
    """The same on this machine. See ``conf/hydra/launcher/submitit_local.yaml``."""

    def _executor(self, config: DictConfig) -> "Executor":
        from ntp.sweep.clusters import local_executor

        return local_executor(self.options, config)


class RayLauncher(_ClusterLauncher):
    """Jobs where Ray has room. See ``conf/hydra/launcher/ray.yaml``."""

    def _executor(self, config: DictConfig) -> "Executor":
        from ntp.sweep.clusters import ray_executor

        return ray_executor(self.options, config)


LAUNCHERS = (SubmititSlurmLauncher, SubmititLocalLauncher, RayLauncher)
"""To be registered with Hydra, which does not find plug-ins of an editable install by itself."""
