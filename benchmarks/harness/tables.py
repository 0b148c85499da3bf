"""Tables that more than one benchmark shows."""

from rich.table import Table

from harness.statistics import Spread


def seconds_table(seconds: dict[str, Spread], title: str) -> Table:
    """A line for each thing that was timed."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in ("median", "min", "max"):
        table.add_column(column, justify="right")
    for what, value in seconds.items():
        table.add_row(what, f"{value['median']:.2f}", f"{value['min']:.2f}", f"{value['max']:.2f}")
    return table
