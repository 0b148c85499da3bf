"""Search with Optuna: it proposes trials, the launcher runs them, and the study remembers what came of them.

The study is the only state. A search that was killed is the study with some trials that are still running; when the
same command is given again these are launched first, with their values and their number, and go on in their
directories.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from hydra.core.override_parser.types import Quote, QuotedString

from ntp.config.errors import ConfigError
from ntp.sweep.job import JobResult
from ntp.sweep.results import Trial
from ntp.sweep.space import Choice, Distribution, Integers, Space
from ntp.tracking.study import import_optuna, make_pruner, make_sampler, open_storage, remember_pruner

if TYPE_CHECKING:
    import optuna

DIRECTORY, RETRY_OF = "directory", "retry_of"  # user attributes of a trial


Launch = Callable[[list[list[str]], int], Sequence[JobResult]]


@dataclass(frozen=True)
class Proposing:
    """How trials are chosen and judged. See ``conf/hydra/sweeper/optuna.yaml``."""

    n_trials: int
    seed: int
    direction: str
    sampler: str
    sampler_options: dict[str, Any]
    pruner: str
    pruner_options: dict[str, Any]

    def check(self) -> None:
        """Try all names and options.

        Raises:
            ConfigError: Optuna is missing, or does not know them.
        """
        self.sampler_of(0)
        make_pruner(self.pruner, self.pruner_options)

    def sampler_of(self, number: int) -> "optuna.samplers.BaseSampler":
        """The sampler of a trial: what it draws depends on no other trial's draws, so that a search can be resumed."""
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        return make_sampler(self.sampler, self.sampler_options, seed)


class OptunaSearch:
    """A search in a study.

    Args:
        space: what varies.
        proposing: how.
        storage: URL of the study's storage; see `ntp.tracking.study.open_storage`.
        study_name: within the storage.
        identity: of the configuration that is searched; a study holds trials of one.
        metric: what is searched for.

    Raises:
        ConfigError: Optuna is missing, an option is wrong, or the study is another search's.
    """

    def __init__(
        self, space: Space, proposing: Proposing, *, storage: str, study_name: str, identity: str, metric: str
    ) -> None:
        optuna = import_optuna()
        self.space, self.proposing, self.storage, self.metric = space, proposing, storage, metric
        self.study = optuna.create_study(
            study_name=study_name, storage=open_storage(storage), direction=proposing.direction, load_if_exists=True
        )
        for what, ours in (("search space", space.describe()), ("configuration", {"identity": identity})):
            theirs = self.study.user_attrs.get(what, ours)
            if theirs != ours:
                key = next(key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key))
                raise ConfigError(
                    "sweep.name", f"the study in {storage} has another {what} ({key}); give this search another name"
                )
            self.study.set_user_attr(what, ours)
        if self.study.direction.name.lower() != proposing.direction:
            raise ConfigError("hydra.sweeper.direction", f"the study in {storage} has the other one; it can't change")
        self._left: dict[int, str] = {}
        remember_pruner(self.study, proposing.pruner, proposing.pruner_options)

    def run(self, launch: Launch, *, jobs: int, retry: bool) -> list[Trial]:
        """Bring the study to its number of trials.

        Args:
            launch: runs jobs, given by their overrides and the number of the first, and returns their results in the
                same order. What it raises passes through, and leaves the trials of its jobs for the next time.
            jobs: trials at a time.
            retry: try again, as new trials, what failed when the search was run before.

        Returns:
            Every trial of the study, those of former times included.
        """
        if retry:
            self._enqueue_failed()
        interrupted = [self._again(one) for one in self.study.get_trials(deepcopy=False) if one.state.name == "RUNNING"]
        while True:
            batch, interrupted = interrupted[:jobs], interrupted[jobs:]
            while len(batch) < jobs and (trial := self._ask()):
                batch.append(trial)
            if not batch:
                return self._trials()
            self._launch(batch, launch)

    def _launch(self, batch: list["optuna.Trial"], launch: Launch) -> None:
        values = [self._suggest(trial) for trial in batch]
        overrides = [self.space.overrides(one) for one in values]
        jobs = [[*one, self._trial_override(trial.number)] for one, trial in zip(overrides, batch, strict=True)]
        results = launch(jobs, batch[0].number)
        for trial, result, one, lines in zip(batch, results, values, overrides, strict=True):
            told = Trial.of(trial.number, one, lines, result, self.metric)
            trial.set_user_attr(DIRECTORY, told.directory)
            self._tell(told)

    def _tell(self, trial: Trial) -> None:
        states = import_optuna().trial.TrialState
        if trial.state == "finished":
            self.study.tell(trial.number, trial.metric)
        elif trial.state == "pruned":
            self.study.tell(trial.number, state=states.PRUNED)
        elif trial.state == "failed":
            self.study.tell(trial.number, state=states.FAIL)
        else:
            self._left[trial.number] = trial.state  # and running in the study, for the next time

    def _ask(self) -> "optuna.Trial | None":
        trials = self.study.get_trials(deepcopy=False)
        retried = {one.user_attrs.get(RETRY_OF) for one in trials}
        waiting = any(one.state.name == "WAITING" for one in trials)
        if not waiting and sum(one.number not in retried for one in trials) >= self.proposing.n_trials:
            return None
        # A trial is a function of the seed, its number and the trials before it, also when the search was interrupted.
        self.study.sampler = self.proposing.sampler_of(len(trials))
        trial = self.study.ask()
        self._suggest(trial)
        return trial

    def _again(self, trial: "optuna.trial.FrozenTrial") -> "optuna.Trial":
        self.study.sampler = self.proposing.sampler_of(trial.number)  # a kill may have come between two of its values
        return import_optuna().Trial(self.study, trial._trial_id)

    def _suggest(self, trial: "optuna.Trial") -> dict[str, str]:
        return {key: _suggest(trial, key, one) for key, one in self.space.varied.items()}

    def _enqueue_failed(self) -> None:
        trials = self.study.get_trials(deepcopy=False)
        retried = {one.user_attrs.get(RETRY_OF) for one in trials}
        for one in trials:
            if one.state.name == "FAIL" and one.number not in retried:
                self.study.enqueue_trial(one.params, user_attrs={RETRY_OF: one.number})

    def _trial_override(self, number: int) -> str:
        study, storage = (
            QuotedString(text, Quote.single).with_quotes() for text in (self.study.study_name, self.storage)
        )
        return f"sweep.trial={{study:{study},storage:{storage},number:{number}}}"

    def _trials(self) -> list[Trial]:
        states = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}
        trials = self.study.get_trials(deepcopy=False)
        retried = {one.user_attrs.get(RETRY_OF) for one in trials}
        found = []
        for one in trials:
            if one.number in retried:
                continue
            values = {key: distribution.text(one.params[key]) for key, distribution in self.space.varied.items()}
            state = states.get(one.state.name) or self._left[one.number]
            metric = one.value if state == "finished" else None
            overrides = self.space.overrides(values)
            found.append(Trial(one.number, values, overrides, state, metric, one.user_attrs.get(DIRECTORY)))
        return found


def _suggest(trial: "optuna.Trial", key: str, distribution: Distribution) -> str:
    """The value of a key, as it is written in an override; the one that the trial has, if it has one."""
    if isinstance(distribution, Choice):
        return distribution.text(trial.suggest_categorical(key, distribution.texts))
    low, high, step, log = distribution.low, distribution.high, distribution.step, distribution.log
    if isinstance(distribution, Integers):
        return distribution.text(
            trial.suggest_int(key, distribution.low, distribution.high, step=int(step or 1), log=log)
        )
    return distribution.text(trial.suggest_float(key, low, high, step=step, log=log))
