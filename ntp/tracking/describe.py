"""Numbers and runs, said so that they can be read at a glance."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def short(number: float, unit: str = "") -> str:
    """``3.1 M``: three digits and a prefix."""
    for size, prefix in _UNITS:
        if abs(number) >= size:
            return f"{number / size:.3g} {prefix}{unit}"
    return f"{number:.3g}{' ' if unit else ''}{unit}"


def duration(seconds: float) -> str:
    """``2:05`` or ``1:02:05``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def relative(path: Path) -> Path:
    """The path as a person here would write it."""
    here = Path.cwd()
    return path.resolve().relative_to(here) if path.resolve().is_relative_to(here) else path


def facts(rows: list[tuple[str, str]], console: Console) -> None:
    """Print names and values in two columns that line up."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    console.print(table, highlight=False)
