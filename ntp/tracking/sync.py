"""A run directory, uploaded to Weights & Biases after the fact."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ntp.config.errors import ConfigError, RunFailed
from ntp.tracking.metric_lines import METRICS, read_metrics_file
from ntp.tracking.run_directory import is_alive
from ntp.tracking.runs import FoundRun
from ntp.tracking.wandb_attachments import digest
from ntp.tracking.wandb_run import Mode, WandbRecord, WandbRun, explained

MIRROR, PROJECT, LOCK = "ntp.tracking.wandb.WandbMirror", "ntp", ".wandb.lock"

# Nothing of this process and of this machine belongs to the run, and W&B has no need to speak.
UNSEEN: dict[str, Any] = {
    "silent": True,
    "console": "off",
    "disable_git": True,
    "save_code": False,
    "x_disable_stats": True,
}


@dataclass(frozen=True)
class Destination:
    """Where runs are uploaded to.

    Attributes:
        mode: to the server, or into files that ``wandb sync`` sends.
        project: W&B project; None for the run's own.
        entity: user or team; None for the run's own.
        group: runs of one experiment; None for the run's own.
        force: upload also what is recorded as uploaded.
        init_timeout: seconds to wait for W&B's answer.
        finish_timeout: seconds to wait for it to take the rest of a run.
    """

    mode: Mode
    project: str | None
    entity: str | None
    group: str | None
    force: bool
    init_timeout: float
    finish_timeout: float


@dataclass(frozen=True)
class Uploaded:
    """What came of a run.

    Attributes:
        lines: that were sent now.
        place: the page of the run, or the folder of W&B's file; None where it has none.
        note: why nothing was sent; empty where something was.
    """

    lines: int
    place: str | None
    note: str = ""


def upload(run: FoundRun, config: dict[str, Any], to: Destination) -> Uploaded:
    """Send config, lines, summary, tags, group and name of a run, as the live mirror would have.

    Args:
        run: what its directory holds.
        config: its resolved config.
        to: where.

    Raises:
        ConfigError: the directory can't be read or written.
        RunFailed: W&B or the network failed; what has got there stays, and a repetition sends the rest.
    """
    try:
        with FileLock(run.path / LOCK, timeout=0):
            return _upload(run, config, to)
    except Timeout:
        raise RunFailed(f"{run.path}: another process is uploading it") from None
    except OSError as error:
        raise ConfigError("run", f"{run.path} can't be read and written ({error.strerror})") from None
    except ValueError as error:
        raise ConfigError("run", str(error)) from None


def _upload(run: FoundRun, config: dict[str, Any], to: Destination) -> Uploaded:
    own: dict[str, Any] = next(
        (node for node in (config.get("logger") or {}).values() if node.get("_target_") == MIRROR), {}
    )
    record = _record(run.path, own, to)
    if record.live and is_alive(run.path):
        return Uploaded(0, _place(run.path, record), "is mirrored by its training")
    lines = sum(1 for _ in read_metrics_file(run.path / METRICS))
    has = (record.mode, record.lines, record.state, record.attached)
    if not to.force and has == (to.mode, lines, run.state, digest(run.path)):
        return Uploaded(0, _place(run.path, record), f"nothing new in {lines} lines")
    if to.force:
        record.lines, record.step, record.attached = 0, None, None
    record.live = False
    record.write(run.path)
    try:
        sending = WandbRun(
            run.path,
            record,
            mode=to.mode,
            config=config,
            tags=list(config.get("tags") or []),
            group=to.group or own.get("group"),
            objective=run.summary.get("objective"),
            init_timeout=to.init_timeout,
            finish_timeout=to.finish_timeout,
            **UNSEEN,
        )
        for line in read_metrics_file(run.path / METRICS):
            sending.send(line)
        sending.summarize(run.summary)
        sending.finish(run.state, failed=run.state not in ("finished", "running"))
    except Exception as error:  # W&B's own, of many kinds
        raise RunFailed(f"{run.path}: W&B failed ({explained(error)}); nothing is lost, run it again later") from error
    return Uploaded(sending.sent, _place(run.path, record))


def _record(directory: Path, own: dict[str, Any], to: Destination) -> WandbRecord:
    """Which W&B run the directory's is; one in another project has nothing yet."""
    record = WandbRecord.read(directory)
    if record is None:
        name = own.get("name") or directory.resolve().name
        return WandbRecord.new(to.project or own.get("project") or PROJECT, to.entity or own.get("entity"), name)
    project, entity = to.project or record.project, to.entity or record.entity
    if (project, entity) != (record.project, record.entity):
        return WandbRecord(record.id, project, entity, record.name)
    return record


def _place(directory: Path, record: WandbRecord) -> str | None:
    if record.url is None or record.mode == "online":
        return record.url
    return str(directory / record.url)
