"""Measured numbers under their names, with the kind of each: nothing that is no likelihood is shown as one."""

from collections.abc import Iterable, Mapping
from typing import Literal

MARKS = {"exact": "", "bound": "≤ ", "pseudo": "~ ", "none": ""}
"""What stands before a number of each kind: nothing, not above, only looks like one."""

STANDARD_ERROR = "_stderr"
"""What follows the name of a mean in that of its standard error."""

_LIKELIHOOD = {"perplexity": "perplexity", "bits_per_token": "bits per token", "bits_per_byte": "bits per byte"}
_NOT_OF_THE_OBJECTIVE = {"loss", "targets", "bytes", "rows", *_LIKELIHOOD}
_MANY = 12


def results(
    metrics: Mapping[str, float], likelihood: Literal["exact", "bound", "pseudo", "none"], prefix: str = ""
) -> list[tuple[str, str]]:
    """Titles and numbers: the loss, the likelihood where there is one, and what the objective measures besides.

    Of a mixture with many components only their losses are shown; all numbers are in ``metrics.jsonl``.

    Args:
        metrics: by name, those of interest beginning with ``prefix``.
        likelihood: of the objective.
        prefix: such as ``val/``.
    """
    own = {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}

    def said(name: str) -> str:
        error = own.get(name + STANDARD_ERROR)
        digits = 2 if name == "perplexity" else 4
        return f"{own[name]:,.{digits}f}" + ("" if error is None else f" ± {error:,.{digits}f}")

    rows = [("loss", said("loss"))] if "loss" in own else []
    rows += [(title, MARKS[likelihood] + said(name)) for name, title in _LIKELIHOOD.items() if name in own]
    rows.append(("kind of likelihood", likelihood))
    # The likelihood of a component may be of another kind than the whole's, and is not shown under its mark.
    hidden = (STANDARD_ERROR, *(f"/{name}" for name in _LIKELIHOOD))
    further = _grouped(name for name in own if name not in _NOT_OF_THE_OBJECTIVE and not name.endswith(hidden))
    if len(further) > _MANY:
        further = [name for name in further if name.endswith("/loss")]
    return rows + [(name.replace("_", " "), said(name)) for name in further]


def _grouped(names: Iterable[str]) -> list[str]:
    """The names with those of a component together, in whatever order its rows have come."""
    firsts: dict[tuple[str, ...], int] = {}
    keys: dict[str, list[int]] = {}
    for name in names:
        path = name.split("/")[:-1]
        groups = [tuple(path[:depth]) for depth in range(1, len(path) + 1)]
        # Its own numbers stand before those of its parts.
        keys[name] = [firsts.setdefault(group, len(firsts) + 1) for group in groups] + [0]
    return sorted(keys, key=keys.__getitem__)
