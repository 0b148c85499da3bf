"""What a sweep adds to its jobs: seconds until a job has done its first step, and what a dry run takes for each job.

    python benchmarks/sweep.py
    python benchmarks/sweep.py --rounds 3 --jobs 20 --output sweep.json

Each is a whole process, and the processes take turns. Files are in the system's cache after the first round, which does
not count. A job is an ordinary `ntp train`, so its peers are that, and the imports that no training with these
libraries can do without.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import track

from arms.first_step import FILE
from arms.settings import Settings
from harness.corpus import write_corpus
from harness.machine import describe_machine, write_json
from harness.statistics import spread
from harness.tables import seconds_table

ROOT = Path(__file__).resolve().parent
TRAIN = (sys.executable, "-m", "ntp", "train")
IMPORTS = "python -c 'import torch, lightning'"
RUN = "ntp train, to the end of its first step"
JOB = "a job of a sweep, from its start to the end of its first step"
LAUNCHER = "ntp train -m, to the start of its first job"
DRY = "a dry run, for each job"


def main() -> None:
    """Measure, show, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of everything, beside a first that does not count (5)")
    parser.add_argument("--jobs", type=int, default=100, help="of the dry run (100)")
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    options = parser.parse_args()
    if options.jobs < 2:
        parser.error("--jobs: what one job more takes is seen from two on")
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="ntp-sweep-") as name:
        directory = Path(name)
        overrides = _overrides(directory)
        rounds = [
            _round(directory, overrides, options.jobs, number)
            for number in track(range(options.rounds + 1), "measuring", console=Console(stderr=True), transient=True)
        ][1:]
    seconds = {what: spread([one[what] for one in rounds]) for what in rounds[0]}
    Console().print(seconds_table(seconds, "seconds"))
    settings = {"rounds": options.rounds, "jobs": options.jobs}
    write_json(options.output, {"benchmark": "sweep", "machine": machine, "settings": settings, "seconds": seconds})


def _overrides(directory: Path) -> list[str]:
    """A model that is small beside what starting a process takes."""
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
        steps=1,
    )
    write_corpus(Path(settings.corpus), settings.vocabulary, 1_000_000)
    callback = ["allow_targets=[arms]", "+callbacks.first_step._target_=arms.first_step.FirstStep"]
    return [*settings.overrides(), "evaluation.final_rows=12", "evaluation.sample_tokens=0", *callback]


def _round(directory: Path, overrides: list[str], jobs: int, number: int) -> dict[str, float]:
    started = time.monotonic()
    _process((sys.executable, "-c", "import torch, lightning"), directory)
    imports = time.monotonic() - started

    started = time.monotonic()
    _process((*TRAIN, *overrides, f"run_dir=run-{number}"), directory)
    run = float((directory / f"run-{number}" / FILE).read_text()) - started

    launcher, job = _sweep(directory, overrides, number)
    several, one = _dry(directory, overrides, jobs), _dry(directory, overrides, 1)
    return {
        IMPORTS: imports,
        RUN: run,
        JOB: job,
        LAUNCHER: launcher,
        DRY: (several - one) / (jobs - 1),
    }


def _sweep(directory: Path, overrides: list[str], number: int) -> tuple[float, float]:
    """Of one job: until the launcher starts it, and from there to its first step."""
    name = f"sweep-{number}"
    started = time.monotonic()
    process = subprocess.Popen(
        [*TRAIN, "-m", *overrides, "seed=choice(0)", f"sweep.name={name}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=directory,
        env=_environment(directory),
    )
    assert process.stderr is not None
    said = process.stderr.readline()
    begun = time.monotonic()
    said += process.communicate()[1]
    if process.returncode:
        raise SystemExit(f"the sweep ended with status {process.returncode}:\n{said}")
    (step,) = directory.glob(f"outputs/sweeps/{name}/*/{FILE}")
    return begun - started, float(step.read_text()) - begun


def _dry(directory: Path, overrides: list[str], jobs: int) -> float:
    started = time.monotonic()
    _process((*TRAIN, "-m", *overrides, f"seed=range({jobs})", "sweep.dry_run=true"), directory)
    return time.monotonic() - started


def _process(command: tuple[str, ...], directory: Path) -> None:
    subprocess.run(
        command,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=directory,
        env=_environment(directory),
    )


def _environment(directory: Path) -> dict[str, str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "NTP_CACHE": str(directory / "cache")}


if __name__ == "__main__":
    main()
