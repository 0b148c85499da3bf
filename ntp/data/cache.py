"""A cache of directories: each is built once, whole or not at all, by whichever process comes first."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from ntp.config.errors import ConfigError
from ntp.data.store import DamagedStore

Loaded = TypeVar("Loaded")


def entry_path(root: Path, digest: str) -> Path:
    """Where the directory of a digest is, if it has been built."""
    # A whole digest in a path is longer than some file systems take beside a user's own directories.
    return root / digest[:24]


def cached(
    root: Path, digest: str, build: Callable[[Path], None], load: Callable[[Path], Loaded]
) -> tuple[Loaded, str | None]:
    """A cache entry, built where there is none or a damaged one.

    Returns:
        What ``load`` makes of the entry's directory, and a note where a damaged entry was replaced.
    """
    from filelock import FileLock

    entry = entry_path(root, digest)
    damage = None
    with _disk_errors_explained(root):
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{entry.name}.lock"):
            if entry.exists():
                try:
                    return load(entry), None
                except (DamagedStore, OSError, ValueError, KeyError) as error:
                    damage = f"the cache entry {entry} was damaged ({error}) and has been made again"
                    shutil.rmtree(entry)
            # What a killed process left behind: the lock says that nobody is working on it.
            for leftover in root.glob(f".{entry.name}.*.building"):
                shutil.rmtree(leftover, ignore_errors=True)
            building = Path(tempfile.mkdtemp(prefix=f".{entry.name}.", suffix=".building", dir=root))
            try:
                build(building)
                building.chmod(0o777 & ~_umask())
                building.rename(entry)
            finally:
                shutil.rmtree(building, ignore_errors=True)
            return load(entry), damage


@contextlib.contextmanager
def _disk_errors_explained(root: Path) -> Iterator[None]:
    try:
        yield
    except DamagedStore as error:  # straight after it was written
        raise ConfigError("data.cache_dir", f"{root} does not keep what is written to it: {error}") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            problem = f"no space left in {root}; free some or put the cache elsewhere (nothing half-written was left)"
            raise ConfigError("data.cache_dir", problem) from error
        # A file of the corpus that cannot be read is another matter.
        if error.filename is not None and Path(str(error.filename)).is_relative_to(root.parent):
            raise ConfigError("data.cache_dir", f"{root} cannot be written: {error.strerror}") from error
        raise


def _umask() -> int:
    """The process's mask for new files; mkdtemp ignores it, and a cache may be shared by a group."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
