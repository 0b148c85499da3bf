"""Packages that only some exams and baselines need."""

from __future__ import annotations

import importlib
from typing import Any

from ntp.config.errors import ConfigError


def require(module: str, *, package: str, extra: str, key: str) -> Any:
    """A module of an optional package.

    Args:
        module: to import.
        package: that it belongs to, as ``pip`` knows it.
        extra: of ntp's, which brings the package.
        key: of the config, for messages.

    Raises:
        ConfigError: the package is not installed; or it is, and can't be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        top = module.partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and error.name is not None and error.name.partition(".")[0] == top:
            problem = f'{package} is not installed; pip install "ntp[{extra}]"'
        else:
            why = " ".join(str(error).split())
            problem = f"{package} is installed but can't be imported ({why}); pip install --force-reinstall {package}"
        raise ConfigError(key, problem) from error
