"""Seconds from pressing return: what ``ntp`` takes to answer, and to get to its first step.

    python benchmarks/startup.py
    python benchmarks/startup.py --rounds 11 --output startup.json

Each is a whole process, and the processes take turns. Files are in the system's cache after the first round, which does
not count.
"""

import argparse
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import track

from arms.settings import Settings
from harness.corpus import write_corpus
from harness.laps import Arm
from harness.machine import available_cores, describe_machine, write_json
from harness.statistics import spread
from harness.tables import seconds_table

NTP = (sys.executable, "-m", "ntp")
COMMANDS: dict[str, tuple[str, ...]] = {
    "python -c pass": (sys.executable, "-c", "pass"),
    "ntp --help": (*NTP, "--help"),
    "ntp train --help": (*NTP, "train", "--help"),
    "completion of 'ntp train objective='": (*NTP, "-sc", "query=bash"),
    "python -c 'import torch'": (sys.executable, "-c", "import torch"),
    "python -c 'import lightning'": (sys.executable, "-c", "import lightning"),
}
FIRST_STEP = "ntp train, to the end of its first step"


def main() -> None:
    """Measure, show, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, default=7, help="of every command, beside a first that does not count (7)"
    )
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    options = parser.parse_args()
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="ntp-startup-") as name:
        rounds = [
            _round(Path(name))
            for _ in track(range(options.rounds + 1), "measuring", console=Console(stderr=True), transient=True)
        ][1:]
    seconds = {what: spread([one[what] for one in rounds]) for what in rounds[0]}
    Console().print(seconds_table(seconds, "seconds of a whole process"))
    write_json(
        options.output,
        {"benchmark": "startup", "machine": machine, "settings": {"rounds": options.rounds}, "seconds": seconds},
    )


def _round(directory: Path) -> dict[str, float]:
    seconds = {what: _process(command, directory) for what, command in COMMANDS.items()}
    return seconds | {FIRST_STEP: _first_step(directory)}


def _process(command: tuple[str, ...], directory: Path) -> float:
    environment = os.environ | {"COMP_LINE": "ntp train objective="}
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=directory, env=environment)
    return time.perf_counter() - started


def _first_step(directory: Path) -> float:
    """From the start of the process to the start of its second step; the first round fills the cache of the data."""
    settings = Settings(
        corpus=str(directory / "corpus.txt"),
        vocabulary=65,
        layers=4,
        width=128,
        heads=4,
        length=64,
        batch=12,
        precision="32-true",
        device="cpu",
        steps=10,
    )
    if not Path(settings.corpus).exists():
        write_corpus(Path(settings.corpus), settings.vocabulary, 1_000_000)
    started = time.perf_counter()
    arm = Arm("ntp", dataclasses.asdict(settings), directory, available_cores())
    try:
        arm.stand()
        arm.lap(0, 1)
        return time.perf_counter() - started
    finally:
        arm.end()


if __name__ == "__main__":
    main()
