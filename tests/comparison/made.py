"""Run directories as training and evaluation leave them, made in no time."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ntp.evaluation.exams.result import Measure, Result, StoredResult

DOCUMENTS = 24
TARGETS = {"causal": "Causal", "mlm": "MaskedLanguageModel", "masked_diffusion": "MaskedDiffusion"}
KINDS = {"causal": "exact", "mlm": "pseudo", "masked_diffusion": "bound"}


def make_run(
    path: Path,
    objective: str = "causal",
    seed: int = 0,
    *,
    state: str = "finished",
    steps: int = 40,
    width: int = 64,
    flops_per_step: float = 1e6,
    data: str = "d" * 64,
    tokenizer: str = "{}",
    commit: str | None = "c" * 40,
    changed: bool = False,
    sample: str | None = "some text",
    loss: float = 2.0,
) -> Path:
    """A run directory without exams."""
    (path / "checkpoints").mkdir(parents=True)
    (path / "checkpoints" / "last.ckpt").write_bytes(b"")
    (path / "tokenizer").mkdir()
    (path / "tokenizer" / "tokenizer.json").write_text(tokenizer)
    config = {
        "seed": seed,
        "run_dir": str(path),
        "model": {"_target_": "ntp.models.transformer.Transformer", "width": width},
        "data": {"corpus": {"_target_": "ntp.data.corpora.Files", "path": "book.txt"}, "batch_size": 4},
        "objective": {"_target_": f"ntp.objectives.{objective}.{TARGETS[objective]}"},
        "trainer": {"precision": "32-true"},
        "logger": {},
    }
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    git = commit and {"commit": commit, "uncommitted_changes": changed}
    environment = {"packages": {"ntp": "0.1.0", "torch": "2.13"}, "git": git, "processors": 2, "devices": []}
    (path / "environment.json").write_text(json.dumps(environment))
    lines = [_line(step, flops_per_step, loss + 1 / step + seed / 100) for step in range(10, steps + 1, 10)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary = {
        "state": state,
        "objective": objective,
        "likelihood": KINDS[objective],
        "seed": seed,
        "data_digest": data,
    }
    summary |= {"identity": f"{objective}{width}{seed}", "parameters": 1000} | (lines[-1] if lines else {})
    (path / "summary.json").write_text(json.dumps(summary))
    if sample is not None:
        (path / "sample.txt").write_text(sample)
    return path


def _line(step: int, flops: float, loss: float) -> dict[str, Any]:
    counts = {"step": step, "tokens": 100 * step, "targets": 50 * step, "bytes": 300 * step}
    counts |= {"flops": flops * step, "seconds": 0.5 * step}
    values = {"val/loss": loss, "val/bits_per_byte": loss / 3, "perf/peak_memory_bytes": 2_000_000}
    return {"step": step} | values | {f"progress/{name}": value for name, value in counts.items()}


def give_result(
    run: Path,
    exam: str = "continue",
    value: float = 2.0,
    *,
    step: int = 40,
    seed: int = 0,
    likelihood: str = "exact",
    given: tuple[str, ...] = ("left",),
    digest: str = "e" * 64,
    noise: float = 0.002,
    unit: str = "bits per byte",
    better: str | None = "lower",
    measure: str = "bits_per_byte",
    documents: int = DOCUMENTS,
    draws: int = 1,
    precision: str = "32-true",
    **rest: Any,
) -> None:
    """A result whose mean is about the value; documents are as hard for every run, and seeds differ by ``noise``."""
    hardness = np.random.default_rng(7).normal(0, 0.2, DOCUMENTS)[:documents]
    luck = np.random.default_rng(100 + seed).normal(0, noise)
    own = np.random.default_rng([seed, round(1000 * value)]).normal(0, noise, documents)
    weights = np.full(documents, 100.0)
    sums = weights * (value + hardness - hardness.mean() + luck + own)
    variances = np.full(documents, 0.01) if likelihood == "bound" else None
    result = Result(
        exam,
        digest,
        likelihood,  # type: ignore[arg-type]
        given,
        {measure: Measure(sums, weights, variances, unit, better)},  # type: ignore[arg-type]
        [f"document{index:02d}" for index in range(documents)],
        **rest,
    )
    StoredResult(result, step, {"draws": draws, "precision": precision}, 0.1).write(run)


def make_arm(
    root: Path, name: str, seeds: int, value: float, objective: str = "causal", exam: str = "continue", **settings: Any
) -> list[Path]:
    """Runs of several seeds that have taken an exam."""
    runs = []
    for seed in range(seeds):
        run = make_run(root / f"{name}{seed}", objective, seed, **settings)
        kind = "exact" if objective == "causal" else KINDS[objective]
        give_result(run, exam, value, seed=seed, likelihood=kind)
        runs.append(run)
    return runs
