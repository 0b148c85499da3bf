"""What came of an exam, for a terminal."""

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from ntp.evaluation.exams.result import Measure, StoredResult
from ntp.tracking.describe import facts
from ntp.tracking.results import MARKS


def print_result(stored: StoredResult, console: Console) -> None:
    """The numbers under the exam's name, each with its kind; or why there are none."""
    result = stored.result
    rows: list[tuple[str, str]] = [("exam", f"{result.exam} ({result.digest[:8]}), {len(result.documents)} questions")]
    if result.refusal is not None:
        rows = [("exam", f"{result.exam} ({result.digest[:8]})"), ("not taken", result.refusal)]
    rows += [(name.replace("_", " "), said(one, MARKS[result.likelihood])) for name, one in result.measures.items()]
    if result.measures and result.likelihood != "none":
        told = ", ".join(result.given) or "nothing"
        rows.append(("kind of likelihood", f"{result.likelihood}, given {told}"))
    rows += [("careful", caveat) for caveat in result.caveats]
    rows += [("note", note) for note in result.notes]
    console.print()
    facts(rows, console)


def said(measure: Measure, mark: str = "") -> str:
    """``≤ 2.1234 ± 0.0012``."""
    if measure.weights.any() and not math.isfinite(measure.value):
        return "not finite"
    error = measure.standard_error
    return f"{mark}{measure.value:.4f}" + ("" if error is None else f" ± {error:.4f}")


def print_results(results: Sequence[StoredResult], console: Console) -> None:
    """One line an exam: the number that tables show, with its kind and what each answer was told."""
    if not results:
        return
    table = Table(title=f"exams at step {results[-1].step:,}", title_justify="left", box=None, pad_edge=False)
    for title in ("exam", "measure", "value", "likelihood", "given"):
        table.add_column(title, justify="right" if title == "value" else "left", no_wrap=title != "given")
    for stored in results:
        result, name = stored.result, stored.result.primary
        if name is not None:
            likely = result.likelihood != "none"
            number = said(result.measures[name], MARKS[result.likelihood])
            kind, told = (result.likelihood, ", ".join(result.given)) if likely else ("", "")
            table.add_row(result.exam, name.replace("_", " "), number, kind, told)
    console.print()
    console.print(table, highlight=False)
    for stored in results:
        if stored.result.refusal is not None:
            console.print(f"{stored.result.exam} not taken: {stored.result.refusal}", markup=False, highlight=False)
