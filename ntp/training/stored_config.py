"""The configuration of a run, read back from its directory."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ntp.config.errors import ConfigError
from ntp.config.nearest import suggestion
from ntp.config.schema import TrainConfig
from ntp.config.validation import check_arguments


def read_stored_config(directory: Path, key: str) -> dict[str, Any]:
    """``config.yaml`` of a run directory.

    Args:
        directory: of the run.
        key: the config key that led to it, for messages.

    Raises:
        ConfigError: it is not there, or damaged.
    """
    path = directory / "config.yaml"
    if not path.is_file():
        raise ConfigError(key, f"{directory} is not a run directory: {_what_is_missing(directory)}")
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(key, f"{path} is damaged ({str(error).splitlines()[0]})") from error
    if not isinstance(content, dict):
        raise ConfigError(key, f"{path} is damaged: it holds no configuration")
    return content


def _what_is_missing(directory: Path) -> str:
    """Why there is no configuration; where there is no such directory, with the nearest name beside it."""
    if directory.is_dir():
        return "it has no config.yaml"
    if directory.exists():
        return "it is a file"
    try:
        beside = [one.name for one in directory.parent.iterdir() if one.is_dir()]
    except OSError:
        beside = []
    return f"there is no such directory{suggestion(directory.name, beside)}"


def typed_config(content: dict[str, Any], key: str, allow: list[str], *parts: str) -> TrainConfig:
    """A stored configuration in its typed shape.

    Args:
        content: of ``config.yaml``.
        key: the config key that led to it, for messages.
        allow: packages whose classes it may build. Somebody else's run is somebody else's config: what it allows
            itself counts for nothing.
        parts: nodes whose classes are checked; all of them when absent.

    Raises:
        ConfigError: it is of another version, or names a class that may not be built.
    """
    checked = {name: content.get(name) for name in parts} if parts else content
    check_arguments(checked, content, allow)
    try:
        # Keys that only fed others, such as data.path, and keys of other versions do no harm here.
        return TrainConfig.model_validate(content, extra="ignore")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(key, f"its config.yaml is not of this version of ntp: {where}: {first['msg']}") from error
