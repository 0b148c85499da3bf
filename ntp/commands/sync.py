"""``ntp sync``: upload runs to Weights & Biases after the fact."""

import os
import sys
from pathlib import Path

from omegaconf import DictConfig

from ntp.config.errors import ConfigError, RunFailed
from ntp.config.schema import SyncConfig
from ntp.config.validation import resolve, validate
from ntp.tracking.describe import relative
from ntp.tracking.runs import FoundRun, find_runs, read_run
from ntp.tracking.sync import Destination, Uploaded, upload
from ntp.tracking.tree import print_config
from ntp.tracking.wandb_run import Mode, has_key
from ntp.training.stored_config import read_stored_config

_FAILURES_IN_A_ROW = 2  # then it is not the runs that are at fault, and each takes as long as W&B may take to answer


def run(config: DictConfig) -> None:
    """Upload a run, or all runs below a folder, and print a line for each.

    Raises:
        ConfigError: there is no such run, or no API key.
        RunFailed: W&B or the network failed; what has got there stays, and a repetition sends the rest.
    """
    typed = validate(config, SyncConfig)
    if typed.print_config:
        print_config(resolve(config))
    runs = _runs(Path(typed.run))
    to = Destination(
        mode=_mode(typed.mode),
        project=typed.project,
        entity=typed.entity,
        group=typed.group,
        force=typed.force,
        init_timeout=typed.init_timeout,
        finish_timeout=typed.finish_timeout,
    )
    failed = in_a_row = 0
    for one in runs:
        try:
            done = upload(one, read_stored_config(one.path, "run"), to)
        except (ConfigError, RunFailed) as error:
            if len(runs) == 1:
                raise
            print(error, file=sys.stderr)
            failed += 1
            in_a_row += isinstance(error, RunFailed)
            if in_a_row == _FAILURES_IN_A_ROW:
                raise RunFailed(
                    "W&B does not answer; the runs so far are uploaded, run it again for the rest"
                ) from None
        else:
            in_a_row = 0
            print(_line(one, done), flush=True)
    if failed:
        raise RunFailed(f"{failed} of {len(runs)} runs could not be uploaded; run it again for the rest")


def _runs(path: Path) -> list[FoundRun]:
    one = read_run(path)
    runs = sorted(find_runs(path), key=lambda found: found.path) if one is None else [one]
    if not runs:
        raise ConfigError("run", f"{path} is not a run directory, and there is none below it")
    return runs


def _mode(asked: Mode | None) -> Mode:
    mode = asked or os.environ.get("WANDB_MODE")
    if mode in ("offline", "dryrun"):
        return "offline"
    if not has_key():  # W&B would ask for it
        raise ConfigError(
            "mode", "no W&B API key is configured; log in with `wandb login`, or write files with mode=offline"
        )
    return "online"


def _line(run: FoundRun, done: Uploaded) -> str:
    what = done.note or f"{done.lines} {'line' if done.lines == 1 else 'lines'}"
    return "  ".join(filter(None, (str(relative(run.path)), what, done.place)))
