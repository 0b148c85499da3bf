"""What a person reads of a sweep: a line for each event, and a table at the end."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ntp.sweep.decision import Action, Decision
from ntp.sweep.job import Job, JobResult, State
from ntp.tracking.describe import duration, relative

LOG = "log.txt"
_TITLES: dict[State, str] = {"elsewhere": "running elsewhere", "waiting": "not started"}
_STYLES: dict[State, str] = {"finished": "green", "failed": "red", "interrupted": "red"}
_BEGINNINGS: dict[Action, str] = {"run": "starts", "resume": "resumes", "retry": "is tried again"}
_QUEUED: dict[Action, str] = {"run": "is queued", "resume": "is queued to resume", "retry": "is queued again"}
_PLANS: dict[Action, str] = {
    "run": "run",
    "resume": "resume",
    "retry": "retry",
    "skip": "skip: done",
    "leave": "leave: failed, and sweep.retry=false",
    "elsewhere": "leave: another process trains it",
}


class Progress:
    """One line on stderr whenever something happens to a job.

    Args:
        total: how many jobs there are, as far as that is known.
        metric: name of the sweep's metric.
    """

    def __init__(self, total: int, metric: str) -> None:
        self.total, self.metric = total, metric
        self._console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)

    def starts(self, job: Job, action: Action, *, queued: bool = False) -> None:
        """A process begins, or waits for its turn elsewhere."""
        self._say(job.number, job.name, (_QUEUED if queued else _BEGINNINGS)[action])

    def ended(self, result: JobResult) -> None:
        """A job needs, or gets, no more work in this sweep."""
        metric = "" if result.metric is None else f"{self.metric} {shown(result.metric)}"
        time = "" if result.seconds is None else duration(result.seconds)
        before = "" if result.trained or result.state not in ("finished", "pruned", "failed") else " before"
        self._say(result.number, result.name, state_of(result, before), metric, time, _reason(result))

    def say(self, words: str) -> None:
        """What concerns the whole sweep."""
        self._console.print(words)

    def _say(self, number: int, *words: str) -> None:
        self._console.print(f"[{number}/{self.total}] " + "  ".join(word for word in words if word))


def shown(metric: float) -> str:
    """Four digits behind the point, or four in all of a tiny number."""
    return f"{metric:,.4f}" if abs(metric) >= 0.001 or metric == 0 else f"{metric:.4g}"


def state_of(result: JobResult, suffix: str = "") -> str:
    """The state, as a person would say it."""
    title = _TITLES.get(result.state, result.state) + suffix
    return f"{title} ({result.note})" if result.state == "stopped" and result.note else title


def _results_table(results: Sequence[JobResult], metric: str) -> Table:
    """All jobs of a sweep: state, metric and time."""
    counts = Counter(one.state for one in results)
    told = ", ".join(f"{counts[one]} {_TITLES.get(one, one)}" for one in get_args(State) if counts[one])
    table = Table(title=f"{_counted(len(results))}: {told}", title_justify="left")
    table.add_column("job", overflow="fold")
    table.add_column("state")
    table.add_column(metric, justify="right")
    table.add_column("time", justify="right")
    for one in results:
        table.add_row(
            Text(one.name),
            Text(state_of(one), _STYLES.get(one.state, "")),
            "" if one.metric is None else shown(one.metric),
            "" if one.seconds is None else duration(one.seconds),
        )
    return table


def print_results(results: Sequence[JobResult], sweep_dir: Path, metric: str, console: Console) -> None:
    """The table, why jobs failed, and how to compare the others: what a table shows need not be comparable."""
    results = sorted(results, key=lambda result: result.number)
    console.print(_results_table(results, metric))
    _print_places([(one.name, one.directory) for one in results], sweep_dir, console)
    for one in results:
        if reason := _reason(one):
            said = f"{one.name}: {reason}"
            log = one.directory / LOG
            console.print(said, highlight=False, markup=False, soft_wrap=True)
            if log.is_file():
                console.print(f"  see {relative(log)}", highlight=False, markup=False, soft_wrap=True)
    if sum(one.state == "finished" for one in results) > 1:
        command = f"ntp compare runs=[{relative(sweep_dir)}]"
        console.print(f"compare: {command}", highlight=False, markup=False, soft_wrap=True)


def print_plan(plan: Sequence[tuple[Job, Decision]], sweep_dir: Path, console: Console) -> None:
    """What a sweep would do."""
    counts = Counter(decision.action for _, decision in plan)
    told = ", ".join(f"{count} to {action}" for action, count in counts.items())
    table = Table(title=f"{_counted(len(plan))}: {told}", title_justify="left")
    table.add_column("job", overflow="fold")
    table.add_column("would")
    for job, decision in plan:
        table.add_row(Text(job.name), _PLANS[decision.action])
    console.print(table)
    _print_places([(job.name, decision.directory) for job, decision in plan], sweep_dir, console)
    console.print("nothing was started; every job is good so far", style="dim")


def _reason(result: JobResult) -> str:
    return result.note if result.state != "stopped" else ""


def _print_places(places: Sequence[tuple[str, Path]], sweep_dir: Path, console: Console) -> None:
    """Where the jobs are; almost always in directories of their names."""
    console.print(f"where: {relative(sweep_dir)}/<job>", highlight=False, markup=False, soft_wrap=True)
    for name, directory in places:
        if (place := os.path.relpath(directory, sweep_dir)) != name:
            console.print(f"  {name} is in {place}", highlight=False, markup=False, soft_wrap=True)


def _counted(jobs: int) -> str:
    return f"{jobs} job{'s' if jobs != 1 else ''}"
