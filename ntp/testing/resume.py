"""The certificate of resuming: a run that is interrupted, again and again, equals the run that never was."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ntp.config.errors import ConfigError
from ntp.config.schema import BUDGET_UNITS, TrainConfig
from ntp.config.validation import validate
from ntp.data.rows import micro_batch_size
from ntp.testing.certificate import Certificate, CertificateError
from ntp.testing.comparison import Difference, Outcome, differences, read_outcome
from ntp.testing.interruption import Interruption, plan_interruption
from ntp.testing.trainings import Here, Processes, compose_training
from ntp.training.setup import count_devices

# Validations, checkpoints and lines of metrics at steps of their own, and an end that is none of them.
_STEPS, _VALIDATION, _CHECKPOINT, _LOG = 8, 3, 2, 5


def quick_interruptions() -> list[Interruption]:
    """Of the quick form: exceptions in the place of kills."""
    return [
        Interruption("exception", "accumulation", 3),
        Interruption("SIGTERM", "validation", 3),
        Interruption("exception", "validation", 6),
        Interruption("SIGTERM", "accumulation", 5),
        Interruption("SIGTERM", "accumulation", 6),
        Interruption("SIGTERM", "final validation", _STEPS),
    ]


def full_interruptions(seed: int = 0) -> list[Interruption]:
    """Of the full form; the seed chooses the moments."""
    rng = random.Random(seed)
    return [
        Interruption("SIGKILL", "moment", rng.randint(2, 3), rng.random()),
        Interruption("SIGTERM", "validation", 3),
        Interruption("SIGKILL", "writing", 6),
        Interruption("SIGTERM", "moment", rng.randint(5, 7), rng.random()),
    ]


def certify_resume(
    overrides: Sequence[str],
    *,
    full: bool = False,
    interruptions: Sequence[Interruption] | None = None,
    directory: Path | None = None,
    ignore: Sequence[str] = (),
) -> Certificate:
    """Train a configuration for a few steps, once without and once with interruptions, and compare to the last bit.

    Compared are the rows and masks of every micro-batch, its loss, the lines of ``metrics.jsonl`` and the metrics of
    ``summary.json`` but for what the clock says, all weights, the whole state of the optimizer, the progress counters,
    and the attributes of model, objective and the user's callbacks, which no checkpoint keeps. Where they differ, the
    run is trained once more without interruptions, to tell what does not even repeat itself.

    Args:
        overrides: of ``ntp train``.
        full: real processes and real kills, on any number of devices, instead of exceptions in this process.
        interruptions: instead of `quick_interruptions` or `full_interruptions`.
        directory: where the runs are trained, and kept if they differ; a temporary one when absent.
        ignore: names of attributes that may differ, such as ``objective.cache``.

    Returns:
        What was done and compared.

    Raises:
        CertificateError: the runs differ.
        ConfigError: the configuration would not run, or has no checkpoints.
        RunFailed: a process failed in another way.
    """
    __tracebackhide__ = True
    if directory is None:
        with tempfile.TemporaryDirectory(prefix="ntp-certificate-") as temporary:
            return certify_resume(
                overrides, full=full, interruptions=interruptions, directory=Path(temporary), ignore=ignore
            )
    config = validate(compose_training(overrides), TrainConfig)
    settings = _settings(config, full)
    if interruptions is None:
        interruptions = full_interruptions() if full else quick_interruptions()
    runs = _Runs([*overrides, *settings], directory.resolve(), full)
    if full and config.trainer.accelerator == "cpu":  # side by side: most of the time goes into starting processes
        with ThreadPoolExecutor() as pool:
            undisturbed = pool.submit(runs.train, "uninterrupted")
            found, happened = runs.train("interrupted", interruptions)
            expected, _ = undisturbed.result()
    else:
        expected, _ = runs.train("uninterrupted")
        found, happened = runs.train("interrupted", interruptions)
    parting = [one for one in differences(expected, found) if one.what not in ignore]
    advice = ""
    if parting:
        repeated, _ = runs.train("repeated")
        parting, advice = _judge(parting, differences(expected, repeated))
    certificate = Certificate(
        overrides=list(overrides),
        settings=settings,
        form="full: a process for every start" if full else "quick: in one process",
        interruptions=[str(one) for one in happened],
        compared=expected.counts(),
        difference=str(parting[0]) if parting else None,
        others=len(parting[1:]),
        advice=advice,
    )
    if not certificate.equal:
        raise CertificateError(certificate)
    runs.remove()
    return certificate


def _settings(config: TrainConfig, full: bool) -> list[str]:
    """The overrides that make a short run of a configuration, with something to interrupt everywhere.

    Raises:
        ConfigError: it can't be resumed at all, or not in this form.
    """
    world_size = count_devices(config.trainer)
    if world_size > 1 and not full:
        raise ConfigError("full", f"{world_size} devices are as many processes; only the full form has them: full=true")
    if "checkpoint" not in config.callbacks:
        raise ConfigError("callbacks.checkpoint", "is not there: a run without checkpoints can't go on")
    rows = micro_batch_size(config.data, world_size)
    if config.data.batch_size == rows * world_size and rows % 2 == 0:
        rows //= 2
    wanted: dict[str, Any] = dict.fromkeys((f"budget.{unit}" for unit in BUDGET_UNITS), None) | {
        "budget.steps": _STEPS,
        "data.micro_batch_size": rows,
        "evaluation.every_steps": _VALIDATION,
        "evaluation.rows": 2 * rows * world_size,
        "evaluation.final_rows": rows * world_size,
        "evaluation.sample_tokens": 0,
        "callbacks.checkpoint.every_steps": _CHECKPOINT,
        "callbacks.checkpoint.every_minutes": None,
        "callbacks.checkpoint.directory": None,
        "trainer.log_every_steps": _LOG,
        "trainer.time_limit_minutes": None,
        "trainer.progress_bar": False,
        "resume": None,
    }
    set_now = config.model_dump()
    changed = [key for key, value in wanted.items() if _at(set_now, key) != value]
    return [*(f"++{key}={_written(wanted[key])}" for key in changed), *(f"~logger.{name}" for name in config.logger)]


def _at(node: Any, key: str) -> Any:
    for name in key.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return node


def _written(value: Any) -> str:
    return "null" if value is None else str(value).lower()


class _Runs:
    """Trains one configuration under several names.

    Args:
        overrides: of ``ntp train``.
        directory: where, a folder for each name.
        full: in processes.
    """

    def __init__(self, overrides: list[str], directory: Path, full: bool) -> None:
        self.overrides, self.directory = overrides, directory
        self.training = Processes if full else Here

    def train(self, name: str, interruptions: Sequence[Interruption] = ()) -> tuple[Outcome, list[Interruption]]:
        """To the end, with interruptions on the way.

        Returns:
            What came of it, and the interruptions that happened: a moment may come too late.
        """
        run, notes = self.directory / name, self.directory / f"{name}-trace"
        witnesses = [
            f"+callbacks.certificate_{part}={{_target_: ntp.testing.{target}, directory: '{notes}'}}"
            for part, target in (("trace", "trace.Trace"), ("interrupter", "interruption.Interrupter"))
        ]
        training = self.training([*self.overrides, *witnesses])
        happened: list[Interruption] = []
        finished = False
        for number, interruption in enumerate([*interruptions, None]):
            if interruption is not None:
                plan_interruption(notes, interruption)
            finished = training.train(run, resume=number > 0)
            if finished:
                break
            assert interruption is not None
            happened.append(interruption)
        return read_outcome(run, notes), happened

    def remove(self) -> None:
        """The runs; not the directory, which may be the user's."""
        for path in self.directory.glob("*interrupted*"):
            shutil.rmtree(path)
        for name in ("repeated", "repeated-trace"):
            shutil.rmtree(self.directory / name, ignore_errors=True)


def _judge(parting: list[Difference], uncertain: list[Difference]) -> tuple[list[Difference], str]:
    """What is the fault of the interruptions, and what to look for.

    Args:
        parting: between the uninterrupted and the interrupted run.
        uncertain: between two uninterrupted ones.
    """
    if numbers := [one for one in uncertain if not one.hidden]:
        return numbers, "and that without any interruption: this configuration does not repeat itself"
    unsteady = {one.what for one in uncertain}
    parting = [one for one in parting if one.what not in unsteady]
    hidden = [one for one in parting if one.hidden]
    if not hidden:
        return parting, "look for state that no checkpoint keeps, and for random numbers of other generators"
    remedy = "a buffer or a state_dict would keep it, and what corrupt needs must follow from its draw"
    if not parting[0].hidden:
        remedy = f"{hidden[0]}, which no checkpoint keeps: {remedy}"
    else:
        remedy = f"no checkpoint keeps it: {remedy}"
    return parting, remedy
