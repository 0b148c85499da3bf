"""``ntp plan``: say before a sweep what difference it could detect."""

import math

from omegaconf import DictConfig
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ntp.comparison.arms import group
from ntp.comparison.collect import collect, directories
from ntp.comparison.planning import SweepPlan, plan_sweep
from ntp.comparison.statistics import verdict
from ntp.config.schema import PlanConfig
from ntp.config.validation import resolve, validate
from ntp.tracking.tree import print_config

_SHOWN_PAIRS = 12


def run(config: DictConfig) -> None:
    """Print the smallest differences that a sweep could find, by its number of seeds.

    Raises:
        ConfigError: there are no such runs, or none has taken the exam.
    """
    typed = validate(config, PlanConfig)
    if typed.print_config:
        print_config(resolve(config))
    collection = collect(directories(typed.runs), typed.unfinished)
    arms, repeated = group(collection.runs)
    plan = plan_sweep(
        arms,
        exam=typed.exam,
        measure=typed.measure,
        seeds=typed.seeds,
        documents=typed.documents,
        level=typed.level,
        wanted=typed.power,
    )
    console = Console()
    runs = sum(len(arm.runs) for arm in arms)
    console.print(
        f"from {_counted(runs, 'run')} of {_counted(len(arms), 'configuration')}: {plan.exam}, "
        f"{plan.value:.4g} {plan.unit}".rstrip(),
        highlight=False,
    )
    if plan.deviation is not None:
        range_ = f"{plan.deviation_low:.2g} to {plan.deviation_high:.2g}"
        console.print(f"deviation between seeds {plan.deviation:.2g} (90% interval: {range_})", highlight=False)
    if plan.rows:
        console.print()
        console.print(_table(plan, typed.seeds, typed.level, typed.power))
    for (first, second), difference in list(plan.pairs.items())[:_SHOWN_PAIRS]:
        said = verdict(difference, (first, second), plan.unit)
        line = said if difference.resolved else f"{first}, {second}: {said}"
        console.print(Padding(Text(line), (0, 0, 0, 2)))
    for note in [
        *plan.notes,
        *collection.notes,
        *(f"left out: {name} {reason}" for name, reason in [*collection.left_out, *repeated]),
    ]:
        console.print(Text(f"note: {note}", style="dim"))


def _table(plan: SweepPlan, seeds: int, level: float, power: float) -> Table:
    unit = f", {plan.unit}" if plan.unit else ""
    table = Table(
        title=f"smallest difference that is found {power:.0%} of the time at {level:.0%} confidence{unit}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("seeds of each", justify="right")
    table.add_column(_counted(plan.documents, "document"), justify="right")
    table.add_column("any number of documents", justify="right")
    for row in plan.rows:
        style = "bold" if row.seeds == seeds else ""
        table.add_row(str(row.seeds), _said(row.difference), _said(row.at_best), style=style)
    return table


def _said(difference: float) -> str:
    return "none" if math.isinf(difference) else f"{difference:.2g}"


def _counted(number: int, name: str) -> str:
    return f"{number:,} {name}{'s' * (number != 1)}"
