"""The objective's own loss on a text, as a number that can be read."""

import torch

from ntp.config.schema import DataConfig
from ntp.data.datasets import BatchMaker, FixedRows
from ntp.data.rows import text_windows
from ntp.data.store import TokenStore
from ntp.data.tokenizers import Tokenizer
from ntp.models.base import LanguageModel
from ntp.objectives.base import Objective
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
) -> dict[str, float]:
    """Loss, perplexity, bits per token and byte over the rows of a text, each predicted once.

    Args:
        model, objective, tokenizer: of a run, in evaluation mode, on ``device``.
        store: the text as the run's tokens.
        data: how the run cuts rows.
        rows: how many, spread evenly over the text; None for all.
        batch_size: rows at a time; None for the run's micro-batch.
        seed: of the corruption.
        precision: arithmetic, by Lightning's names.
        device: where.

    Returns:
        The means of `ntp.training.metrics.Totals`, and ``targets``, ``bytes``, ``rows``.
    """
    make_batch = BatchMaker(objective, data.sequence_length, tokenizer.token_bytes, tokenizer.padding)
    windows = text_windows(store, objective, data)
    examples = FixedRows(windows, rows, seed, data.batch_size, make_batch)
    size = batch_size or data.micro_batch_size or data.batch_size
    if precision == "bf16-true":
        model = model.to(torch.bfloat16)
    totals, targets, target_bytes = Totals(), 0, 0
    for start in range(0, len(examples), size):
        batch = examples.__getitems__(list(range(start, min(start + size, len(examples))))).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16-mixed"):
            totals.add(objective.loss(model, batch))
        targets += batch.target_count
        target_bytes += batch.target_bytes
    means = totals.means(lambda value: [value])
    return means | {"targets": targets, "bytes": target_bytes, "rows": len(examples)}
