"""Runs that are watched and interrupted, and compared with runs that are not."""

from pathlib import Path

from ntp.testing.comparison import differences, read_outcome
from ntp.testing.interruption import Interruption, plan_interruption
from tests.conftest import Outcome, call


def watched(run: Path) -> tuple[str, ...]:
    """Overrides that write down what a run sees and computes, and let it be interrupted."""
    notes = f"'{_notes(run)}'"
    return (
        f"+callbacks.trace={{_target_: ntp.testing.trace.Trace, directory: {notes}}}",
        f"+callbacks.interrupter={{_target_: ntp.testing.interruption.Interrupter, directory: {notes}}}",
    )


def go_on(run: Path, *overrides: str) -> Outcome:
    """Resume a run."""
    return call("train", f"resume={run}", *watched(run), *overrides)  # it was copied: its watchers stand elsewhere


def interrupt(run: Path, how: str, where: str, step: int, delay: float = 0.0) -> None:
    """Interrupt the next process of a run."""
    plan_interruption(_notes(run), Interruption(how, where, step, delay))


def assert_equal(run: Path, other: Path) -> None:
    """Two runs saw, computed and left the same, to the last bit."""
    found = differences(*(read_outcome(one, _notes(one)) for one in (run, other)))
    assert not found, "\n".join(map(str, found[:9]))


def _notes(run: Path) -> Path:
    return run.with_name(f"{run.name}-notes")
