"""Timed laps: the two ends of the pipe between a benchmark and a training loop in a process of its own.

All training loops of a benchmark are alive at once and stand still, each at the start of a step. The benchmark lets one
of them at a time go for a lap: some steps to get warm and then the steps that are timed, from the start of one step to
the start of another, so that whatever a loop does between two steps is in the time. Laps of different loops take
turns and share whatever the machine does meanwhile; start-up is in none of them.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TextIO

ROOT = Path(__file__).resolve().parent.parent


class Times(NamedTuple):
    """Two clocks.

    Attributes:
        wall: seconds.
        processor: seconds that all threads of the process worked or spun, which is less disturbed by other processes.
    """

    wall: float
    processor: float

    @classmethod
    def now(cls) -> "Times":
        """Read the clocks."""
        return cls(time.perf_counter(), time.process_time())

    def since(self, then: "Times") -> "Times":
        """What has passed."""
        return Times(self.wall - then.wall, self.processor - then.processor)


class Laps:
    """The end of the training loop.

    Args:
        requests: a line ``<steps to get warm> <steps to time>`` a lap; its end ends the process.
        replies: a JSON object a line: facts about the loop when it first stands at a step, then the `Times` of a lap.
    """

    def __init__(self, requests: TextIO, replies: TextIO) -> None:
        self.requests, self.replies = requests, replies
        self.facts: dict[str, Any] = {}
        self.synchronize: Callable[[], None] = lambda: None
        self._until_start = self._until_end = 0
        self._started: Times | None = None

    def on_device(self, device: str) -> None:
        """Wait for this device's work before a clock is read."""
        import torch

        self.facts |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
        if device == "cuda":
            self.facts["gpu"] = torch.cuda.get_device_name()
            self.synchronize = torch.cuda.synchronize

    def step(self) -> None:
        """Call it at the start of every step."""
        if self._until_end == 0:
            self._stand()
        if self._until_start == 0:
            self.synchronize()
            self._started = Times.now()
        self._until_start -= 1
        self._until_end -= 1

    def _stand(self) -> None:
        self.synchronize()
        now = Times.now()
        self._reply(self.facts if self._started is None else now.since(self._started)._asdict())
        request = self.requests.readline().split()
        if not request:
            os._exit(0)  # nothing that a loop would do at its end is of interest
        self._until_start, timed = int(request[0]), int(request[1])
        self._until_end = self._until_start + timed

    def _reply(self, message: dict[str, Any]) -> None:
        self.replies.write(json.dumps(message) + "\n")
        self.replies.flush()


class Arm:
    """The end of the benchmark: a training loop in a process of its own.

    Args:
        name: module of ``arms`` that holds the loop.
        settings: what the loop gets.
        directory: where it runs and where what it prints goes.
        threads: of the processor, for its arithmetic.
    """

    def __init__(self, name: str, settings: dict[str, Any], directory: Path, threads: int) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            "PYTHONPATH": os.pathsep.join(paths),
            "OMP_NUM_THREADS": str(threads),
            "NTP_CACHE": str(directory / "cache"),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "arms", name, json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=directory,
                env=os.environ | environment,
            )
        self.facts: dict[str, Any] = {}

    def stand(self) -> None:
        """Wait until the loop stands at its first step."""
        self.facts = self._reply()

    def lap(self, warm: int, steps: int) -> Times:
        """Let it run; gives the time of ``steps`` steps after ``warm`` others."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{warm} {steps}\n")
        self.process.stdin.flush()
        return Times(**self._reply())

    def end(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _reply(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            raise SystemExit(f"'{self.name}' ended with status {status}:\n{self.log.read_text()[-4000:]}")
        return dict(json.loads(line))
