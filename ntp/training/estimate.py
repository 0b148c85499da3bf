"""What a run will take, before it runs."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ntp.data.example import Batch
from ntp.models.base import LanguageModel
from ntp.models.flops import parameter_count
from ntp.training.setup import Setup

_ADAM_STATES = 2


@dataclass(frozen=True)
class Memory:
    """Bytes on one device.

    Attributes:
        weights: parameters.
        gradients: one number a parameter.
        optimizer: two running averages a parameter.
        activations: what the backward pass of one micro-batch keeps.
        logits: float32 scores of the targets of one micro-batch and their gradient, as far as they are held at once.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits


def estimate_memory(setup: Setup, micro_batch: int) -> Memory:
    """Memory of training: exact for weights, gradients and optimizer, measured on shapes alone for activations.

    Args:
        setup: with its model on the ``meta`` device.
        micro_batch: rows that one device takes at a time.
    """
    from ntp.models.head import LOGITS_LIMIT

    precision, model = setup.config.trainer.precision, setup.model
    parameters = parameter_count(model) + parameter_count(setup.objective)
    weight_width = 2 if precision == "bf16-true" else 4
    activations = _saved_bytes(model, setup.sample_batch) * micro_batch
    if precision != "32-true":
        activations //= 2
    batch = setup.sample_batch
    targets = batch.target_count * micro_batch // batch.rows
    logits = min(2 * 4 * targets * model.vocabulary_size, 2 * LOGITS_LIMIT)
    return Memory(
        weights=parameters * weight_width,
        gradients=parameters * weight_width,
        optimizer=parameters * weight_width * _ADAM_STATES,
        activations=activations,
        logits=logits,
    )


def _saved_bytes(model: LanguageModel, batch: Batch) -> int:
    """Bytes that autograd keeps for the backward pass of one row, in float32, beside the weights.

    A model that takes rows apart as their orders and segments say is shown those of the batch, on the host, where it
    can read them; rows are then as long as the longest makes them. For any other the rule changes nothing.
    """
    weights = {id(parameter) for parameter in model.parameters()}
    seen: dict[int, int] = {}
    keep: list[Tensor] = []  # so that no storage's identity is used twice

    def pack(tensor: Tensor) -> Tensor:
        base = tensor._base if tensor._base is not None else tensor
        if id(base) not in weights:
            keep.append(base)
            seen[base.untyped_storage()._cdata] = base.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        if "causal" in model.attentions:
            model(batch.tokens[:1].to("meta"))
            return sum(seen.values())
        model(
            batch.tokens.to("meta"),
            attention=batch.attention,
            order=batch.order,
            segments=batch.segments,
            private=batch.private,
            positions=None if batch.positions is None else batch.positions.to("meta"),
        )
    return sum(seen.values()) // batch.rows
