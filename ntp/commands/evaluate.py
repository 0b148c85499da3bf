"""``ntp evaluate``: measure a trained run on its validation text or on any other data."""

import json
import sys
import time
from datetime import UTC, datetime

from omegaconf import DictConfig
from rich.console import Console

from ntp.commands.composed import overrides
from ntp.config.instantiate import build
from ntp.config.schema import EvaluateConfig
from ntp.config.validation import resolve, validate
from ntp.data.corpora import Corpus
from ntp.data.prepare import prepare_text
from ntp.data.store import TokenStore
from ntp.evaluation.likelihood import evaluate_rows
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
    store, split = _text(typed, trained)
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
        draws=typed.draws,
    )
    seconds = time.perf_counter() - started
    record = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "checkpoint": typed.checkpoint,
        "step": trained.step,
        "overrides": overrides(),
        "split": split,
        "likelihood": trained.objective.likelihood,
        "draws": typed.draws,
        **metrics,
    }
    facts(
        [
            ("run", f"{trained.path}, {typed.checkpoint} checkpoint, step {trained.step:,}"),
            ("text", f"{split}: {short(store.total_bytes, 'B')}, {short(len(store))} tokens"),
            *results(metrics, trained.objective.likelihood),
            ("targets", f"{int(metrics['targets']):,}{_passes(typed.draws)} in {seconds:.1f} s"),
        ],
        Console(),
    )
    try:
        with open(trained.path / "evaluations.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(json_safe(record)) + "\n")
    except OSError as error:  # somebody else's run, or a full disk: the numbers are on the screen
        print(f"not kept in {trained.path}: {error.strerror}", file=sys.stderr)
    return metrics


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
