"""Names of arms: by their objective, and by what else their user has varied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

ABSENT = "—"
_LONGEST_VALUE = 40


@dataclass(frozen=True)
class Described:
    """What an arm may be named by.

    Attributes:
        objective: its name.
        settings: its value of every key that differs between the arms.
        asked: what the users of all its runs have asked for alike, by key with dots.
    """

    objective: str
    settings: Mapping[str, str]
    asked: Mapping[str, str]


def asked(runs: Sequence[Sequence[str]]) -> dict[str, str]:
    """Overrides that some runs have alike, by key: ``data/tokenizer=char`` is asked for ``data.tokenizer``.

    Args:
        runs: at least one; the overrides of each.
    """
    found = []
    for overrides in runs:
        parts = [one.lstrip("+").partition("=") for one in overrides if not one.startswith("~")]
        found.append({key.partition("@")[0].replace("/", "."): value for key, sign, value in parts if sign})
    return {key: value for key, value in found[0].items() if all(other.get(key) == value for other in found)}


def names_of(arms: Mapping[str, Described]) -> dict[str, str]:
    """A name for each arm: ``mlm width=64``."""
    several_objectives = len({arm.objective for arm in arms.values()}) > 1
    names = {}
    for key, arm in arms.items():
        # What all arms of this class have alike is said by the class already.
        alike = [other for other in arms.values() if other.objective == arm.objective]
        telling = [name for name in arm.settings if len({other.settings.get(name) for other in alike}) > 1]
        if several_objectives:
            # A key that follows from the objective is no news; others are, also where this objective has one value.
            telling += [name for name in arm.settings if name not in telling and not _follows(name, arms)]
            telling = [name for name in arm.settings if name in telling]
        varied = _varied(telling, arm, list(arms.values()))
        parts = [arm.objective] if several_objectives or not varied else []
        parts += [
            f"{short}={_said(varied[name])}"
            for name, short in _shortened(list(varied)).items()
            if varied[name] != ABSENT
        ]
        names[key] = " ".join(parts) or arm.objective
    return _unique(names)


def _follows(key: str, arms: Mapping[str, Described]) -> bool:
    """Whether a key's value is decided by the objective in all arms, or the key belongs to the objective."""
    values: dict[str, set[str | None]] = {}
    for arm in arms.values():
        values.setdefault(arm.objective, set()).add(arm.settings.get(key))
    return key.startswith("objective.") or all(len(one) == 1 for one in values.values())


def _varied(keys: Sequence[str], arm: Described, arms: Sequence[Described]) -> dict[str, str]:
    """What a user has varied, with this arm's values, in place of all keys that differ for it.

    A choice such as ``model=micro`` stands for the keys below it, but for those that a user has set by themselves. A
    key that a user has set stands for others with the same values in all arms, such as ``data.path`` for
    ``data.corpus.path``, which is made from it; where it is not known what users have set, only for those of its name.
    """
    set_itself = {key for key in keys if any(key in one.asked for one in arms)}
    choices = [
        name
        for name in arm.asked
        if all(name in one.asked for one in arms) and len({one.asked[name] for one in arms}) > 1
    ]
    found: dict[str, tuple[int, str]] = {}
    kept: list[str] = []
    for key in sorted(keys, key=lambda one: (one not in set_itself, one.count("."))):
        place = keys.index(key)
        choice = max((name for name in choices if _decides(name, key, arms)), key=len, default=None)
        if key in set_itself:
            kept.append(key)
            found[key] = place, arm.settings[key]
        elif choice is not None:
            found[choice] = min(place, found.get(choice, (place, ""))[0]), arm.asked[choice]
        elif not any(_is_made_from(key, other, set_itself, arms) for other in kept):
            kept.append(key)
            found[key] = place, arm.settings[key]
    return {key: value for key, (_, value) in sorted(found.items(), key=lambda item: item[1][0])}


def _decides(choice: str, key: str, arms: Sequence[Described]) -> bool:
    values = {(one.asked[choice], one.settings.get(key)) for one in arms}
    return key.startswith(f"{choice}.") and len(values) == len({one.asked[choice] for one in arms})


def _is_made_from(key: str, other: str, set_itself: Set[str], arms: Sequence[Described]) -> bool:
    if any(one.settings.get(key) != one.settings.get(other) for one in arms):
        return False
    return other in set_itself or key.rpartition(".")[2].endswith(other.rpartition(".")[2])


def _shortened(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each key, with as much before it as tells them apart."""
    short = {}
    for key in keys:
        parts = key.removesuffix("._target_").split(".")
        length = 1
        while length < len(parts) and any(
            other != key and other.removesuffix("._target_").split(".")[-length:] == parts[-length:] for other in keys
        ):
            length += 1
        short[key] = ".".join(parts[-length:])
    return short


def _said(value: str) -> str:
    """A value in a name: a class without its module, and nothing long. The end of a path tells more."""
    last = value.rpartition(".")[2] if value.count(".") > 1 and value.replace(".", "").isidentifier() else value
    if len(last) <= _LONGEST_VALUE:
        return last
    return f"…{last[1 - _LONGEST_VALUE :]}" if "/" in last else f"{last[: _LONGEST_VALUE - 1]}…"


def _unique(names: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, name in names.items():
        number = sum(other == name for other in list(names.values())[: len(found)])
        found[key] = f"{name} ({number + 1})" if number else name
    return found
