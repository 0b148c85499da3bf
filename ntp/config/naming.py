"""Names of sweeps and of their jobs, made of what varies: the same command finds the same directories again."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from ntp.config.identity import NOT_OF_THE_RUN

LONGEST_NAME = 150
"""Bytes of a directory's name; file systems take 255, and a suffix may follow."""

_ODD = re.compile(r"[^\w.+@~^-]+")
_HASH_DIGITS = 8


def register() -> None:
    """Register ``${sweep_name:<given>,<overrides>,<sweeper>}``; doing it twice is harmless."""
    # Cached, and so the same in the sweep's config and in those of its jobs, which Hydra gives the cache of the first.
    OmegaConf.register_new_resolver("sweep_name", _sweep_name, use_cache=True, replace=True)


def _sweep_name(given: str | None, overrides: Iterable[str], sweeper: Mapping[str, Any]) -> str:
    return given if given is not None else sweep_name(overrides_by_key(overrides, sweeper))


def overrides_by_key(overrides: Iterable[str], sweeper: Mapping[str, Any]) -> dict[str, Override]:
    """What a sweep was told.

    Args:
        overrides: of the command line.
        sweeper: node of the configuration, whose ``params`` are overrides too; the command line goes before.
    """
    lines = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    return {one.key_or_group: one for one in OverridesParser.create().parse_overrides([*lines, *overrides])}


def sweep_name(overrides: Mapping[str, Override]) -> str:
    """What varies, and a hash of what does not: ``objective+seed-3fa9c1``.

    The values that are swept are no part of it, so that a sweep that is widened is the same sweep. Nor is what no
    number of a run depends on, such as loggers.

    Args:
        overrides: by key.
    """
    varied = sorted(key for key, one in overrides.items() if one.is_sweep_override())
    fixed = sorted(
        f"{key}={one.get_value_element_as_str()}"
        for key, one in overrides.items()
        if not one.is_sweep_override() and _shapes_the_run(key)
    )
    digest = _hash("\n".join([*varied, *fixed]))[:6]
    return f"{_shortened('+'.join(map(_safe, varied)) or 'single', LONGEST_NAME - 7)}-{digest}"


def job_name(overrides: Iterable[str], fixed: Iterable[str]) -> str:
    """What a job varies, safe as the name of a directory: ``objective=causal,seed=0``.

    Args:
        overrides: of the job.
        fixed: keys that all jobs of the sweep share.

    Returns:
        At most `LONGEST_NAME` bytes; different for different values: where characters had to go, a hash tells.
    """
    shared = set(fixed)
    varied = [one for one in OverridesParser.create().parse_overrides(list(overrides)) if _names(one, shared)]
    exact = {one.key_or_group: _text(one) for one in varied}
    parts = [f"{_safe(key)}={_safe(text)}" for key, text in sorted(exact.items())]
    name = ",".join(parts) or "single"
    if all(_safe(text) == text for text in exact.values()) and len(name.encode()) <= LONGEST_NAME:
        return name
    digest = _hash(repr(sorted(exact.items())))[:_HASH_DIGITS]
    return f"{_shortened(name, LONGEST_NAME - _HASH_DIGITS - 1)}-{digest}"


def _names(override: Override, shared: set[str]) -> bool:
    key = override.key_or_group
    return key not in shared and not override.is_hydra_override() and not _is_in(key, ("sweep",))


def _shapes_the_run(key: str) -> bool:
    return not _is_in(key, ("hydra", *NOT_OF_THE_RUN))


def _is_in(key: str, nodes: Iterable[str]) -> bool:
    path = key.replace("/", ".").split("@")[0]
    return any(path == node or path.startswith(f"{node}.") for node in nodes)


def _text(override: Override) -> str:
    """The value as a person would write it, without the quotes that Hydra's grammar needs."""
    value = override.value()
    return value if isinstance(value, str) else override.get_value_element_as_str()


def _safe(text: str) -> str:
    return _ODD.sub("_", text.replace("/", ".") if re.fullmatch(r"\w+(/\w+)+", text) else text).strip("_") or "_"


def _shortened(name: str, length: int) -> str:
    return name.encode()[:length].decode(errors="ignore")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
