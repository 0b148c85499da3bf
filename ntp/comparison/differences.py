"""What the runs of a comparison have in common beside their configuration, and what they have not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ntp.comparison.arms import Arm
from ntp.comparison.collect import ComparedRun

UNKNOWN = "not known"
_SHOWN_DIGITS = 12


@dataclass(frozen=True)
class Fact:
    """One thing that is equal in all runs, or is not.

    Attributes:
        name: of the thing.
        values: of each arm, as text; several values of one arm's runs are joined.
        equal: whether there is one value only.
        refuses: whether a difference makes ranking meaningless.
    """

    name: str
    values: Mapping[str, str]
    equal: bool
    refuses: bool

    @property
    def value(self) -> str:
        """Of all arms together."""
        return " / ".join(dict.fromkeys(self.values.values()))


def facts_of(arms: Sequence[Arm]) -> list[Fact]:
    """Data, tokenizer, code version, precision and machine of some arms.

    Args:
        arms: at least one.
    """
    one_tokenizer = len({run.tokenizer for arm in arms for run in arm.runs}) == 1
    facts = []
    for name, read, refuses in (
        ("data", lambda run: _data(run, one_tokenizer), True),
        ("tokenizer", lambda run: _short(run.tokenizer), True),
        ("code", _code, True),
        ("precision", _precision, False),
        ("state", lambda run: run.state, False),
        ("torch", lambda run: str(run.environment.get("packages", {}).get("torch") or UNKNOWN), False),
        ("machine", _machine, False),
    ):
        facts.append(_fact(name, arms, read, refuses))
    return facts


def refusals_of(facts: Sequence[Fact]) -> list[str]:
    """Why these arms must not be ranked, one line each; empty where they may be."""
    return [
        f"the runs differ in {fact.name}: "
        + "; ".join(f"{value} ({', '.join(names)})" for value, names in _by_value(fact.values).items())
        for fact in facts
        if fact.refuses and not fact.equal
    ]


def cautions_of(arms: Sequence[Arm], facts: Sequence[Fact]) -> list[str]:
    """What does not forbid a ranking, and a reader should know."""
    found = [
        f"the runs differ in {fact.name}: "
        + "; ".join(f"{value} ({', '.join(names)})" for value, names in _by_value(fact.values).items())
        for fact in facts
        if not fact.refuses and not fact.equal
    ]
    dirty = [
        run.name for arm in arms for run in arm.runs if (run.environment.get("git") or {}).get("uncommitted_changes")
    ]
    if dirty:
        which = "all runs" if len(dirty) == sum(len(arm.runs) for arm in arms) else ", ".join(dirty)
        found.append(f"{which} came from a source tree with uncommitted changes: equal commits may be different code")
    return found


def _fact(name: str, arms: Sequence[Arm], read: Callable[[ComparedRun], str], refuses: bool) -> Fact:
    values = {arm.name: " and ".join(dict.fromkeys(read(run) for run in arm.runs)) for arm in arms}
    every = {read(run) for arm in arms for run in arm.runs}
    return Fact(name, values, len(every) == 1, refuses)


def _data(run: ComparedRun, one_tokenizer: bool) -> str:
    """The digest of tokens where the tokenizer is one; otherwise it is of the tokenizer too, and the config must do."""
    data = run.config["data"]
    corpus = data.get("corpus")
    said = str(corpus.get("_target_", "?")).rpartition(".")[2] if isinstance(corpus, Mapping) else "?"
    if one_tokenizer and run.summary.get("data_digest"):
        return f"{said} {_short(str(run.summary['data_digest']))}"
    rest = {name: data.get(name) for name in ("corpus", "validation", "validation_fraction")}
    return f"{said} {json.dumps(rest, sort_keys=True)}"


def _code(run: ComparedRun) -> str:
    version = run.environment.get("packages", {}).get("ntp") or UNKNOWN
    git: Any = run.environment.get("git") or {}
    return f"ntp {version}" + (f" at {_short(git.get('commit'))}" if git.get("commit") else "")


def _precision(run: ComparedRun) -> str:
    return str(run.config.get("trainer", {}).get("precision", UNKNOWN))


def _machine(run: ComparedRun) -> str:
    devices = run.environment.get("devices")
    if devices is None:
        return UNKNOWN
    return ", ".join(devices) or f"{run.environment.get('processors', '?')} processors"


def _by_value(values: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in values.items():
        found.setdefault(value, []).append(name)
    return found


def _short(digest: str | None) -> str:
    return digest[:_SHOWN_DIGITS] if digest else UNKNOWN
