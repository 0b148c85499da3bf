"""The processes of one run on this machine: started together, and known when they die."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

_PARENT = "NTP_PARENT_PROCESS"
_PR_SET_PDEATHSIG = 1
_END_SECONDS = 5.0


class Launcher(_SubprocessScriptLauncher):
    """Starts the further processes of this machine, as Lightning does, and leaves it to its owner to end them.

    Lightning's own kills the first process without a word as soon as another one has failed.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        _die_with_parent()

    @property
    def world_size(self) -> int:
        """Processes of the run, over all machines."""
        return self.num_processes * self.num_nodes

    @property
    def is_child(self) -> bool:
        """Whether another process of the run has started this one, and can tell what happened."""
        return _PARENT in os.environ

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Start the others, unless something else has started all, and call ``function``."""
        environment = self.cluster_environment
        environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not environment.creates_processes_externally:
            os.environ[_PARENT] = str(os.getpid())
            try:
                self._call_children_scripts()
            finally:
                del os.environ[_PARENT]
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)

    def death(self, wait: float = 0.0) -> str | None:
        """How a process that was started here has failed; None if none has.

        Args:
            wait: seconds to wait for one.
        """
        deadline = time.monotonic() + wait
        while True:
            for local_rank, process in enumerate(self.procs, start=1):
                if status := process.poll():
                    rank = self.cluster_environment.node_rank() * self.num_processes + local_rank
                    return f"rank {rank} of {self.world_size} {_ending(status)}"
            if not self.procs or time.monotonic() >= deadline:
                return None
            time.sleep(0.05)

    def end_children(self) -> None:
        """End the processes that were started here, also those that hang."""
        for process in self.procs:
            process.kill()
        for process in self.procs:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)


def _ending(status: int) -> str:
    if status > 0:
        return f"has failed with status {status}; it said why above"
    name = signal.Signals(-status).name
    return f"died of {name}" + (", which the system sends where memory runs out" if name == "SIGKILL" else "")


def _die_with_parent() -> None:
    """In a process that `Launcher` has started: never outlive the one that did, however that ends (Linux only)."""
    parent = os.environ.get(_PARENT)
    if parent is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        os.kill(os.getpid(), signal.SIGKILL)
