"""The objective's own loss on a text, as a number that can be read, and how sure that number is."""

import math
from statistics import fmean, stdev

import torch

from ntp.config.schema import DataConfig
from ntp.data.datasets import BatchMaker, FixedRows
from ntp.data.rows import text_windows
from ntp.data.store import TokenStore
from ntp.data.tokenizers import Tokenizer
from ntp.models.base import LanguageModel
from ntp.objectives.base import Objective
from ntp.tracking.results import STANDARD_ERROR
from ntp.training.metrics import Totals


@torch.inference_mode()
def evaluate_rows(
    model: LanguageModel,
    objective: Objective,
    tokenizer: Tokenizer,
    store: TokenStore,
    data: DataConfig,
    *,
    rows: int | None,
    batch_size: int | None,
    seed: int,
    precision: str,
    device: torch.device,
    draws: int = 1,
) -> dict[str, float]:
    """Loss, perplexity, bits per token and byte over the rows of a text, each predicted once, or ``draws`` times.

    Each pass is an unbiased estimate of the same quantity of the same text, such as the bound of a diffusion model:
    the passes differ in nothing but the corruption, which is drawn anew. The error of their mean is that of the
    estimate alone. How much another text of the same kind would differ is another question, to which it is no answer.
    An objective that draws nothing has an error of 0.

    Args:
        model, objective, tokenizer: of a run, in evaluation mode, on ``device``.
        store: the text as the run's tokens.
        data: how the run cuts rows.
        rows: how many, spread evenly over the text; None for all.
        batch_size: rows at a time; None for the run's micro-batch.
        seed: of the corruption.
        precision: arithmetic, by Lightning's names.
        device: where.
        draws: passes over the text, the first of them with the corruption that validation has.

    Returns:
        The means of `ntp.training.metrics.Totals` over the passes, and ``targets``, ``bytes`` and ``rows`` of a pass.
        With several passes, each mean also has its standard error as ``<name>_stderr``.
    """
    make_batch = BatchMaker(objective, data.sequence_length, tokenizer.token_bytes, tokenizer.padding)
    windows = text_windows(store, objective, data)
    size = batch_size or data.micro_batch_size or data.batch_size
    if precision == "bf16-true":
        model, objective = model.to(torch.bfloat16), objective.to(torch.bfloat16)
    passes = []
    for repetition in range(draws):
        examples = FixedRows(windows, rows, seed, data.batch_size, make_batch, repetition)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16-mixed"):
            passes.append(_one_pass(model, objective, examples, size, device))
    means = [one for one, _, _ in passes]
    return (means[0] if draws == 1 else mean_and_error(means)) | {
        "targets": round(fmean(targets for _, targets, _ in passes)),
        "bytes": round(fmean(target_bytes for _, _, target_bytes in passes)),
        "rows": len(examples),
    }


def _one_pass(
    model: LanguageModel, objective: Objective, examples: FixedRows, size: int, device: torch.device
) -> tuple[dict[str, float], int, int]:
    """Means, targets and bytes."""
    totals, targets, target_bytes = Totals(), 0, 0
    for start in range(0, len(examples), size):
        batch = examples.__getitems__(list(range(start, min(start + size, len(examples))))).to(device)
        totals.add(objective.loss(model, batch))
        targets += batch.target_count
        target_bytes += batch.target_bytes
    return totals.means(lambda value: [value]), targets, target_bytes


def mean_and_error(passes: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each number that all passes have, and its standard error.

    Args:
        passes: at least two.

    Returns:
        Each number by its name, and its error by the name with `STANDARD_ERROR`. Perplexity is not averaged: it is e to
        the mean number of nats, which has a meaning, and its error follows from theirs to first order.
    """
    named: dict[str, float] = {}
    for name in passes[0]:
        values = [one[name] for one in passes if name in one]
        if len(values) == len(passes) and name != "perplexity":
            named[name] = fmean(values)
            named[name + STANDARD_ERROR] = stdev(values) / math.sqrt(len(values))
    if "perplexity" in passes[0] and "bits_per_token" in named:
        nats = named["bits_per_token"] * math.log(2)
        perplexity = math.exp(nats) if nats < 700 else math.inf
        named["perplexity"] = perplexity
        named["perplexity" + STANDARD_ERROR] = perplexity * math.log(2) * named["bits_per_token" + STANDARD_ERROR]
    return named
