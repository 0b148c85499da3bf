"""An objective in words: what is learned, and what is true of it whatever the row."""

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ntp.config.instantiate import INSTANTIATE_KEYS, walk_targets
from ntp.explain.explanation import Component, Fact
from ntp.objectives.base import Objective

ATTENTION = {
    "causal": "a position sees itself and what stands before it",
    "full": "every position sees every other",
    "prefix": "a prefix sees itself whole, what follows sees all before it",
    "ordered": "a position sees what has its own rank or a lower one",
}
LIKELIHOOD = {
    "exact": "the loss is the negative log-likelihood of what is predicted, given what is read",
    "bound": "the loss is an upper bound of the negative log-likelihood",
    "pseudo": "the loss looks like a negative log-likelihood of the text, and is none",
    "none": "the loss says nothing of how likely the text is",
}


def sentence(objective: type[Objective]) -> str:
    """What is learned: the first paragraph of the class's own docstring, on one line."""
    first = inspect.cleandoc(objective.__doc__ or "").split("\n\n")[0]
    return " ".join(first.replace("``", "").replace("`", "").split())


def facts(objective: Objective, sequence_length: int, options: Mapping[str, Any]) -> list[Fact]:
    """What is true of an objective, whatever the row."""
    kinds = sorted(objective.attentions, key=list(ATTENTION).index)
    raw, ahead = objective.raw_length(sequence_length), objective.lookahead
    tokens = abbreviated(objective.special_tokens())
    found = [
        Fact("attention", " and ".join(kinds), "; ".join(ATTENTION[kind] for kind in kinds)),
        Fact("likelihood", objective.likelihood, LIKELIHOOD[objective.likelihood]),
        Fact("inference", " and ".join(sorted(objective.inference)) or "none", ", ".join(objective.forms)),
        Fact(
            "row",
            f"{raw} tokens of text become {sequence_length} positions",
            f"the last {ahead} of them only predicted" if ahead > 1 else "the last one only predicted" if ahead else "",
        ),
    ]
    if tokens:
        found.append(Fact("special tokens", " ".join(tokens)))
    if arguments := written(options):
        found.append(Fact("options", arguments))
    return found


def _yaml(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_yaml(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return str(value)


def abbreviated(tokens: Sequence[str]) -> list[str]:
    """Names of tokens, with the middle of a numbered series left out."""
    series: dict[str, list[str]] = {}
    for token in tokens:
        series.setdefault(re.sub(r"\d+", "#", token), []).append(token)
    return [one for group in series.values() for one in (group if len(group) < 4 else [group[0], "…", group[-1]])]


def parts(objective: Any) -> list[tuple[str, Any]]:
    """The components of a mixture with their names, in the order of `Example.component`; of others none."""
    names: Sequence[str] = getattr(objective, "component_names", ())
    return list(zip(names, getattr(objective, "parts", [None] * len(names)), strict=True))


def leaves(objective: Any) -> list[tuple[int, ...]]:
    """The path to every component of a mixture, and of mixtures within it; the empty one for others."""
    inner = parts(objective)
    return [(index, *path) for index, (_, part) in enumerate(inner) for path in leaves(part)] or [()]


def component(objective: Any, path: Sequence[int], options: Mapping[str, Any]) -> Component:
    """A component of a mixture.

    Args:
        objective: the mixture.
        path: to the component, as `Example.component` has it.
        options: the mixture's arguments.
    """
    names = []
    for index in path:
        inner = parts(objective)
        name, objective = inner[index] if index < len(inner) else (str(index), None)
        names.append(name)
        nodes = options.get("components")
        options = nodes.get(name, {}) if isinstance(nodes, Mapping) else {}
    about = sentence(type(objective)) if objective is not None else ""
    return Component(" / ".join(names), about, written(options))


def written(options: Mapping[str, Any]) -> str:
    """Arguments on one line, without those that are objectives themselves."""
    plain = {name: value for name, value in options.items() if name not in INSTANTIATE_KEYS and not _builds(value)}
    return ", ".join(f"{name}={_yaml(value)}" for name, value in plain.items())


def _builds(value: Any) -> bool:
    return next(iter(walk_targets(value, "")), None) is not None
