"""Where a command writes."""

import os
from pathlib import Path

from ntp.config.errors import ConfigError


def check_output(output: str | None) -> None:
    """Refuse a directory that can't be made or written, before any work is done for it.

    Raises:
        ConfigError: a file stands in its way, or its place is somebody else's.
    """
    if output is None:
        return
    path = Path(output).absolute()
    nearest = next(one for one in (path, *path.parents) if os.path.exists(one))
    if not nearest.is_dir():
        raise ConfigError("output", f"{output} can't be written ({nearest.name} is a file)")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ConfigError("output", f"{output} can't be written (Permission denied)")
