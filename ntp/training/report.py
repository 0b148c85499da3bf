"""How a run went, for the person who started it."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ntp.tracking.describe import duration, relative, short
from ntp.tracking.results import results
from ntp.training.run import TrainingRun
from ntp.training.sample import TEMPERATURE


def report(run: TrainingRun, console: Console) -> None:
    """Print the final numbers, the sample, and the commands to go on with."""
    latest, progress = run.module.latest, run.module.progress
    likelihood = run.setup.objective.likelihood
    table = Table(title=f"{run.objective_name}, {progress.step:,} steps", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for title, value in results(latest, likelihood, "val/"):
        table.add_row(f"validation {title}" if title == "loss" else title, value)
    table.add_row("tokens read", short(progress.tokens))
    table.add_row("text read", short(progress.bytes, "B"))
    table.add_row("compute", short(progress.flops, "FLOPs"))
    table.add_row("time", duration(progress.seconds))
    table.add_row("tokens per second", f"{latest.get('perf/tokens_per_second', 0):,.0f}")
    console.print(table)
    if run.sample is not None:
        before, written, behind = (escape(part) for part in run.sample)
        where = "between dim texts" if behind else "after a dim prompt"
        console.print(f"\nsample at temperature {TEMPERATURE}, {where}:\n", style="bold")
        console.print(f"[dim]{before}[/dim]{written}[dim]{behind}[/dim]", highlight=False, soft_wrap=True)
    path = relative(run.directory.path)
    console.print("\ngo on:", style="bold")
    console.print(f"  ntp evaluate run={path}", highlight=False, soft_wrap=True)
    for way, question in (("continue", "prompt='...'"), ("infill", "prefix='...' suffix='...' tokens=16")):
        if way in run.setup.objective.inference:
            console.print(f"  ntp generate run={path} {question}", highlight=False, soft_wrap=True)
