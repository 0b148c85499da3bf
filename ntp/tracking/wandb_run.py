"""The one W&B run of a run directory: what it is called, what its metrics are drawn over, and which lines it has.

The mirror of a run in training and ``ntp sync`` both go through here, so that W&B cannot tell them apart.
"""

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ntp.tracking.run_directory import json_safe
from ntp.tracking.wandb_attachments import attach, digest

RECORD = "wandb.json"
STEP, TOKENS = "trainer/global_step", "progress/tokens"
AXES = {
    TOKENS: "tokens read",
    "progress/targets": "targets trained",
    "progress/bytes": "bytes of text",
    "progress/flops": "FLOPs",
    "progress/seconds": "seconds",
    "progress/rows": "rows read",
    "progress/step": "optimizer steps",
}
"""What a panel may be drawn over, with its title: everything that a run counts as it goes."""
BEST_AND_LAST = ("val/bits_per_byte", "val/loss")

_LONGEST_REASON = 200

Mode = Literal["online", "offline"]


@dataclass
class WandbRecord:
    """Which W&B run is a directory's, and what has got there for certain; kept in ``wandb.json``.

    Attributes:
        id: of the W&B run, chosen once: a run that is resumed or uploaded later goes on under it.
        project: W&B project.
        entity: user or team; None for the account's default.
        name: of the run.
        mode: where the lines went: to the server, or to a file of W&B's own that is sent later.
        lines: how many of ``metrics.jsonl``.
        step: optimizer step of the last of them.
        state: of the run when everything had been sent; None while something may be missing.
        live: whether a run in training is being mirrored.
        url: of the run's page; offline, the folder of W&B's file within the run directory.
        attached: digest of the results of exams and samples that it has; see `ntp.tracking.wandb_attachments`.
    """

    id: str
    project: str
    entity: str | None
    name: str
    mode: Mode | None = None
    lines: int = 0
    step: int | None = None
    state: str | None = None
    live: bool = False
    url: str | None = None
    attached: str | None = None

    @classmethod
    def read(cls, directory: Path) -> "WandbRecord | None":
        """The record of a run directory; None where it was never mirrored.

        Raises:
            ValueError: the file is not what ntp writes.
        """
        try:
            text = (directory / RECORD).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            raise ValueError(f"{directory / RECORD} is damaged; without it the run is uploaded as a new one") from None

    @classmethod
    def new(cls, project: str, entity: str | None, name: str) -> "WandbRecord":
        """The record of a run that W&B has not seen."""
        return cls(uuid.uuid4().hex[:12], project, entity, name)

    def write(self, directory: Path) -> None:
        """Keep it, whole or not at all."""
        temporary = directory / f".{RECORD}.tmp"
        temporary.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, directory / RECORD)


def has_key() -> bool:
    """Whether W&B would find an API key, or what stands for one, without asking."""
    import wandb
    from requests.utils import get_netrc_auth

    settings = wandb.setup().settings
    return bool(settings.api_key or settings.identity_token_file or get_netrc_auth(settings.base_url))


def explained(error: Exception) -> str:
    """What went wrong inside W&B, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:_LONGEST_REASON]}"


class WandbRun:
    """A W&B run that is open, and takes the lines of ``metrics.jsonl`` in their order.

    Lines that W&B has already are passed over: those that it counts itself when it is online, and those in the record
    when it is not. A run that goes on from a checkpoint logs some steps again; the values are the same.

    Args:
        directory: of the run.
        record: of the run; kept up to date.
        mode: where the lines go.
        config: resolved.
        tags: to find the run by.
        group: runs of one experiment.
        objective: becomes the type of the job.
        init_timeout: seconds to wait for W&B at the start.
        finish_timeout: seconds to wait for it to take the rest at the end.
        settings: further settings of W&B's.

    Raises:
        Exception: W&B's own, of many kinds; so do the methods.
    """

    def __init__(
        self,
        directory: Path,
        record: WandbRecord,
        *,
        mode: Mode,
        config: dict[str, Any],
        tags: list[str],
        group: str | None,
        objective: str | None,
        init_timeout: float,
        finish_timeout: float,
        **settings: Any,
    ) -> None:
        import wandb

        self.directory, self.record = directory, record
        self.run = wandb.init(
            id=record.id,
            project=record.project,
            entity=record.entity,
            name=record.name,
            dir=str(directory.resolve()),  # W&B's own process may stand elsewhere
            mode=mode,
            config=config,
            tags=tags,
            group=group,
            job_type=objective,
            resume="allow",
            # A run that a crashed job of this process left open is not continued by mistake.
            reinit="create_new",
            settings=wandb.Settings(
                init_timeout=init_timeout, finish_timeout=finish_timeout, finish_timeout_raises=True, **settings
            ),
        )
        try:
            self._begin(mode)
        except Exception:
            self.run.finish(exit_code=1)
            raise

    def _begin(self, mode: Mode) -> None:
        record = self.record
        if mode == "online":
            record.entity, record.url = self.run.entity, self.run.url
            record.lines, record.step = self.run.starting_step, self.run.summary.get(STEP)
        else:
            folder = Path(self.run.dir).parent.resolve()
            record.url = folder.relative_to(self.directory.resolve()).as_posix()
        record.mode, record.state = mode, None
        record.write(self.directory)
        self.number = self.sent = 0
        self._held, self._held_step = record.lines, record.step
        self._step = record.step  # of the last line that W&B has
        self._attached = record.attached
        self._define_metrics()

    def _define_metrics(self) -> None:
        self.run.define_metric(STEP)
        self.run.define_metric("*", step_metric=STEP, step_sync=True)
        for axis in AXES:  # none is a curve of its own
            self.run.define_metric(axis, hidden=True)
        for family in ("train/*", "val/*", "perf/*", "exam/*"):
            self.run.define_metric(family, step_metric=TOKENS)
        for name in BEST_AND_LAST:
            self.run.define_metric(name, step_metric=TOKENS, summary="min,last")

    def send(self, line: Mapping[str, Any]) -> None:
        """Log the next line of ``metrics.jsonl``, unless W&B has it."""
        metrics = json_safe(dict(line))
        step = metrics.pop("step", None)
        if not self._is_held(step):
            # A file of W&B's own always counts from 0, and the run has begun in another one.
            first_of_file = self.record.mode == "offline" and self.sent == 0
            place: dict[str, Any] = {"step": max(self.number, self._held), "commit": True} if first_of_file else {}
            self.run.log({STEP: step} | metrics, **place)
            self.sent += 1
            self._step = step
        self.number += 1
        if self.record.mode == "offline" and self.number > self.record.lines:
            self.record.lines, self.record.step = self.number, self._step
            self.record.write(self.directory)

    def _is_held(self, step: int | None) -> bool:
        if self.number >= self._held:
            return False
        # A finished run that goes on with a larger budget: its last lines are gone, and others stand in their place.
        return step is None or self._held_step is None or step <= self._held_step

    def summarize(self, summary: Mapping[str, Any]) -> None:
        """Put summary, results of exams and samples beside the curves, without what W&B computes of these itself."""
        known = json_safe(dict(summary))
        self.run.summary.update({name: value for name, value in known.items() if name not in BEST_AND_LAST})
        self._attached = digest(self.directory)
        if self._attached is not None and self._attached != self.record.attached:
            attach(self.run, self.directory)

    def finish(self, state: str | None, *, failed: bool) -> None:
        """End the run, and keep in the record that W&B has everything.

        Args:
            state: of the run, as in ``summary.json``.
            failed: whether W&B shall show the run as failed.

        Raises:
            TimeoutError: not everything had got there when the time was up.
        """
        self.record.live = False
        self.record.write(self.directory)
        self.run.finish(exit_code=int(failed))
        self.record.lines, self.record.step = max(self.number, self._held), self._step
        self.record.state, self.record.attached = state, self._attached
        self.record.write(self.directory)
