"""Our side of the sandbox: it starts a tester for each solution, and stops it when its time is up."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parent
_VERDICT_BYTES = 1 << 16
# Neither installed packages nor a user's (-S -s), and no compiled files written (-B). The environment is one that we
# make, not none (-I): hashes of strings are to be the same in every run, and only it can say so.
_OPTIONS = ("-S", "-s", "-B", "-X", "utf8")
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "PYTHONSAFEPATH": "1"}


@dataclass(frozen=True)
class Limits:
    """What a solution may use.

    Attributes:
        cpu_seconds: of the processor. Of time on the clock it has four times as much and five seconds more, so that a
            busy machine changes no verdict.
        memory_bytes: of addresses.
        file_bytes: of one file, and of all that it writes.
    """

    cpu_seconds: int = 5
    memory_bytes: int = 512 << 20
    file_bytes: int = 16 << 20

    @property
    def clock_seconds(self) -> float:
        """Time after which everything is killed."""
        return 4.0 * self.cpu_seconds + 5.0


@dataclass(frozen=True)
class Verdict:
    """Whether a solution passes.

    Attributes:
        passed: whether the test came to its end.
        reason: in a few words; ``passed`` if it did.
        broken: whether the problem is to blame: its reference or its test can't be run.
    """

    passed: bool
    reason: str
    broken: bool = False


class NoNamespaces(RuntimeError):
    """This system gives this user no namespaces of Linux; says what it refused."""


def try_solution(
    solution: str,
    *,
    reference: str,
    test: str,
    entry_point: str,
    limits: Limits | None = None,
    namespaces: bool = True,
    python: str | None = None,
) -> Verdict:
    """Run a solution against a test, in processes of their own.

    Args:
        solution: a program that defines ``entry_point``; hostile, for all we know.
        reference: a program that defines it right. The test sees its other names.
        test: a program that defines ``check``, which is called with the function, and raises what it finds wrong.
        entry_point: name of the function.
        limits: of the solution, and of the test.
        namespaces: shut it in; see `ntp.evaluation.sandbox.confinement`. Otherwise only limits and an audit hook hold
            it, which code that means to can get around.
        python: an interpreter; None for this one.

    Raises:
        NoNamespaces: they are not to be had.
    """
    limits = limits or Limits()
    with tempfile.TemporaryDirectory(prefix="ntp-sandbox-") as directory:
        job = {
            "solution": solution,
            "reference": reference,
            "test": test,
            "entry_point": entry_point,
            "limits": {
                "cpu_seconds": limits.cpu_seconds,
                "memory_bytes": limits.memory_bytes,
                "file_bytes": limits.file_bytes,
            },
            "namespaces": namespaces,
            "root": directory,
        }
        said = _ask(job, python or _interpreter(), directory, limits.clock_seconds)
    if said is None:
        return Verdict(False, "time limit")
    if "unavailable" in said:
        raise NoNamespaces(said["unavailable"])
    if "broken" in said:
        return Verdict(False, said["broken"], broken=True)
    return Verdict(said.get("passed") is True, str(said.get("reason", "no verdict")))


def _interpreter() -> str:
    """The interpreter behind a virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def _ask(job: dict[str, Any], python: str, directory: str, seconds: float) -> dict[str, Any] | None:
    """What the tester says; None if it takes too long, an empty object if it says nothing."""
    program = f"import sys; sys.path.append({str(_PACKAGE.parent)!r}); from {_PACKAGE.name}.tester import main; main()"
    deadline = time.monotonic() + seconds
    process = subprocess.Popen(
        [python, *_OPTIONS, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=directory,
        env={**_ENVIRONMENT, "HOME": "/tmp" if job["namespaces"] else directory},
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(job).encode("ascii"))
            process.stdin.close()
        content = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while len(content) <= _VERDICT_BYTES:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return None
                piece = os.read(process.stdout.fileno(), 4096)
                if not piece:
                    break
                content += piece
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    try:
        said = json.loads(content)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


@cache
def refusal() -> str | None:
    """Why there are no namespaces here; None where there are."""
    try:
        done = try_solution("def f(): return 1", reference="def f(): return 1", test=_ONE, entry_point="f")
    except NoNamespaces as error:
        return str(error)
    return None if done.passed else f"a trivial program comes to nothing: {done.reason}"


_ONE = "def check(candidate):\n    assert candidate() == 1\n"
