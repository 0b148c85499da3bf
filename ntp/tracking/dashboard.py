"""A W&B workspace and a W&B report that compare objectives: the same panels for every project.

Both are specifications that are built without a network; publishing them is W&B's own doing. Runs are grouped by job
type, which is the objective, so that each line is the mean over an objective's runs with their spread: over seeds where
nothing else differs, and the report says where more does. Numbers of different kinds (exact, bound, pseudo) never share
a panel of the report.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ntp.config.errors import ConfigError
from ntp.config.identity import identity
from ntp.tracking.results import MARKS
from ntp.tracking.runs import FoundRun
from ntp.tracking.sync import UNSEEN
from ntp.tracking.wandb_attachments import EXAM_TABLE, SAMPLE_TABLE, exam_rows
from ntp.tracking.wandb_run import AXES, TOKENS, Mode, WandbRecord

KINDS = ("exact", "bound", "pseudo")
COSTS = (TOKENS, "progress/targets", "progress/bytes", "progress/flops", "progress/seconds")
"""What runs of different objectives are drawn over: steps and rows of two objectives are not the same work."""
LEDGER = (*AXES, "perf/peak_memory_bytes")
_JOB_TYPE, _COLUMNS = "JobType", 2
_BESIDE = ("seed", "evaluation", "allow_targets")
"""Of a configuration: the seed, and what only decides how a run is measured."""


@dataclass(frozen=True)
class ExamOfRuns:
    """An exam that some runs have taken.

    Attributes:
        name: of the exam.
        measure: the one that tables show.
        unit: of the measure.
        kinds: of the numbers, by objective; None where an objective can't take it.
    """

    name: str
    measure: str
    unit: str
    kinds: Mapping[str, str | None]

    @property
    def metric(self) -> str:
        """Its name in W&B."""
        return f"exam/{self.name}/{self.measure}"


@dataclass(frozen=True)
class Facts:
    """What a dashboard is about.

    Attributes:
        entity, project: of W&B.
        groups: of the runs, which are the names of sweeps; empty for all runs of the project.
        objectives: of the runs.
        likelihoods: of the objectives' own validation loss.
        exams: that they have taken.
        mixed: the objectives whose runs differ in more than their seed.
    """

    entity: str
    project: str
    groups: tuple[str, ...]
    objectives: tuple[str, ...]
    likelihoods: Mapping[str, str]
    exams: tuple[ExamOfRuns, ...]
    mixed: tuple[str, ...] = ()


def gather_facts(runs: Sequence[FoundRun], entity: str | None, project: str | None) -> Facts:
    """Read from run directories what a dashboard of their W&B runs shows.

    Args:
        runs: at least one.
        entity: user or team; None for that of the runs.
        project: of W&B; None for that of the runs.

    Raises:
        ConfigError: the runs do not say where they are in W&B, or are in several places.
    """
    records = []
    for run in runs:
        try:
            records.append(WandbRecord.read(run.path))
        except ValueError as error:
            raise ConfigError("runs", str(error)) from None
    known = [one for one in records if one is not None]
    likelihoods = {str(run.summary.get("objective")): str(run.summary.get("likelihood", "none")) for run in runs}
    return Facts(
        entity=_one("entity", entity, {one.entity for one in known if one.entity}),
        project=_one("project", project, {one.project for one in known}),
        groups=tuple(sorted({run.path.parent.name for run in runs if run.path.parent.parent.name == "sweeps"})),
        objectives=tuple(likelihoods),
        likelihoods=likelihoods,
        exams=_exams(runs),
        mixed=_mixed(runs),
    )


def _mixed(runs: Sequence[FoundRun]) -> tuple[str, ...]:
    found: dict[str, set[str]] = {}
    for run in runs:
        found.setdefault(str(run.summary.get("objective")), set()).add(_configuration(run))
    return tuple(objective for objective, configurations in found.items() if len(configurations) > 1)


def _configuration(run: FoundRun) -> str:
    """What is equal for runs that differ by their seed only; of a run whose configuration can't be read, its path."""
    try:
        config = yaml.safe_load((run.path / "config.yaml").read_text(encoding="utf-8"))
        return identity({key: value for key, value in config.items() if key not in _BESIDE})
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError):
        return str(run.path)


def _one(key: str, asked: str | None, found: set[str]) -> str:
    if asked is not None:
        return asked
    if not found:
        raise ConfigError(key, "the runs do not say which; they have not been sent to W&B (ntp sync), so give it")
    if len(found) > 1:
        raise ConfigError(key, f"the runs are in several: {', '.join(sorted(found))}; give one")
    return found.pop()


def _exams(runs: Sequence[FoundRun]) -> tuple[ExamOfRuns, ...]:
    first: dict[str, tuple[str, str]] = {}
    kinds: dict[str, dict[str, str | None]] = {}
    for run in runs:
        objective = str(run.summary.get("objective"))
        for exam, measure, _, _, unit, likelihood, *_, refusal in exam_rows(run.path):
            if refusal is not None:
                kinds.setdefault(exam, {}).setdefault(objective, None)
                continue
            first.setdefault(exam, (measure, unit))
            kinds.setdefault(exam, {})[objective] = likelihood
    return tuple(ExamOfRuns(name, *first[name], kinds[name]) for name in sorted(first))


def workspace(facts: Facts) -> Any:
    """The specification of a workspace, a ``wandb_workspaces.workspaces.Workspace``.

    Raises:
        ConfigError: wandb-workspaces is not installed.
    """
    ws, wr = _libraries()
    sections = [
        ws.Section(
            name="Exams", panels=[_bars(wr, one, apart=False) for one in facts.exams], is_open=True, pinned=True
        ),
        ws.Section(
            name="Validation against cost",
            panels=[_curve(wr, axis, "val/bits_per_byte") for axis in COSTS],
            is_open=True,
        ),
        ws.Section(
            name="Exams against cost",
            panels=[_curve(wr, axis, one.metric) for one in facts.exams for axis in COSTS],
            is_open=False,
        ),
        ws.Section(name="Ledger", panels=[_ledger(wr, name) for name in LEDGER], is_open=False),
        ws.Section(
            name="Tables and samples",
            panels=[
                wr.MarkdownPanel(markdown=_kinds_markdown(facts)),
                *(wr.WeavePanelSummaryTable(table_name=name) for name in (EXAM_TABLE, SAMPLE_TABLE)),
            ],
            is_open=False,
        ),
    ]
    return ws.Workspace(
        entity=facts.entity,
        project=facts.project,
        name="objectives",
        sections=[one for one in sections if one.panels],
        settings=ws.WorkspaceSettings(x_axis=TOKENS),
        runset_settings=ws.RunsetSettings(groupby=[ws.Metric(_JOB_TYPE)], filters=_filter(facts)),
    )


def report(facts: Facts) -> Any:
    """The specification of a report, a ``wandb_workspaces.reports.v2.Report``.

    Raises:
        ConfigError: wandb-workspaces is not installed.
    """
    _, wr = _libraries()
    blocks: list[Any] = [
        wr.H1("Which objective is better, at what, for what cost?"),
        wr.P(
            f"{_means(facts)} Exact likelihoods, upper bounds and pseudo-likelihoods stand apart, for they cannot be "
            "ranked against each other. Whether a difference is real is what `ntp compare` says."
        ),
        wr.MarkdownBlock(_kinds_markdown(facts)),
    ]
    for kind in KINDS:
        ranked = [one for one in facts.exams if kind in one.kinds.values()]
        if not ranked:
            continue
        blocks.append(wr.H2(f"{MARKS[kind]}{kind} likelihoods".strip()))
        for one in ranked:
            able = [objective for objective, found in one.kinds.items() if found == kind]
            blocks.append(_grid(wr, facts, able, [_bars(wr, one), *(_curve(wr, axis, one.metric) for axis in COSTS)]))
    others = [one for one in facts.exams if not set(KINDS) & set(one.kinds.values())]
    if others:
        blocks += [wr.H2("Other exams"), _grid(wr, facts, facts.objectives, [_bars(wr, one) for one in others])]
    for kind in KINDS:
        alike = [one for one, likelihood in facts.likelihoods.items() if likelihood == kind]
        if alike:
            blocks.append(wr.H2(f"Validation loss of the objectives themselves: {kind}"))
            blocks.append(_grid(wr, facts, alike, [_curve(wr, axis, "val/bits_per_byte") for axis in COSTS]))
    blocks += [wr.H2("Ledger"), _grid(wr, facts, facts.objectives, [_ledger(wr, name) for name in LEDGER])]
    tables = [wr.WeavePanelSummaryTable(table_name=name) for name in (EXAM_TABLE, SAMPLE_TABLE)]
    blocks += [wr.H2("Tables and samples"), _grid(wr, facts, facts.objectives, tables)]
    return wr.Report(project=facts.project, entity=facts.entity, title="Objectives compared", blocks=blocks)


def _means(facts: Facts) -> str:
    each = "Each line and bar is an objective"
    if not facts.mixed:
        return f"{each}: the mean over its seeds, with their spread."
    who = "" if set(facts.mixed) == set(facts.objectives) else f" of {', '.join(facts.mixed)}"
    return f"{each}: the mean over its runs, with their spread. Those{who} differ in more than their seed."


def specifications(facts: Facts) -> dict[str, Any]:
    """Workspace and report as the JSON that W&B is sent."""
    return {
        name: json.loads(built._to_model().model_dump_json(by_alias=True, exclude_none=True))
        for name, built in (("workspace", workspace(facts)), ("report", report(facts)))
    }


def publish(facts: Facts, page: Path | None) -> dict[str, str]:
    """Make workspace and report in W&B, and keep the page of ``ntp compare`` there as an artifact.

    Args:
        facts: what they are about.
        page: ``report.html``; None for none.

    Returns:
        Addresses by name.

    Raises:
        Exception: W&B's own, of many kinds.
    """
    made = {"workspace": workspace(facts), "report": report(facts)}
    for one in made.values():
        one.save()
    if page is not None:
        upload_page(facts.entity, facts.project, page, "online")
    return {name: str(one.url) for name, one in made.items()}


def upload_page(entity: str | None, project: str, page: Path, mode: Mode) -> None:
    """Keep the folder of a comparison as an artifact of a W&B run of its own.

    Args:
        entity, project: of W&B.
        page: ``report.html``; what lies beside it goes along.
        mode: ``online`` or ``offline``.
    """
    import wandb

    with wandb.init(
        entity=entity,
        project=project,
        job_type="comparison",
        mode=mode,
        dir=str(page.parent.resolve()),
        reinit="create_new",
        settings=wandb.Settings(**UNSEEN),
    ) as run:
        artifact = wandb.Artifact("comparison", type="comparison")
        for file in sorted(page.parent.rglob("*")):
            if file.is_file() and "wandb" not in file.relative_to(page.parent).parts:
                artifact.add_file(str(file), name=file.relative_to(page.parent).as_posix())
        run.log_artifact(artifact)
        run.summary["report"] = wandb.Html(page.read_text(encoding="utf-8"), inject=False)


def _libraries() -> tuple[Any, Any]:
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError:
        raise ConfigError("", 'wandb-workspaces is not installed; pip install "ntp[dashboard]"') from None
    return ws, wr


def _curve(wr: Any, axis: str, metric: str) -> Any:
    return wr.LinePlot(
        title=f"{metric} over {AXES[axis]}",
        x=axis,
        y=[metric],
        title_x=AXES[axis],
        title_y=metric.rsplit("/", 1)[-1].replace("_", " "),
        groupby=_JOB_TYPE,
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        ignore_outliers=False,
    )


def _bars(wr: Any, exam: ExamOfRuns, apart: bool = True) -> Any:
    title = f"{exam.name}: {exam.unit or exam.measure.replace('_', ' ')}"
    kinds = {kind for kind in exam.kinds.values() if kind is not None}
    if not apart and len(kinds) > 1:
        title += f" ({' and '.join(sorted(kinds))} side by side: no ranking)"
    return wr.BarPlot(
        title=title,
        metrics=[exam.metric],
        groupby=_JOB_TYPE,
        groupby_aggfunc="mean",
        groupby_rangefunc="stddev",
        title_x=exam.unit or exam.measure.replace("_", " "),
    )


def _ledger(wr: Any, metric: str) -> Any:
    title = AXES.get(metric, metric.rsplit("/", 1)[-1].replace("_", " "))
    return wr.BarPlot(title=title, metrics=[metric], groupby=_JOB_TYPE, groupby_aggfunc="mean")


def _grid(wr: Any, facts: Facts, objectives: Sequence[str], panels: list[Any]) -> Any:
    for number, panel in enumerate(panels):
        width = 24 // _COLUMNS
        panel.layout = wr.Layout(x=number % _COLUMNS * width, y=number // _COLUMNS * 8, w=width, h=8)
    # Without a project of its own a run set is of the report's; with one, W&B would be asked while it is built.
    runset = wr.Runset(
        name=", ".join(objectives),
        groupby=[_JOB_TYPE],
        filters=_filter(facts, objectives),
    )
    return wr.PanelGrid(runsets=[runset], panels=panels)


def _filter(facts: Facts, objectives: Sequence[str] = ()) -> str:
    wanted = []
    if facts.groups:
        wanted.append(f"Metric('Group') in {list(facts.groups)!r}")
    if objectives:
        wanted.append(f"Metric('JobType') in {list(objectives)!r}")
    return " and ".join(wanted)


def _kinds_markdown(facts: Facts) -> str:
    """Which kind of number each objective gives in each exam, as a table."""
    if not facts.exams:
        return "No run has taken an exam yet: `ntp evaluate run=... evaluation/exams=[continue,infill]`."
    lines = ["| objective | " + " | ".join(one.name for one in facts.exams) + " |"]
    lines.append("|---" * (len(facts.exams) + 1) + "|")
    for objective in facts.objectives:
        found = (one.kinds.get(objective) for one in facts.exams)
        lines.append(f"| {objective} | " + " | ".join(_cell(kind) for kind in found) + " |")
    return "\n".join(lines)


def _cell(kind: str | None) -> str:
    return "—" if kind is None else {"none": "measured"}.get(kind, f"{MARKS.get(kind, '')}{kind}")
