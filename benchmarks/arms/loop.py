"""The loop that everybody writes first: rows at random from one array, AdamW, clipping, a schedule, no logging."""

import contextlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from harness.laps import Laps
from ntp.config.instantiate import build
from ntp.models.flops import parameter_count
from ntp.training.optimizers import BASE_LEARNING_RATE
from ntp.training.setup import Setup

Loss = Callable[[Tensor, Tensor], Tensor]
"""Mean loss of inputs and targets, both [B, L]."""


def train(model: nn.Module, loss_of: Loss, setup: Setup, laps: Laps, device: str) -> None:
    """Train with the optimizer, the clipping and the schedule of a run, until the laps end."""
    config = setup.config
    model.to(device).train()
    optimizer = build(config.optimizer, "optimizer").build(model)
    schedule = build(config.schedule, "schedule")
    steps, clip = setup.budget.steps, config.trainer.gradient_clip_norm
    assert steps is not None
    assert clip is not None
    mixed = config.trainer.precision == "bf16-mixed"
    # nanoGPT's rows (https://github.com/karpathy/nanoGPT, get_batch): anywhere in the text, with replacement.
    tokens = setup.prepared.train.tokens
    batch, length = config.data.batch_size, config.data.sequence_length
    rng = np.random.default_rng(config.seed)
    window = np.arange(length + 1)
    laps.facts |= {"parameters": parameter_count(model), "vocabulary": setup.prepared.tokenizer.vocabulary_size}

    for step in range(1, steps + 1):
        laps.step()
        starts = rng.integers(len(tokens) - length, size=batch)
        rows = torch.from_numpy(tokens[starts[:, None] + window].astype(np.int64))
        if device == "cuda":
            rows = rows.pin_memory().to(device, non_blocking=True)
        factor = schedule.factor(step, step / steps)
        for group in optimizer.param_groups:
            group["lr"] = group[BASE_LEARNING_RATE] * factor
        with torch.autocast(device, torch.bfloat16) if mixed else contextlib.nullcontext():
            loss = loss_of(rows[:, :-1], rows[:, 1:])
        loss.backward()
        clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
