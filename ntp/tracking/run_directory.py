"""The run directory: everything that is true of a run, as files."""

import json
import math
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import yaml
from filelock import FileLock, Timeout

from ntp.config.errors import ConfigError

State = Literal["running", "finished", "stopped", "pruned", "failed"]
SUMMARY, LOCK = "summary.json", ".lock"
_LOCK_SECONDS = 1.0  # others hold it for a moment when they ask whether a run is alive
_PACKAGES = (
    "ntp",
    "torch",
    "lightning",
    "hydra-core",
    "omegaconf",
    "pydantic",
    "datasets",
    "tokenizers",
    "numpy",
    "wandb",
)


class RunDirectory:
    """A directory that belongs to one run.

    Args:
        path: where; made by `claim`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.summary: dict[str, Any] = {}
        self._lock: FileLock | None = None  # the system lets it go when the process dies, however it dies

    def check_free(self) -> None:
        """Say early that the directory is taken, before anything expensive starts.

        Raises:
            ConfigError: it holds another run.
        """
        if (self.path / "checkpoints").exists() or ((self.path / SUMMARY).exists() and not self._is_abandoned()):
            raise ConfigError(
                "run_dir", f"{self.path} already holds a run; give another directory, or resume={self.path} to go on"
            )

    def _is_abandoned(self) -> bool:
        """Whether the process that claimed it was killed before it wrote anything that could be gone on with."""
        is_empty = read_summary(self.path) in ({}, {"state": "running"}) and not (self.path / "config.yaml").exists()
        return is_empty and not is_alive(self.path)

    def claim(self) -> None:
        """Make the directory this run's own; of several processes that try, one succeeds.

        Raises:
            ConfigError: it holds another run, or can't be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with open(self.path / SUMMARY, "x") as file:
                json.dump({"state": "running"}, file)
        except FileExistsError:
            self.check_free()
        except OSError as error:
            raise ConfigError("run_dir", f"{self.path} can't be written ({error.strerror})") from None
        self._hold()

    def reclaim(self) -> None:
        """Make the directory of an interrupted run this process's own, and go on with its summary.

        Raises:
            ConfigError: another process is training this run, or the directory can't be written.
        """
        self._hold()
        self.summary = read_summary(self.path)

    def release(self) -> None:
        """Let others resume this run."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _hold(self) -> None:
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=_LOCK_SECONDS)
        except Timeout:
            raise ConfigError("run_dir", f"another process is training in {self.path} just now") from None
        except OSError as error:
            raise ConfigError("run_dir", f"{self.path} can't be written ({error.strerror})") from None
        except NotImplementedError:  # a file system without locks
            return
        self._lock = lock

    def write_config(self, config: dict[str, Any], overrides: list[str] | None = None) -> None:
        """Keep what was asked for: the resolved config and, of a new run, the overrides that led to it."""
        self._write("config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=120))
        if overrides is not None:
            self._write("overrides.yaml", yaml.safe_dump(overrides))

    def write_environment(self) -> None:
        """Keep what it ran on: versions, machine, state of the source tree."""
        import torch

        environment = {
            "command": sys.argv,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "processors": os.cpu_count(),
            "devices": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
            "packages": {name: _version(name) for name in _PACKAGES},
            "git": _git_state(),
        }
        self._write("environment.json", json.dumps(environment, indent=2) + "\n")

    def update_summary(self, state: State, **values: Any) -> None:
        """Write ``summary.json`` anew: its state, and whatever is known by now."""
        self.summary |= {"state": state} | values
        self._write(SUMMARY, json.dumps(json_safe(self.summary), indent=2) + "\n")

    def write_sample(self, text: str) -> None:
        """Keep the sample text."""
        self._write("sample.txt", text)

    def _write(self, name: str, text: str) -> None:
        temporary = self.path / f".{name}.tmp"
        temporary.write_text(text, encoding="utf-8", errors="surrogatepass")
        os.replace(temporary, self.path / name)


def read_summary(path: Path) -> dict[str, Any]:
    """A run's ``summary.json``; empty where there is none, or none that can be read."""
    try:
        summary = json.loads((path / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, dict) else {}


def is_alive(path: Path) -> bool:
    """Whether some process is training in this directory just now: the states in files outlive a killed one."""
    if not (path / LOCK).exists():
        return False
    lock = FileLock(path / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return False
    lock.release()
    return False


def json_safe(value: Any) -> Any:
    """JSON has no infinity and no NaN: they become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: json_safe(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(inner) for inner in value]
    return value


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_state() -> dict[str, Any] | None:
    """Commit and cleanliness of the source tree that ntp runs from; None when it is installed from elsewhere."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True, timeout=10
        )
        return done.stdout.strip()

    try:
        if not git("ls-files", __file__):
            return None
        return {"commit": git("rev-parse", "HEAD"), "uncommitted_changes": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
