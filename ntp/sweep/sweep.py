"""A sweep: its jobs checked, found again, run in processes of their own, and told at the end."""

import contextlib
import datetime
import os
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from ntp.config.errors import RunFailed, RunStopped
from ntp.sweep.compose import JobComposer
from ntp.sweep.decision import STARTING, Decision, decide, find_by_identity
from ntp.sweep.executor import Executor, ThisMachine
from ntp.sweep.gpus import GpuPool
from ntp.sweep.job import UNSUCCESSFUL, IsolatedReturn, Job, JobEnded, JobResult, State, job_return
from ntp.sweep.outcome import metric_of, outcome
from ntp.sweep.record import SweepRecord
from ntp.sweep.report import LOG, Progress, print_plan, print_results
from ntp.sweep.runner import Runner, Running
from ntp.tracking.runs import FoundRun

_INTERRUPTED_STATUS, _STOPPED_STATUS = 130, 143


class DryRun(Exception):
    """The jobs were shown, and nothing more can be said of a sweep that is not run."""


class Sweep:
    """All jobs that one command runs, in as many batches as its sweeper likes.

    Args:
        loader: Hydra's, which composes the jobs.
        config: of the whole sweep, Hydra's own node included.
        command: arguments of ``ntp``, as they were typed.
        executor: what runs the jobs; None for this machine.
    """

    def __init__(
        self, loader: ConfigLoader, config: DictConfig, command: Sequence[str], executor: Executor | None = None
    ) -> None:
        self.composer = JobComposer(loader, config)
        self.directory = self.composer.sweep_dir
        self.command = ["ntp", *command]
        self.metric, self.dry_run = str(config.sweep.metric), bool(config.sweep.dry_run)
        self.results: dict[str, JobResult] = {}  # by identity
        self._progress = Progress(OmegaConf.select(config, "hydra.sweeper.n_trials") or 0, self.metric)
        self._record = SweepRecord(self.directory, self.metric, self.command)
        self._known: dict[str, FoundRun] = {}
        self._executor = executor or ThisMachine()
        self.tolerates_failures = False  # of a search, whose trials may fail
        self._is_new = not self.directory.exists()

    def launch(self, batch: Sequence[Sequence[str]], first: int) -> list[IsolatedReturn]:
        """Run jobs, except those that are done, and wait for all of them.

        Args:
            batch: overrides of each.
            first: number of the first, from 0.

        Raises:
            ConfigError, HydraException: one of them is wrong; none was started.
            RunStopped: a signal stopped them.
            DryRun: they were only to be shown.
        """
        jobs = [self.composer.compose(overrides, first + index + 1) for index, overrides in enumerate(batch)]
        # Jobs of the same configuration, such as draws that a search repeats, are one job.
        distinct: dict[str, tuple[Job, int]] = {}
        for job in jobs:
            gpus = self._executor.check(job)
            if job.identity not in self.results:
                distinct.setdefault(job.identity, (job, gpus))
        self._known = find_by_identity(self.directory)
        decisions = {identity: self._decide(job) for identity, (job, _) in distinct.items()}
        if self.dry_run:
            plan = [(job, decisions[identity]) for identity, (job, _) in distinct.items()]
            print_plan(plan, self.directory, Console())
            raise DryRun
        for identity, (job, _) in distinct.items():
            if decisions[identity].action == "run":
                self.composer.check_arguments(job)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._progress.total = max(self._progress.total, first + len(jobs))
        for identity, (job, _) in distinct.items():
            if decisions[identity].action in ("skip", "leave"):
                self._keep(job, self._found(job, decisions[identity]))
        self._run([one for identity, one in distinct.items() if identity not in self.results])
        return [job_return(job, self.results[job.identity]) for job in jobs]

    def finish(self, error: BaseException | None) -> None:
        """Show the jobs, when the sweeper has come to its end.

        Args:
            error: that it ended with; None for none.

        Raises:
            RunFailed: a job failed.
            BaseException: the error, where it is more than the end of a job.
        """
        results = list(self.results.values())
        if isinstance(error, DryRun) and self._is_new:
            (self.directory / "multirun.yaml").unlink(missing_ok=True)  # Hydra's sweeper writes it before it asks
            with contextlib.suppress(OSError):
                os.removedirs(self.directory)
        if results:
            print_results(results, self.directory, self.metric, Console())
        if error is not None and not isinstance(error, (JobEnded, DryRun)):
            raise error
        if self.tolerates_failures:
            return
        if failed := sum(one.state in UNSUCCESSFUL for one in results):
            raise RunFailed(f"{failed} of {len(results)} jobs failed; the same command tries again (sweep.retry=true)")

    def _run(self, jobs: Sequence[tuple[Job, int]]) -> None:
        if not jobs:
            return
        settings = jobs[0][0].config.sweep
        runner = Runner(
            self._executor.together(settings) or len(jobs),
            GpuPool(self._executor.gpus),
            settings.grace_seconds,
            self._begin,
            self._ended,
            self._progress.say,
            self._executor.hand_over,
            self._executor.poll_seconds,
        )
        stopped_by = runner.run(jobs)
        if stopped_by is None:
            return
        for job, _ in jobs:
            if job.identity not in self.results:
                self.results[job.identity] = self._result(job, self._decide(job).directory, "waiting")
        done = sum(one.state in ("finished", "pruned") for one in self.results.values())
        raise RunStopped(
            f"stopped by {signal.Signals(stopped_by).name} with {done} of {self._progress.total} jobs done; "
            f"go on with: {shlex.join(self.command)}",
            _INTERRUPTED_STATUS if stopped_by == signal.SIGINT else _STOPPED_STATUS,
        )

    def _decide(self, job: Job) -> Decision:
        return decide(job, self.directory, self._known, self._record, job.config.sweep.retry)

    def _begin(self, job: Job, gpus: list[str]) -> Running | None:
        decision = self._decide(job)  # anew: another process may have taken it meanwhile
        if decision.action not in STARTING:
            self._keep(job, self._found(job, decision))
            return None
        command = self.composer.command(job, decision.directory)
        try:
            log = self._open_log(job, decision, command)
            process = self._executor.start(job, command, log, gpus, self.directory.name)
        except OSError as error:
            self._keep(job, self._result(job, decision.directory, "failed", f"can't be started ({error.strerror})"))
            return None
        self._progress.starts(job, decision.action, queued=self._executor.queues)
        limit = None if self._executor.keeps_limits else job.config.sweep.time_limit_minutes
        return Running(job, decision, process, gpus, None if limit is None else limit * 60)

    def _ended(self, running: Running, status: int) -> None:
        state, note = outcome(running, status)
        seconds = (self._record.seconds(running.job.identity) or 0.0) + running.process.seconds
        self._keep(
            running.job, self._result(running.job, running.decision.directory, state, note, seconds, trained=True)
        )

    def _found(self, job: Job, decision: Decision) -> JobResult:
        """The result of a job that this sweep does not run."""
        if decision.action == "elsewhere":
            return self._result(job, decision.directory, "elsewhere")
        if decision.action == "leave":
            return self._result(job, decision.directory, "failed", "failed before, and sweep.retry=false")
        assert decision.run is not None
        seconds = self._record.seconds(job.identity) or decision.run.summary.get("total_seconds")
        state: State = "pruned" if decision.run.state == "pruned" else "finished"
        return self._result(job, decision.directory, state, seconds=seconds)

    def _result(
        self,
        job: Job,
        directory: Path,
        state: State,
        note: str = "",
        seconds: float | None = None,
        *,
        trained: bool = False,
    ) -> JobResult:
        # What stands in the summary of a run that did not come to its end is not to be compared with the others.
        metric = metric_of(directory, self.metric) if state in ("finished", "pruned") else None
        return JobResult(job.number, job.name, job.identity, state, directory, metric, seconds, note, trained)

    def _keep(self, job: Job, result: JobResult) -> None:
        self.results[job.identity] = result
        self._record.write(job, result)
        self._progress.ended(result)

    def _open_log(self, job: Job, decision: Decision, command: Sequence[str]) -> Path:
        """The file for what a job says; further attempts are appended."""
        decision.directory.mkdir(parents=True, exist_ok=True)
        log = decision.directory / LOG
        if log.exists():
            now = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
            with open(log, "a", encoding="utf-8") as file:
                file.write(
                    f"\n== attempt {self._record.attempts(job.identity) + 1}, {now}: {shlex.join(['ntp', *command])}\n"
                )
        return log
