"""``jobs.json``: what is known of all jobs that a sweep's directory has seen, for programs and for the next time."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ntp.config.errors import ConfigError
from ntp.sweep.job import Job, JobResult
from ntp.tracking.run_directory import json_safe

JOBS = "jobs.json"


class SweepRecord:
    """The facts of the jobs, kept in a file from the first moment on.

    Args:
        directory: of the sweep.
        metric: name of the metric that is kept of each job.
        command: as it was typed.
    """

    def __init__(self, directory: Path, metric: str, command: Sequence[str]) -> None:
        self.file = directory / JOBS
        self._head = {"sweep": directory.name, "command": list(command), "metric": metric}
        self._jobs: dict[str, dict[str, Any]] = {one["identity"]: one for one in _read(self.file)}

    def failed(self, identity: str) -> bool:
        """Whether the last attempt failed; a job can fail before it has a run directory that would say so."""
        return self._jobs.get(identity, {}).get("state") == "failed"

    def attempts(self, identity: str) -> int:
        """How often the job was started."""
        return int(self._jobs.get(identity, {}).get("attempts", 0))

    def seconds(self, identity: str) -> float | None:
        """Of wall time, over all attempts; None where there was none."""
        seconds = self._jobs.get(identity, {}).get("seconds")
        return None if seconds is None else float(seconds)

    def write(self, job: Job, result: JobResult) -> None:
        """Keep how a job ended.

        Raises:
            ConfigError: the file can't be written.
        """
        directory = os.path.relpath(result.directory, self.file.parent)
        # A directory in which a job failed before its run began is free for another job.
        self._jobs = {
            key: one for key, one in self._jobs.items() if one["directory"] != directory or key == job.identity
        }
        self._jobs[job.identity] = {
            "number": result.number,
            "name": result.name,
            "identity": job.identity,
            "state": result.state,
            "note": result.note,
            "metric": result.metric,
            "seconds": result.seconds,
            "attempts": self.attempts(job.identity) + result.trained,
            "directory": directory,
            "overrides": list(job.overrides),
        }
        text = json.dumps({**self._head, "jobs": [json_safe(one) for one in self._jobs.values()]}, indent=2) + "\n"
        temporary = self.file.with_name(f".{JOBS}.tmp")
        try:
            temporary.write_text(text, encoding="utf-8", errors="surrogatepass")
            os.replace(temporary, self.file)
        except OSError as error:
            raise ConfigError("hydra.sweep.dir", f"{self.file} can't be written ({error.strerror})") from None


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        jobs = json.loads(file.read_text(encoding="utf-8", errors="surrogatepass"))["jobs"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [one for one in jobs if isinstance(one, dict) and {"identity", "directory"} <= one.keys()]
