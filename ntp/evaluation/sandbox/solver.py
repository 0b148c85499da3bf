"""The process that runs the solution: it is told arguments and says results, and nothing it says is taken on trust."""

from __future__ import annotations

import os
import sys
import types
from typing import Any

from . import confinement
from .values import Unreadable, decode, encode, receive, send


def main() -> None:
    """Answer calls until nobody asks any more."""
    incoming, outgoing = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    job = receive(incoming)
    confinement.limit(job["limits"], alone=True)
    if job["guarded"]:
        confinement.guard()
    module = types.ModuleType("solution")
    sys.modules["solution"] = module
    answer: dict[str, Any] = {"ready": True}
    try:
        exec(compile(job["solution"], "<solution>", "exec", dont_inherit=True), module.__dict__)
        function = module.__dict__[job["entry_point"]]
    except BaseException as error:
        answer = _failure(error)
    send(outgoing, answer)
    while "ready" in answer:
        try:
            arguments, named = decode(receive(incoming))
        except Unreadable:
            return
        try:
            said = {"value": encode(function(*arguments, **named))}
        except BaseException as error:
            said = _failure(error)
        try:
            send(outgoing, said)
        except BaseException as error:
            send(outgoing, _failure(error))


def _failure(error: BaseException) -> dict[str, Any]:
    """Its name: that of the nearest class that Python brings along."""
    names = [one.__name__ for one in type(error).__mro__ if one.__module__ == "builtins"]
    return {"error": names[0]}


if __name__ == "__main__":
    main()
