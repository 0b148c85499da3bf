"""Processes that take exams together, as threads: they gather as those of `torch.distributed` do, all or none."""

import threading
from collections.abc import Callable
from typing import Any

PATIENCE = 60  # seconds until a process that waits for one that has given up gives up itself


def together(processes: int, run: Callable[[int, Callable[[Any], list[Any]]], Any]) -> list[Any]:
    """What each process returns or raises.

    Args:
        processes: how many.
        run: called in each with its number, and with what gathers one object of every process.
    """
    barrier = threading.Barrier(processes)
    board: list[Any] = [None] * processes
    outcomes: list[Any] = [None] * processes

    def begin(process: int) -> None:
        def gather(value: Any) -> list[Any]:
            board[process] = value
            barrier.wait(PATIENCE)
            everything = list(board)
            barrier.wait(PATIENCE)  # nobody writes anew before all have read
            return everything

        try:
            outcomes[process] = run(process, gather)
        except Exception as error:
            outcomes[process] = error

    threads = [threading.Thread(target=begin, args=(process,)) for process in range(processes)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return outcomes
