"""The process that judges: it runs the test on the reference solution's names, and asks the solver for each call."""

from __future__ import annotations

import builtins
import json
import os
import resource
import signal
import subprocess
import sys
import types
from typing import Any, NoReturn

from . import confinement
from .values import Unreadable, decode, encode, receive, send


class NoAnswer(BaseException):
    """The solver has not answered a call. Not an `Exception`: no test may take it for one of the solution's."""


class Broken(Exception):
    """The problem itself cannot be run."""


def main() -> None:
    """Read a job from the standard input, and write the verdict to the standard output: both JSON objects."""
    verdict = os.dup(1)
    job = json.loads(sys.stdin.buffer.read())
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    package = os.path.dirname(os.path.abspath(__file__))
    try:
        if job["namespaces"]:
            confinement.isolate(job["root"], package, job["limits"]["file_bytes"])
            package = os.path.join(confinement.CODE, os.path.basename(package))
            _become_first_process()
            confinement.new_processes()
        said = judge(job, package)
    except confinement.Unavailable as error:
        said = {"unavailable": str(error)}
    os.write(verdict, json.dumps(said).encode("ascii"))
    os._exit(0)


def _become_first_process() -> None:
    """Go on as the child, with which all that it starts will end."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os._exit(0)


def judge(job: dict[str, Any], package: str) -> dict[str, Any]:
    """The verdict: ``passed``, and the ``reason`` in a few words; or why the problem is ``broken``."""
    solver = _Solver(job, package)
    try:
        if job["namespaces"]:
            confinement.drop()
            confinement.die_with_parent()
        confinement.limit(job["limits"], alone=False)
        check = _check(job, solver)
        solver.expect_ready()
        check(solver.call)
    except Broken as error:
        return {"broken": str(error)}
    except NoAnswer as error:
        return {"passed": False, "reason": str(error)}
    except AssertionError:
        return {"passed": False, "reason": "wrong answer"}
    except BaseException as error:
        return {"passed": False, "reason": solver.raised or f"the test raised {type(error).__name__}"}
    return {"passed": True, "reason": "passed"}


def _check(job: dict[str, Any], solver: _Solver) -> Any:
    """The test's ``check``, which finds the solver under the name of the function that it tests."""
    module = types.ModuleType("reference")
    sys.modules["reference"] = module
    names = module.__dict__
    try:
        exec(compile(job["reference"], "<reference>", "exec", dont_inherit=True), names)
        names[job["entry_point"]]
        exec(compile(job["test"], "<test>", "exec", dont_inherit=True), names)
        names[job["entry_point"]] = solver.call
        return names["check"]
    except BaseException as error:
        raise Broken(f"its reference solution or test raises {type(error).__name__}") from error


class _Solver:
    """The other process."""

    def __init__(self, job: dict[str, Any], package: str) -> None:
        self.limits, self.raised = job["limits"], ""
        above, name = os.path.split(package)
        # The search path of a script is its directory; the files are a package, so that its parent is wanted.
        program = f"import sys; sys.path.append({above!r}); from {name}.solver import main; main()"

        def confined() -> None:
            if job["namespaces"]:
                confinement.drop()
            confinement.die_with_parent()  # last: who changes its credentials forgets it

        self.process = subprocess.Popen(
            [sys.executable, *sys.orig_argv[1:-2], "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # By the group that it would share, it could signal processes that it can't see.
            start_new_session=job["namespaces"],
            preexec_fn=confined,
            bufsize=0,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.outgoing, self.incoming = self.process.stdin.fileno(), self.process.stdout.fileno()
        told = {key: job[key] for key in ("solution", "entry_point", "limits")}
        self._tell({**told, "guarded": not job["namespaces"]})

    def expect_ready(self) -> None:
        """Wait for the solution to be defined.

        Raises:
            NoAnswer: it can't be.
        """
        said = self._hear()
        if said != {"ready": True}:
            raise NoAnswer(f"raised {_name(said)}")

    def call(self, *arguments: Any, **named: Any) -> Any:
        """What the solution returns.

        Raises:
            NoAnswer: nothing that can be read.
            Exception: of Python's own classes, as the solution did.
        """
        self.raised = ""
        self._tell(encode([arguments, named]))
        said = self._hear()
        if isinstance(said, dict) and list(said) == ["value"]:
            try:
                return decode(said["value"])
            except (ValueError, TypeError, RecursionError, OverflowError, AttributeError, MemoryError) as error:
                raise NoAnswer("answered no value") from error
        name = _name(said)
        kind = getattr(builtins, name, None)
        self.raised = f"raised {name}"
        if isinstance(kind, type) and issubclass(kind, Exception):
            try:
                raise kind("of the solution")
            except TypeError:
                raise Exception("of the solution") from None
        raise NoAnswer(self.raised)

    def _tell(self, message: Any) -> None:
        try:
            send(self.outgoing, message)
        except Unreadable:
            self._end()

    def _hear(self) -> Any:
        try:
            return receive(self.incoming)
        except Unreadable:
            self._end()

    def _end(self) -> NoReturn:
        self.process.kill()
        self.process.wait()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        told = self.process.returncode == -signal.SIGXCPU
        if told or used.ru_utime + used.ru_stime > self.limits["cpu_seconds"]:
            raise NoAnswer("time limit")
        raise NoAnswer("ended without an answer")


def _name(said: Any) -> str:
    name = said.get("error") if isinstance(said, dict) else None
    return name if isinstance(name, str) and name.isidentifier() and len(name) < 40 else "something"
