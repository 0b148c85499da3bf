"""A run that reads what another one has written, and says how likely it finds it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from ntp.config.errors import ConfigError
from ntp.evaluation.candidate import Candidate
from ntp.evaluation.examinee import TextQuestion
from ntp.evaluation.exams.result import Measure
from ntp.evaluation.exams.writing import Blank, Samples
from ntp.objectives.question import Way
from ntp.training.checkpoint import CHECKPOINTS
from ntp.training.checkpoint_store import BEST
from ntp.training.load import load_run
from ntp.training.setup import build_objective
from ntp.training.stored_config import read_stored_config, typed_config


def judge_checkpoint(path: str) -> Path:
    """The weights that a run judges with."""
    return Path(path).expanduser() / CHECKPOINTS / BEST


def check_judge(path: str, key: str) -> None:
    """Whether a run can be a judge, as far as that is known without its weights.

    Args:
        path: of the run's directory.
        key: of the config, for messages.

    Raises:
        ConfigError: there is no such run, it has no checkpoint, or its objective cannot say how likely a continuation
            is.
    """
    with _blamed_on(key):
        content = read_stored_config(Path(path).expanduser(), key)
        config = typed_config(content, key, [], "model", "objective", "data")
        objective = build_objective(config.objective, [])
    if not judge_checkpoint(path).is_file():
        raise ConfigError(key, f"{path} has no {CHECKPOINTS}/{BEST} to judge with")
    if objective.respondent("continue").ways.get("continue") is None:
        raise _cannot(path, key)


def load_judge(path: str, examinee: Candidate, key: str) -> Candidate:
    """Another run, asked as this one is.

    Raises:
        ConfigError: there is no such run, or its objective cannot say how likely a continuation is.
    """
    with _blamed_on(key):
        run = load_run(str(Path(path).expanduser()), "best", [], examinee.device)
    judge = replace(
        examinee,
        model=run.model,
        objective=run.objective,
        tokenizer=run.tokenizer,
        isolated=run.config.data.documents == "isolate",
        room=run.config.data.sequence_length,
        training_text=None,
        untrained=None,
    )
    if judge.way("continue") is None:
        raise _cannot(path, key)
    return judge


def judge_way(judge: Candidate) -> Way:
    """How the judge answers; `load_judge` has seen that it does."""
    way = judge.way("continue")
    assert way is not None
    return way


def judged(judge: Candidate, blanks: Sequence[Blank], samples: Samples) -> Measure:
    """Bits per byte of what was written, each given what stood before it; its end is not asked for."""
    asked = [
        (number, TextQuestion("continue", blank.before, text, ends=False))
        for number, (blank, texts) in enumerate(zip(blanks, samples, strict=True))
        for text in texts
        if text
    ]
    sums, weights, variances = np.zeros((3, len(blanks)))
    if asked:
        scores = judge.score([question for _, question in asked])
        for (number, question), nats, variance in zip(asked, scores.nats, scores.variances, strict=True):
            if not math.isnan(nats):
                sums[number] += nats / math.log(2)
                weights[number] += question.target_bytes
                variances[number] += variance / math.log(2) ** 2
    return Measure(sums, weights, variances if judge_way(judge).drawn else None, "bits per byte of the judge's", None)


@contextmanager
def _blamed_on(key: str) -> Iterator[None]:
    """What is wrong with a run is wrong with the key that names it."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(key, error.problem) from error


def _cannot(path: str, key: str) -> ConfigError:
    return ConfigError(key, f"the objective of {path} cannot say how likely a continuation is; take another run")


def fingerprint(path: Path, key: str) -> str:
    """SHA-256 of a file, or of all files of a directory with their names.

    Raises:
        ConfigError: there is nothing.
    """
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    try:
        for one in files:
            with one.open("rb") as file:
                digest.update(one.name.encode() + hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise ConfigError(key, f"{error.filename} cannot be read: {error.strerror}") from error
    return digest.hexdigest()
