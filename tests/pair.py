"""Two processes that stay, and train one run of two devices after another: to start them takes longest by far.

Each is what torchrun would have started. Runs whose processes ntp starts itself, or that are to die, are not for them.
"""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tests.conftest import Outcome, call

REPOSITORY = Path(__file__).resolve().parents[1]
WORLD_SIZE = 2


class Pair:
    """Runs ``ntp`` in two processes, which are started when they are first needed, and anew after a failure."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[str]] = []
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the processes

    def __call__(self, *arguments: str, cwd: Path, timeout: float = 240) -> Outcome:
        """What both printed, and how they ended."""
        if not self._processes:
            self._processes = [self._start(rank) for rank in range(WORLD_SIZE)]
        request = {"arguments": arguments, "cwd": str(cwd), "port": _free_port()}
        limit = threading.Timer(timeout, self._kill)
        limit.start()
        try:
            for process in self._processes:
                with contextlib.suppress(BrokenPipeError):  # its answer will be missing
                    print(json.dumps(request), file=process.stdin, flush=True)
            answers = [process.stdout.readline() for process in self._processes]
        finally:
            limit.cancel()
        if not all(answers):
            self.end()
            self._said.seek(0)
            raise AssertionError(f"one of two processes has died, or they took too long: {self._said.read()}")
        outcomes = [Outcome(**json.loads(answer)) for answer in answers]
        status = next((one.status for one in outcomes if one.status != 0), 0)
        if status != 0:  # nobody knows what it has left in them
            self.end()
        return Outcome(status, "".join(one.stdout for one in outcomes), "".join(one.stderr for one in outcomes))

    def end(self) -> None:
        """End both processes."""
        self._kill()
        for process in self._processes:
            process.communicate()
        self._processes = []

    def _kill(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGKILL)

    def _start(self, rank: int) -> "subprocess.Popen[str]":
        told = {
            "TORCHELASTIC_RUN_ID": "pair",
            "WORLD_SIZE": str(WORLD_SIZE),
            "LOCAL_WORLD_SIZE": str(WORLD_SIZE),
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "GROUP_RANK": "0",
            "MASTER_ADDR": "127.0.0.1",
        }
        return subprocess.Popen(
            [sys.executable, "-m", "tests.pair"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            cwd=REPOSITORY,
            env=os.environ | told,
        )


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def serve() -> None:
    """In one of the processes: run what is asked for, until nobody asks any more."""
    from torch import distributed

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print past Python is no answer
    for line in sys.stdin:
        request = json.loads(line)
        os.environ["MASTER_PORT"] = str(request["port"])
        os.chdir(request["cwd"])
        outcome = call(*request["arguments"])
        if distributed.is_initialized():
            distributed.destroy_process_group()
        print(json.dumps(dataclasses.asdict(outcome)), file=answers, flush=True)


if __name__ == "__main__":
    serve()
