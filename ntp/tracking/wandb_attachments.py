"""What a W&B run has beside its curves: results of exams and samples, in tables to look at, and kept as an artifact."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EXAMS, SAMPLE = "exams", "sample.txt"
EXAM_TABLE, SAMPLE_TABLE = "exam_table", "sample_table"
ARTIFACT_TYPE = "exam-results"
EXAM_COLUMNS = (
    "exam",
    "measure",
    "value",
    "standard_error",
    "unit",
    "likelihood",
    "given",
    "questions",
    "step",
    "digest",
    "refusal",
)
SAMPLE_COLUMNS = ("exam", "prefix", "suffix", "reference", "sample")


def attachments(directory: Path) -> list[Path]:
    """The files of a run directory that are attached, in order."""
    sample = directory / SAMPLE
    return [*sorted((directory / EXAMS).glob("*.json")), *([sample] if sample.is_file() else [])]


def digest(directory: Path) -> str | None:
    """Of what would be attached; None where there is nothing."""
    files = attachments(directory)
    if not files:
        return None
    content = hashlib.sha256()
    for path in files:
        content.update(path.name.encode() + b"\0" + path.read_bytes())
    return content.hexdigest()[:16]


def exam_rows(directory: Path) -> Iterator[list[Any]]:
    """A row for every number of every exam that was taken, or for why it was not, under `EXAM_COLUMNS`."""
    for result in _results(directory):
        told = ", ".join(result["given"])
        common = [result["likelihood"], told, len(result["documents"]), result["step"], result["digest"][:8]]
        for name, one in result["measures"].items():
            yield [result["exam"], name, one["value"], one["standard_error"], one["unit"], *common, None]
        if result["refusal"] is not None:
            yield [result["exam"], None, None, None, None, *common, result["refusal"]]


def sample_rows(directory: Path) -> Iterator[list[Any]]:
    """The sample at the end of the run, and those of exams, under `SAMPLE_COLUMNS`."""
    if (directory / SAMPLE).is_file():
        text = (directory / SAMPLE).read_text(encoding="utf-8", errors="replace")
        yield [None, None, None, None, text]
    for result in _results(directory):
        for one in result["details"].get("samples", []):
            yield [result["exam"], *(one.get(column) for column in SAMPLE_COLUMNS[1:])]


def attach(run: Any, directory: Path) -> None:
    """Put the tables beside the summary of an open W&B run, and the files into an artifact.

    Nothing is logged: the number of lines of a run tells what it has of ``metrics.jsonl``.

    Args:
        run: of W&B.
        directory: of the run.
    """
    import wandb

    for name, columns, rows in (
        (EXAM_TABLE, EXAM_COLUMNS, list(exam_rows(directory))),
        (SAMPLE_TABLE, SAMPLE_COLUMNS, list(sample_rows(directory))),
    ):
        if rows:
            run.summary[name] = wandb.Table(columns=list(columns), data=rows, allow_mixed_types=True)
    if files := attachments(directory):
        artifact = wandb.Artifact(f"exams-{run.id}", type=ARTIFACT_TYPE)
        for path in files:
            artifact.add_file(str(path), name=path.relative_to(directory).as_posix())
        run.log_artifact(artifact)


def _results(directory: Path) -> Iterator[dict[str, Any]]:
    """The files of `ntp.evaluation.exams.result.StoredResult`; one that can't be read has nothing to show."""
    for path in attachments(directory):
        if path.parent.name != EXAMS:
            continue
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(result, dict) and result.keys() >= {"exam", "measures", "documents", "details", "refusal"}:
            yield result
