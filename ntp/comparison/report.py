"""The files that a comparison is written to."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from ntp.comparison.assemble import Comparison
from ntp.comparison.figures import write_figures
from ntp.comparison.html import page
from ntp.comparison.tables import records, to_csv, to_json
from ntp.config.errors import ConfigError
from ntp.tracking.describe import relative, short

HTML, CSV, JSON, FIGURES = "report.html", "report.csv", "report.json", "figures"


@dataclass
class Written:
    """What was written.

    Attributes:
        files: in their order.
        figures: below the folder of figures.
        notes: what was not, and why.
    """

    files: list[Path] = field(default_factory=list)
    figures: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For a terminal."""
        lines = [f"{relative(path)}  {short(path.stat().st_size, 'B')}" for path in self.files]
        if self.figures:
            lines.append(f"{relative(self.figures[0].parent)}{os.sep}  {len(self.figures)} figures")
        return lines + self.notes


def write_report(comparison: Comparison, output: Path, *, figures: bool = True) -> Written:
    """Write ``report.html``, ``report.csv``, ``report.json`` and ``figures/`` into a directory, over older ones.

    Raises:
        ConfigError: it can't be written.
    """
    contents = {
        HTML: page(comparison),
        CSV: to_csv(records(comparison)),
        JSON: json.dumps(to_json(comparison), indent=1, ensure_ascii=False) + "\n",
    }
    written = Written()
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            temporary = output / f".{name}.tmp"
            temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
            os.replace(temporary, output / name)
            written.files.append(output / name)
        if figures:
            written.figures = write_figures(comparison, output / FIGURES)
    except OSError as error:
        raise ConfigError("output", f"{output} can't be written ({error.strerror})") from None
    except ImportError:
        written.notes.append('no figures: matplotlib is not installed; pip install "ntp[figures]"')
    return written
