"""A launcher that computes instead of training, for tests of what sweepers make of results."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher

from ntp.sweep.job import IsolatedReturn, JobResult
from ntp.sweep.space import value_of
from ntp.tracking.study import load_trial


class PretendLauncher(Launcher):
    """The loss is the distance of the learning rate from 1e-3, in powers of ten; trials report it at step 10."""

    batches: list[list[dict[str, str]]]  # what was launched, as values by key
    behaviour: Callable[[dict[str, str]], str]  # the state that a job ends in; may raise

    def setup(self, *, hydra_context, task_function, config):
        self.directory, self.metric = Path(config.hydra.sweep.dir), config.sweep.metric

    def launch(self, job_overrides, initial_job_idx):
        jobs = [dict(line.split("=", 1) for line in overrides) for overrides in job_overrides]
        self.batches.append(jobs)
        return [self._run(initial_job_idx + index, values) for index, values in enumerate(jobs)]

    def _run(self, number, values):
        loss = abs(math.log10(float(values["optimizer.learning_rate"])) + 3)
        if "sweep.trial" in values:
            found = value_of(values["sweep.trial"])
            trial = load_trial(found["study"], found["storage"], found["number"])
            if not trial.study.trials[found["number"]].intermediate_values:
                trial.report(loss, 10)
        state = type(self).behaviour(values)
        kind = "pseudo" if values.get("objective") == "mlm" else "exact"
        summary = {"state": state, "likelihood": kind, "val/loss": loss}
        directory = self.directory / str(number)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "summary.json").write_text(json.dumps(summary))
        return IsolatedReturn(result=JobResult(number + 1, "job", "0", state, directory, summary.get(self.metric)))


# Hydra takes plug-ins from there only.
PretendLauncher.__module__ = "hydra_plugins.pretend"
sys.modules["hydra_plugins.pretend"] = sys.modules[__name__]


def register(behaviour=lambda values: "finished"):
    """Make ``hydra/launcher=pretend`` known, with a list of its own of what it launches."""
    PretendLauncher.batches, PretendLauncher.behaviour = [], behaviour
    Plugins.instance().register(PretendLauncher)
    ConfigStore.instance().store(
        group="hydra/launcher", name="pretend", node={"_target_": "hydra_plugins.pretend.PretendLauncher"}
    )
    return PretendLauncher.batches
