"""What came of the jobs of a search, and which was the best."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ntp.config.errors import ConfigError, RunFailed
from ntp.config.nearest import suggestion
from ntp.sweep.job import JobResult
from ntp.sweep.space import value_of
from ntp.tracking.describe import relative
from ntp.tracking.run_directory import read_summary

BEST = "best.yaml"
ENDED = ("finished", "pruned", "failed")


@dataclass(frozen=True)
class Trial:
    """One point of the search space, tried.

    Attributes:
        number: within the search.
        values: of what varied, as written in overrides.
        overrides: all of them.
        state: ``finished``, ``pruned`` or ``failed``; ``stopped`` and ``interrupted`` can go on.
        metric: of a finished one.
        directory: of its run, where there is one.
    """

    number: int
    values: dict[str, str]
    overrides: list[str]
    state: str
    metric: float | None
    directory: str | None

    @classmethod
    def of(cls, number: int, values: dict[str, str], overrides: list[str], result: JobResult, metric: str) -> "Trial":
        """What a job's result says of a trial.

        Raises:
            ConfigError: it finished, and there is no such metric: no other trial would have it either.
        """
        state: str = result.state if result.state in (*ENDED, "stopped") else "interrupted"
        if state == "finished" and result.metric is None:
            summary = read_summary(result.directory)
            if metric not in summary:
                numbers = [name for name, value in summary.items() if isinstance(value, float)]
                raise ConfigError(
                    "sweep.metric",
                    f"{relative(result.directory)} has no metric '{metric}'{suggestion(metric, numbers)}",
                )
            state = "failed"  # not a finite number
        metric_value = result.metric if state == "finished" else None
        return cls(number, values, overrides, state, metric_value, str(result.directory))

    def parameters(self) -> dict[str, Any]:
        """The values as Hydra reads them."""
        return {key.lstrip("+"): value_of(text) for key, text in self.values.items()}


def conclude(trials: Sequence[Trial], sweep_dir: Path, metric: str, direction: str) -> str:
    """Write the best trial into ``best.yaml``, and say what came of the search.

    Args:
        trials: all of the search.
        sweep_dir: where the file goes.
        metric: name of what was searched for.
        direction: ``minimize`` or ``maximize``.

    Returns:
        A few lines for a person.

    Raises:
        RunFailed: no trial finished, and none can go on.
    """
    counts = {state: sum(one.state == state for one in trials) for state in ENDED}
    told = [f"{count} {state}" for state, count in counts.items() if count]
    if unfinished := len(trials) - sum(counts.values()):
        told.append(f"{unfinished} unfinished, which the same command goes on with")
    lines = [f"{len(trials)} trial{'s' * (len(trials) != 1)}: {', '.join(told)}"]
    finished = [one for one in trials if one.metric is not None]
    if not finished:
        if unfinished:
            return lines[0]
        where = Path(next((one.directory for one in trials if one.directory), sweep_dir))
        raise RunFailed(f"none of the {len(trials)} trials finished; {relative(where)} holds one of them")
    best = (min if direction == "minimize" else max)(finished, key=lambda one: one.metric or 0.0)
    overrides = [one for one in best.overrides if not one.startswith("sweep.")]
    content = {
        "trial": best.number,
        "metric": metric,
        "value": best.metric,
        "parameters": best.parameters(),
        "directory": best.directory,
        "overrides": overrides,
        "command": shlex.join(["ntp", "train", *overrides]),
        "trials": len(trials),
        **counts,
    }
    file = sweep_dir / BEST
    temporary = file.with_suffix(".tmp")
    temporary.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=10_000))
    temporary.replace(file)
    chosen = " ".join(f"{key}={text}" for key, text in best.values.items())
    told = [f"best: trial {best.number}", f"{metric} {best.metric:.4f}", chosen]
    lines.append(f"{', '.join(filter(None, told))}; see {relative(file)}")
    kinds = sorted({str(read_summary(Path(one.directory or "")).get("likelihood")) for one in finished} - {"None"})
    if len(kinds) > 1:
        lines.append(
            f"but the likelihoods of the trials are of different kinds ({', '.join(kinds)}) and do not compare"
        )
    return "\n".join(lines)
