"""A job of a sweep, and how it ended."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from ntp.config.errors import RunFailed
from ntp.config.schema import TrainConfig

State = Literal["finished", "pruned", "stopped", "interrupted", "failed", "elsewhere", "waiting"]
"""What a run's summary can say, and: interrupted: killed; elsewhere: another process trains it; waiting: not begun."""

UNSUCCESSFUL: tuple[State, ...] = ("failed", "interrupted")


@dataclass(frozen=True)
class Job:
    """One configuration to train.

    Attributes:
        number: within the sweep, from 1.
        name: made of what it varies.
        overrides: of the command that computes it, where it writes left out.
        identity: hash of its configuration.
        config: typed.
        plain: the same as plain containers.
        composed: the configuration, as Hydra composed it.
    """

    number: int
    name: str
    overrides: tuple[str, ...]
    identity: str
    config: TrainConfig
    plain: dict[str, Any]
    composed: DictConfig


@dataclass(frozen=True)
class JobResult:
    """How a job ended.

    Attributes:
        number: within the sweep, from 1.
        name: made of what it varies.
        identity: hash of its configuration.
        state: see `State`.
        directory: of its run.
        metric: of the sweep's metric; None where it has none, or no finite one.
        seconds: of wall time, over all attempts that are known; None where none is.
        note: why, for a person; empty where nothing is to be said.
        trained: whether this sweep ran it, rather than find it done.
    """

    number: int
    name: str
    identity: str
    state: State
    directory: Path
    metric: float | None = None
    seconds: float | None = None
    note: str = ""
    trained: bool = False


class JobEnded(RunFailed):
    """A job has no result that a sweeper could use: it failed, was stopped, or is trained by another process."""


@dataclass
class IsolatedReturn(JobReturn):
    """What a launcher gives a sweeper for a job.

    Attributes:
        result: the whole of it; that a run was pruned is seen here only.
    """

    result: JobResult | None = None

    @property
    def return_value(self) -> Any:
        """The metric of a finished or a pruned run, NaN where it has none; raises `JobEnded` where there is no end."""
        # Hydra's own would also print the overrides, which stand in the sweep's table.
        if isinstance(self._return_value, Exception):
            raise self._return_value
        return self._return_value

    @return_value.setter
    def return_value(self, value: Any) -> None:
        self._return_value = value


def job_return(job: Job, result: JobResult) -> IsolatedReturn:
    """A result in the form that Hydra's sweepers know."""
    done = result.state in ("finished", "pruned")
    ended = JobEnded(f"{result.name}: {result.state} {result.note}".rstrip())
    metric = float("nan") if result.metric is None else result.metric
    return IsolatedReturn(
        overrides=list(job.overrides),
        cfg=job.composed,
        working_dir=str(result.directory),
        task_name=job.name,
        status=JobStatus.COMPLETED if done else JobStatus.FAILED,
        _return_value=metric if done else ended,
        result=result,
    )
