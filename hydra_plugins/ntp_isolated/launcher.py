"""``hydra/launcher=isolated``: each job of a sweep is a process of its own."""

import sys
from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class IsolatedLauncher(Launcher):
    """Runs the jobs of ``ntp train -m``, as the ``sweep`` node of the configuration says; see `ntp.sweep.sweep`."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra knows; the door (`ntp.config.compose.Task`) lets the sweep have the last word."""
        from ntp.sweep.sweep import Sweep

        task: Any = task_function
        self.sweep = Sweep(hydra_context.config_loader, config, [task.command, *sys.argv[1:]])
        task.finish = self.sweep.finish

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a batch of jobs; each of what is returned has a `ntp.sweep.job.JobResult` as ``result``."""
        return self.sweep.launch(job_overrides, initial_job_idx)
