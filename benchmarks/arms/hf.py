"""Hugging Face's ``Trainer`` with ``GPT2LMHeadModel``: no logging, no saving, no progress bar."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

from arms.settings import Settings
from harness.composed import composed_setup
from harness.laps import Laps


class Rows(Dataset[dict[str, Tensor]]):
    """Rows of a flat array of tokens. The model shifts its labels itself, so each row has one target fewer."""

    def __init__(self, tokens: np.ndarray, length: int) -> None:
        self.tokens, self.length = tokens, length

    def __len__(self) -> int:
        return len(self.tokens) // self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        start = index * self.length
        row = torch.from_numpy(self.tokens[start : start + self.length].astype(np.int64))
        return {"input_ids": row, "labels": row}


class Lap(TrainerCallback):
    """Tells the start of every step."""

    def __init__(self, laps: Laps) -> None:
        self.laps = laps

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Before the forward pass."""
        self.laps.step()


def run(settings: Settings, laps: Laps) -> None:
    """Train a model of the same shape on the same text with the same optimizer, clipping and kind of schedule."""
    setup = composed_setup(settings.overrides())
    shape = GPT2Config(
        vocab_size=settings.vocabulary,
        n_positions=settings.length,
        n_embd=settings.width,
        n_layer=settings.layers,
        n_head=settings.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
    )
    arguments = TrainingArguments(
        output_dir="hf",
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch,
        optim="adamw_torch_fused",
        learning_rate=1e-3,
        adam_beta2=0.95,
        weight_decay=0.1,
        max_grad_norm=1.0,
        lr_scheduler_type="cosine",
        warmup_steps=settings.steps // 20,
        bf16=settings.precision == "bf16-mixed",
        use_cpu=settings.device == "cpu",
        dataloader_pin_memory=settings.device == "cuda",
        logging_strategy="no",
        save_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    model = GPT2LMHeadModel(shape)
    laps.facts |= {"parameters": model.num_parameters(), "vocabulary": shape.vocab_size}
    rows = Rows(np.asarray(setup.prepared.train.tokens), settings.length)
    Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[Lap(laps)]).train()
