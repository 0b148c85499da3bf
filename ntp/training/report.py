"""How a run went, for the person who started it."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ntp.tracking.describe import duration, relative, short
from ntp.training.run import TrainingRun

_MARKS = {"exact": "", "bound": "≤ ", "pseudo": "~ ", "none": ""}


def report(run: TrainingRun, console: Console) -> None:
    """Print the final numbers, the sample, and the commands to go on with."""
    latest, progress = run.module.latest, run.module.progress
    likelihood = run.setup.objective.likelihood
    table = Table(title=f"{run.objective_name}, {progress.step:,} steps", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    mark = _MARKS[likelihood]
    for title, name in (
        ("validation loss (nats per target)", "val/loss"),
        ("perplexity", "val/perplexity"),
        ("bits per token", "val/bits_per_token"),
        ("bits per byte", "val/bits_per_byte"),
    ):
        if (value := latest.get(name)) is not None:
            table.add_row(title, f"{mark}{value:,.3f}")
    table.add_row("kind of likelihood", likelihood)
    table.add_row("tokens read", short(progress.tokens))
    table.add_row("text read", short(progress.bytes, "B"))
    table.add_row("compute", short(progress.flops, "FLOPs"))
    table.add_row("time", duration(progress.seconds))
    table.add_row("tokens per second", f"{latest.get('perf/tokens_per_second', 0):,.0f}")
    console.print(table)
    if run.sample is not None:
        prompt, text = run.sample
        console.print("\nsample at temperature 0.8, after a dim prompt:\n", style="bold")
        console.print(f"[dim]{escape(prompt)}[/dim]{escape(text)}\n", highlight=False, soft_wrap=True)
    path = relative(run.directory.path)
    console.print("go on:", style="bold")
    console.print(f"  ntp evaluate run={path}", highlight=False, soft_wrap=True)
    if "continue" in run.setup.objective.inference:
        console.print(f"  ntp generate run={path} prompt='...'", highlight=False, soft_wrap=True)
