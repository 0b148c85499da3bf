"""Arms of a comparison: runs that differ by nothing but their seed, named by what sets the arms apart."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ntp.comparison.collect import ComparedRun
from ntp.comparison.naming import ABSENT, Described, asked, names_of
from ntp.config.identity import NOT_OF_THE_RUN, without

NOT_OF_THE_ARM = (
    *NOT_OF_THE_RUN,
    "seed",
    "allow_targets",
    "evaluation",
    "trainer.log_every_steps",
    "data.micro_batch_size",
)
"""The seed, and what only decides how a run is watched, measured or divided."""


@dataclass
class Arm:
    """Runs of one configuration.

    Attributes:
        name: by which tables call it; of all arms together unique.
        settings: its value of every key that differs between the arms, as text.
        runs: sorted by seed.
    """

    name: str
    settings: dict[str, str]
    runs: list[ComparedRun]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of its runs."""
        return tuple(run.seed for run in self.runs)

    @property
    def objective(self) -> str:
        """Its name."""
        return self.runs[0].objective


def group(runs: Sequence[ComparedRun]) -> tuple[list[Arm], list[tuple[str, str]]]:
    """The arms that some runs form, sorted by what differs between them, never by a score.

    Two runs of one arm and one seed are one observation, not two: the one that has come further is taken.

    Args:
        runs: at least one.

    Returns:
        The arms, and the runs that are left out with the reason.
    """
    kinds: dict[str, dict[int, ComparedRun]] = {}
    configs: dict[str, dict[str, str]] = {}
    repeated = []
    for run in sorted(runs, key=lambda one: (one.state != "finished", -one.step, -len(one.results), one.name)):
        settings_of_run = flat(without(run.config, NOT_OF_THE_ARM))
        key = json.dumps(settings_of_run, sort_keys=True)
        configs[key] = settings_of_run
        kept = kinds.setdefault(key, {}).setdefault(run.seed, run)
        if kept is not run:
            repeated.append((run.name, f"is {kept.name} again: the same configuration and the same seed"))
    differing = differing_keys(list(configs.values()))
    settings = {key: {name: configs[key].get(name, ABSENT) for name in differing} for key in kinds}
    described = {
        key: Described(
            next(iter(own.values())).objective, settings[key], asked([run.overrides for run in own.values()])
        )
        for key, own in kinds.items()
    }
    names = names_of(described)
    arms = [Arm(names[key], settings[key], [runs[seed] for seed in sorted(runs)]) for key, runs in kinds.items()]
    order = list(_objective_first(differing))
    return sorted(arms, key=lambda arm: [_in_order(arm.settings[name]) for name in order]), sorted(repeated)


def flat(node: Any, prefix: str = "") -> dict[str, str]:
    """Every leaf of a config by its key with dots, as text; none that is null, as keys of later versions are."""
    if node is None:
        return {}
    if isinstance(node, Mapping) and node:
        leaves: dict[str, str] = {}
        for name, inner in node.items():
            leaves |= flat(inner, f"{prefix}.{name}" if prefix else str(name))
        return leaves
    return {prefix: node if isinstance(node, str) else json.dumps(node, ensure_ascii=False)}


def differing_keys(configs: Sequence[Mapping[str, str]]) -> list[str]:
    """Keys whose values are not the same in all configurations, in the order of the first that has them."""
    keys = list(dict.fromkeys(key for config in configs for key in config))
    return [key for key in keys if len({config.get(key, ABSENT) for config in configs}) > 1]


def equal_settings(arms: Sequence[Arm]) -> dict[str, str]:
    """Every key that has the same value in all arms."""
    configs = [flat(without(arm.runs[0].config, NOT_OF_THE_ARM)) for arm in arms]
    differing = set(differing_keys(configs))
    return {key: value for key, value in configs[0].items() if key not in differing}


def _objective_first(keys: Sequence[str]) -> Iterator[str]:
    yield from (key for key in keys if key.startswith("objective."))
    yield from (key for key in keys if not key.startswith("objective."))


def _in_order(value: str) -> tuple[int, float, str]:
    """Numbers by their size, before words."""
    try:
        return (0, float(value), "")
    except ValueError:
        return (1, 0.0, value)
