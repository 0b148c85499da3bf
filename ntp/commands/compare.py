"""``ntp compare``: which objective is better, at what, for what cost, and is the difference real?"""

import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from ntp.commands.output import check_output
from ntp.comparison.arms import group
from ntp.comparison.assemble import assemble, chosen_exams
from ntp.comparison.beside import baseline_rows
from ntp.comparison.collect import collect, directories
from ntp.comparison.examining import Circumstances, exams_of, fill_gaps
from ntp.comparison.matrix import Row
from ntp.comparison.report import write_report
from ntp.comparison.terminal import print_comparison
from ntp.config.compose import CONFIG_ERRORS
from ntp.config.errors import ConfigError
from ntp.config.nearest import suggestion
from ntp.config.schema import CompareConfig
from ntp.config.validation import resolve, validate
from ntp.tracking.tree import print_config

_GROUP = "evaluation/exams"


def run(config: DictConfig) -> None:
    """Compare runs, print what came of it, and write the report.

    Raises:
        ConfigError: there are no such runs, or nothing that they could be compared by.
    """
    typed = validate(config, CompareConfig)
    if typed.print_config:
        print_config(resolve(config))
    check_output(typed.output)
    collection = collect(directories(typed.runs), typed.unfinished)
    # A run that is another one again would count in what most runs have been asked, and be asked itself, for nothing.
    arms, repeated = group(collection.runs)
    collection.runs = sorted((run for arm in arms for run in arm.runs), key=lambda run: run.path)
    collection.left_out += repeated
    options = _Options()
    exams = (
        None
        if typed.exams is None
        else options.expanded(typed.exams, {one.result.exam for run in collection.runs for one in run.results})
    )
    how = Circumstances(typed.checkpoint, typed.draws, typed.batch_size, typed.accelerator, tuple(typed.allow_targets))
    notes = fill_gaps(collection.runs, exams, options.node, how, _say) if typed.evaluate else []
    if exams is not None and typed.evaluate:
        # Why nobody could take the others has been noted.
        taken = {one.result.exam for run in collection.runs for one in run.results}
        exams = [name for name in exams if name in taken]
    rows: list[Row] = []
    if typed.baselines:
        names = chosen_exams([{one.result.exam: one for one in run.results} for run in collection.runs], exams)
        prepared = exams_of(collection.runs, names, options.node, how)
        rows, missing = baseline_rows(collection.runs, typed.baseline, names, prepared, typed.allow_targets, _say)
        notes += missing
    comparison = assemble(
        collection, exams=exams, baselines=rows, axis=typed.match, reference=typed.reference, force=typed.force
    )
    comparison.cautions += notes
    print_comparison(comparison, Console())
    if typed.output is not None:
        written = write_report(comparison, Path(typed.output), figures=typed.figures)
        print()
        for line in written.lines():
            print(line)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class _Options:
    """The exams of ``conf/evaluation/exams`` and of plug-ins, read when first asked for."""

    @cached_property
    def nodes(self) -> dict[str, dict[str, Any]]:
        """Of each option, the exams by name. An option that needs more values than it has is left out."""
        found = {}
        for option in GlobalHydra.instance().config_loader().get_group_options(_GROUP):
            try:
                config = compose("evaluate", overrides=["run=.", f"{_GROUP}=[{option}]"])
                nodes = OmegaConf.to_container(config.evaluation.exams, resolve=True, throw_on_missing=True)
            except CONFIG_ERRORS:
                continue
            if isinstance(nodes, dict):
                found[option] = {str(name): node for name, node in nodes.items()}
        return found

    def expanded(self, names: Sequence[str], taken: set[str]) -> list[str]:
        """Names of exams, with those of all its exams in place of an option that has others.

        Raises:
            ConfigError: there is neither such an option nor a run that has taken such an exam.
        """
        known = taken | set(self.nodes) | {exam for nodes in self.nodes.values() for exam in nodes}
        for name in names:
            if name not in known:
                problem = f"no run has taken '{name}', and there is no evaluation/exams={name}"
                raise ConfigError("exams", problem + suggestion(name, known))
        return [exam for name in names for exam in (self.nodes.get(name) or {name: None})]

    def node(self, name: str) -> dict[str, Any] | None:
        """The configuration of an exam."""
        return next((nodes[name] for nodes in self.nodes.values() if name in nodes), None)
