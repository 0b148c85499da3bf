"""``ntp evaluate``: measure a trained run on its validation text or on any other data."""

import json
import sys
import time
from datetime import UTC, datetime

import torch
from omegaconf import DictConfig
from rich.console import Console

from ntp.commands.composed import overrides
from ntp.config.errors import ConfigError
from ntp.config.instantiate import build
from ntp.config.schema import EXAM_DRAWS, EvaluateConfig
from ntp.config.validation import resolve, validate
from ntp.data.corpora import Corpus
from ntp.data.prepare import prepare_text
from ntp.data.store import TokenStore
from ntp.evaluation.keeping import keep
from ntp.evaluation.likelihood import evaluate_rows
from ntp.evaluation.printing import print_result
from ntp.evaluation.taking import candidate_of, prepare_exams, take
from ntp.tracking.describe import facts, short
from ntp.tracking.results import results
from ntp.tracking.run_directory import json_safe
from ntp.tracking.tree import print_config
from ntp.training.load import Run, choose_device, load_run


def run(config: DictConfig) -> dict[str, float]:
    """Print loss, perplexity, bits per token and bits per byte, and append them to ``evaluations.jsonl`` of the run.

    Raises:
        ConfigError: there is no such run or no such data.
    """
    typed = validate(config, EvaluateConfig)
    if typed.print_config:
        print_config(resolve(config))
    device = choose_device(typed.accelerator)
    trained = load_run(typed.run, typed.checkpoint, typed.allow_targets, device)
    if typed.evaluation.exams:
        return _take_exams(typed, trained, device)
    store, split = _text(typed, trained)
    draws = typed.draws or 1
    started = time.perf_counter()
    metrics = evaluate_rows(
        trained.model,
        trained.objective,
        trained.tokenizer,
        store,
        trained.config.data,
        rows=typed.rows,
        batch_size=typed.batch_size,
        seed=trained.config.seed if typed.seed is None else typed.seed,
        precision=typed.precision,
        device=device,
        draws=draws,
    )
    seconds = time.perf_counter() - started
    record = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "checkpoint": typed.checkpoint,
        "step": trained.step,
        "overrides": overrides(),
        "split": split,
        "likelihood": trained.objective.likelihood,
        "draws": draws,
        **metrics,
    }
    facts(
        [
            ("run", f"{trained.path}, {typed.checkpoint} checkpoint, step {trained.step:,}"),
            ("text", f"{split}: {short(store.total_bytes, 'B')}, {short(len(store))} tokens"),
            *results(metrics, trained.objective.likelihood),
            ("targets", f"{int(metrics['targets']):,}{_passes(draws)} in {seconds:.1f} s"),
        ],
        Console(),
    )
    try:
        with open(trained.path / "evaluations.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(json_safe(record)) + "\n")
    except OSError as error:  # somebody else's run, or a full disk: the numbers are on the screen
        print(f"not kept in {trained.path}: {error.strerror}", file=sys.stderr)
    return metrics


def _take_exams(config: EvaluateConfig, trained: Run, device: torch.device) -> dict[str, float]:
    """Print what comes of each exam, and keep it in ``exams/`` of the run.

    Raises:
        ConfigError: there is nothing to ask.
    """
    data = trained.config.data if config.data is None else config.data
    if config.split is not None:
        raise ConfigError("split", "exams are about what is held out; leave it out")
    if config.rows is not None:
        raise ConfigError("rows", "exams ask questions; fewer of them with evaluation.exams.<exam>.documents")
    exams = prepare_exams(config.evaluation.exams, data, config.allow_targets)
    candidate = candidate_of(
        trained,
        draws=config.draws or EXAM_DRAWS,
        precision=config.precision,
        device=device,
        batch_size=config.batch_size,
        seed=config.seed,
    )
    console = Console()
    facts([("run", f"{trained.path}, {config.checkpoint} checkpoint, step {trained.step:,}")], console)
    numbers: dict[str, float] = {}
    for stored in take(exams, candidate, trained.step):
        print_result(stored, console)
        numbers |= {f"{stored.result.exam}/{name}": one.value for name, one in stored.result.measures.items()}
        try:
            keep(stored, trained.path, "run")
        except ConfigError as error:  # somebody else's run, or a full disk: the numbers are on the screen
            print(error.problem, file=sys.stderr)
    return numbers


def _passes(draws: int) -> str:
    return "" if draws == 1 else f" a pass, {draws} passes"


def _text(config: EvaluateConfig, trained: Run) -> tuple[TokenStore, str]:
    data = trained.config.data if config.data is None else config.data
    split = config.split or ("validation" if config.data is None else "all")
    corpus = build(data.corpus, "data.corpus", base=Corpus, allow=config.allow_targets)
    store = prepare_text(
        corpus,
        trained.tokenizer,
        split=split,
        validation=data.validation,
        validation_fraction=data.validation_fraction,
        cache_dir=data.cache_dir,
    )
    return store, split
