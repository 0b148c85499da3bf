"""Runs that lack an exam that others have taken, take it now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ntp.comparison.collect import ComparedRun
from ntp.comparison.equal_cost import common_digests, of_the_end
from ntp.config.errors import ConfigError
from ntp.config.schema import DataConfig
from ntp.evaluation.exams.exam import Exam, ExamRecipe
from ntp.evaluation.exams.result import StoredResult
from ntp.evaluation.keeping import keep
from ntp.evaluation.taking import candidate_of, prepare_exams, take
from ntp.training.load import choose_device, load_run
from ntp.training.stored_config import typed_config

_DRAWS, _PRECISION = 8, "32-true"
_FINEST = ("32-true", "bf16-mixed", "bf16-true")
"""Precisions, the finest first; others are taken to be rougher."""

Nodes = Callable[[str], Mapping[str, Any] | None]
"""The config of an exam by its name; None where there is no such option."""


@dataclass(frozen=True)
class Circumstances:
    """How exams are taken.

    Attributes:
        checkpoint: ``best`` or ``last``.
        draws: estimates of an answer that is drawn; None for as many as the others had.
        batch_size: rows at a time; None for each run's micro-batch.
        accelerator: see `ntp.training.load.choose_device`.
        allow: packages whose classes may be built.
    """

    checkpoint: Literal["best", "last"] = "last"
    draws: int | None = None
    batch_size: int | None = None
    accelerator: str = "auto"
    allow: Sequence[str] = ()


def fill_gaps(
    runs: Sequence[ComparedRun],
    exams: Sequence[str] | None,
    nodes: Nodes,
    how: Circumstances,
    say: Callable[[str], None],
) -> list[str]:
    """Let every run take the exams that it lacks; what comes of them is kept in its directory.

    With the last checkpoint, that includes those that it has only taken at another step than its last.

    Args:
        runs: to be completed.
        exams: by name; None for those that any of the runs has taken.
        nodes: how an exam is made that no run's own configuration names.
        how: exams are taken.
        say: shows a line of progress.

    Returns:
        A line for each gap that stays.

    Raises:
        ConfigError: an exam that nobody has taken is asked for, and has no configuration anywhere.
    """
    digests = common_digests(runs)
    wanted = sorted(digests) if exams is None else list(exams)
    missing = {run.name: [name for name in wanted if _lacks(run, name, digests.get(name), how)] for run in runs}
    if not any(missing.values()):
        return []
    notes = []
    prepared: dict[str, tuple[ExamRecipe, Exam]] = {}
    for name in dict.fromkeys(name for names in missing.values() for name in names):
        made = _make(name, digests.get(name), runs, nodes, how)
        if isinstance(made, str):
            lacking = [run.name for run in runs if name in missing[run.name]]
            notes.append(_not_taken(name, made, lacking, runs))
        else:
            prepared[name] = made
    failed: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        own = {name: prepared[name] for name in missing[run.name] if name in prepared}
        if own:
            notes += _examine(run, own, runs, how, failed, say)
    return notes + [_not_taken(name, problem, lacking, runs) for (name, problem), lacking in failed.items()]


def _not_taken(name: str, problem: str, lacking: Sequence[str], runs: Sequence[ComparedRun]) -> str:
    who = "no run can" if len(lacking) == len(runs) else f"{', '.join(lacking)} can't"
    return f"{name}: {problem}, so {who} take it"


def exams_of(
    runs: Sequence[ComparedRun], names: Sequence[str], nodes: Nodes, how: Circumstances
) -> dict[str, tuple[ExamRecipe, Exam]]:
    """The exams that most runs have taken, for others to take; those that can't be made here are left out."""
    digests = common_digests(runs)
    made = {name: _make(name, digests[name], runs, nodes, how) for name in names if name in digests}
    return {name: one for name, one in made.items() if not isinstance(one, str)}


def _has(run: ComparedRun, name: str, digest: str | None) -> bool:
    return any(one.result.exam == name and one.result.digest == digest for one in run.results)


def _lacks(run: ComparedRun, name: str, digest: str | None, how: Circumstances) -> bool:
    found = [one for one in run.results if one.result.exam == name and one.result.digest == digest]
    return not (found if how.checkpoint == "best" else any(of_the_end(run, one) for one in found))


def _make(
    name: str, digest: str | None, runs: Sequence[ComparedRun], nodes: Nodes, how: Circumstances
) -> tuple[ExamRecipe, Exam] | str:
    """The exam with this content, or the first that can be made where nobody has taken it; or why there is none."""
    donors = sorted(runs, key=lambda run: not _has(run, name, digest))
    recipes = [((run.config.get("evaluation") or {}).get("exams") or {}).get(name) for run in donors]
    recipes = [node for node in recipes if node] + [node for node in [nodes(name)] if node]
    if not recipes and digest is not None:
        return f"there is no evaluation/exams={name}"
    if not recipes:
        raise ConfigError("exams", f"no run has taken '{name}', and there is no evaluation/exams={name}")
    tried: list[Any] = []
    problems: list[str] = []
    for run in donors:
        for node in recipes:
            try:
                data = _data(run, how.allow)
                if (attempt := (node, data.corpus, data.validation, data.validation_fraction)) in tried:
                    continue
                tried.append(attempt)
                made = prepare_exams({name: dict(node)}, data, list(how.allow))[name]
            except ConfigError as error:
                problems.append(error.problem)
                continue
            if digest is None or made[1].digest == digest:
                return made
    return next(iter(problems), "the exam of the others can't be made here")


def _examine(
    run: ComparedRun,
    exams: Mapping[str, tuple[ExamRecipe, Exam]],
    runs: Sequence[ComparedRun],
    how: Circumstances,
    failed: dict[tuple[str, str], list[str]],
    say: Callable[[str], None],
) -> list[str]:
    device = choose_device(how.accelerator)
    try:
        trained = load_run(str(run.path), how.checkpoint, list(how.allow), device)
    except ConfigError as error:
        return [f"{run.name} can take no exam: {error.problem}"]
    # A run that has not finished may have done more steps than its checkpoint, and the exam at the checkpoint's.
    known = {(one.result.exam, one.result.digest) for one in run.results if one.step == trained.step}
    exams = {name: one for name, one in exams.items() if (name, one[1].digest) not in known}
    if not exams:
        return []
    say(f"{run.name} takes {', '.join(exams)}")
    draws = how.draws or max(map(int, _of_others(runs, exams, "draws")), default=_DRAWS)
    precision = min(map(str, _of_others(runs, exams, "precision")), key=_roughness, default=_PRECISION)
    candidate = candidate_of(trained, draws=draws, precision=precision, batch_size=how.batch_size, device=device)
    notes = []
    taken: list[StoredResult] = []
    for name, one in exams.items():
        try:
            (stored,) = take({name: one}, candidate, trained.step)
        except ConfigError as error:
            failed.setdefault((name, error.problem), []).append(run.name)
            continue
        taken.append(stored)
        try:
            keep(stored, run.path, "runs")
        except ConfigError as error:  # somebody else's run, or a full disk: the numbers are compared all the same
            notes.append(error.problem)
    run.results = sorted([*run.results, *taken], key=lambda one: one.step)
    return notes


def _of_others(runs: Sequence[ComparedRun], exams: Mapping[str, Any], name: str) -> list[Any]:
    """How the results of these exams were made: nobody is to be measured more roughly than the others."""
    values = [one.identity.get(name) for run in runs for one in run.results if one.result.exam in exams]
    return [value for value in values if value is not None]


def _roughness(precision: str) -> int:
    return _FINEST.index(precision) if precision in _FINEST else len(_FINEST)


def _data(run: ComparedRun, allow: Sequence[str]) -> DataConfig:
    return typed_config(run.config, "runs", list(allow), "data").data
