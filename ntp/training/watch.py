"""The processes of a run end together: whichever of them is lost, none is left waiting, and one of them says why."""

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch.distributed as dist
from lightning.pytorch.strategies import Strategy

from ntp.config.errors import RunFailed, RunStopped
from ntp.training.launcher import Launcher

_GRACE_SECONDS = 30.0
_REAP_SECONDS = 5.0  # a connection is closed a little before the process behind it counts as dead
_POLL_SECONDS = 0.5
# What gloo says in plain RuntimeErrors; other backends have classes of their own.
_LOST = re.compile(r"gloo|connection (closed|reset)|broken pipe", re.IGNORECASE)
_TIMEOUT = re.compile(r"timed? ?out", re.IGNORECASE)


@contextmanager
def ending_together(
    strategy: Strategy, how_to_go_on: str, timeout_minutes: float, give_up: Callable[[], None]
) -> Iterator[None]:
    """While devices work together.

    The process that started the others watches them: as soon as one has failed, its own collective operations fail, or
    hang, as the backend is made; in both cases it ends the others and itself with the reason. Processes that were
    started leave the word to it, and die with it.

    Args:
        strategy: of the run; strategies that are not ntp's own do as they like.
        how_to_go_on: command that the message names.
        timeout_minutes: what collective operations wait for a device.
        give_up: called from another thread before a process that hangs is ended.

    Raises:
        RunFailed: another process is lost.
    """
    launcher = strategy.launcher
    if not isinstance(launcher, Launcher):
        yield
        return
    over = threading.Event()
    threading.Thread(target=_watch, args=(launcher, over, how_to_go_on, give_up), daemon=True).start()
    try:
        yield
    except RunStopped:
        if launcher.is_child:
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - all stop for the same reason, which the first one tells
        raise
    except Exception as error:
        lost = _is_lost(error)
        if launcher.is_child and lost:
            time.sleep(_GRACE_SECONDS)  # the first process knows more, and ends this one
        death = launcher.death(_REAP_SECONDS if lost else 0.0)
        launcher.end_children()
        if not lost:
            raise
        if death is None:
            waited = f"has waited {timeout_minutes:g} minutes (trainer.collective_timeout_minutes) in vain for another"
            ending = waited if _TIMEOUT.search(str(error)) else "has lost the connection to another"
            death = f"rank {launcher.cluster_environment.global_rank()} of {launcher.world_size} {ending}"
        raise RunFailed(_message(death, how_to_go_on)) from error
    finally:
        over.set()


def _watch(launcher: Launcher, over: threading.Event, how_to_go_on: str, give_up: Callable[[], None]) -> None:
    """End a process that does not notice the death of another by itself."""
    while not over.wait(_POLL_SECONDS):
        death = launcher.death()
        if death is None or over.wait(_GRACE_SECONDS):  # it may be writing a checkpoint
            continue
        print(f"ntp train: {_message(death, how_to_go_on)}", file=sys.stderr, flush=True)
        launcher.end_children()
        try:
            give_up()
        finally:
            os._exit(1)


def _message(death: str, how_to_go_on: str) -> str:
    return f"{death}; go on with: {how_to_go_on}"


def _is_lost(error: BaseException) -> bool:
    """Whether a collective operation has failed, for want of another process."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and bool(_LOST.search(str(error))))
