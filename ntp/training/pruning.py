"""A trial of a search reports how it is doing, and ends early when the study sees no hope for it."""

import warnings
from typing import TYPE_CHECKING, Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from ntp.config.errors import ConfigError
from ntp.config.schema import TrialConfig
from ntp.tracking.study import import_optuna, load_trial

if TYPE_CHECKING:
    import optuna


class Pruned(Exception):
    """Other trials of the search were better at this step. Raised on all ranks, at the boundary of a step."""


class Pruning(Callback):
    """Reports a metric after each validation of the fit, and raises `Pruned` before the next step if so advised.

    By then the checkpoint of the validation's step is written. A trial that has done its last step is not pruned, since
    nothing would be saved. Trouble with the storage ends the reports, never the run.

    Args:
        trial: which trial of which study this run is.
        metric: name among the module's newest metrics; nothing is reported while it is not there.

    """

    def __init__(self, trial: TrialConfig, metric: str) -> None:
        self.trial, self.metric = trial, metric
        self._opened: optuna.Trial | None = None
        self._reported: set[int] = set()  # a resumed run comes by some steps again
        self._hopeless = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the trial; one process speaks for all.

        Raises:
            ConfigError: there is no such trial.
        """
        if stage != "fit":
            return
        error = None
        if trainer.is_global_zero:
            try:
                self._open()
            except ConfigError as found:
                error = found
        if (error := trainer.strategy.broadcast(error)) is not None:
            raise error

    def _open(self) -> None:
        self._opened = load_trial(self.trial.study, self.trial.storage, self.trial.number)
        known = self._opened.study.get_trials(deepcopy=False)[self.trial.number]
        self._reported = set(known.intermediate_values)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Report, ask, and let all ranks agree."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._hopeless = trainer.strategy.broadcast(self._report(trainer.global_step, pl_module.latest))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """End here."""
        if self._hopeless:
            raise Pruned(f"trial {self.trial.number} was pruned at step {trainer.global_step}")

    def _report(self, step: int, metrics: dict[str, float]) -> bool:
        if self._opened is None or self.metric not in metrics or step in self._reported:
            return False
        self._reported.add(step)
        try:
            self._opened.report(metrics[self.metric], step)
            return self._opened.should_prune()
        except (import_optuna().exceptions.OptunaError, OSError) as error:
            warnings.warn(f"this trial is not pruned any more: its study can't be written ({error})", stacklevel=2)
            self._opened = None
            return False
