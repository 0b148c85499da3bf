"""Optimizers: recipes that a config names, built over a model's parameters."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ntp.config.types import NonNegativeFloat, PositiveFloat, PositiveInt, Probability

BASE_LEARNING_RATE = "base_lr"
"""In every parameter group: the learning rate before the schedule."""


def _trainable(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, one) for name, one in module.named_parameters() if one.requires_grad]


def _is_matrix(parameter: nn.Parameter) -> bool:
    return parameter.ndim >= 2


def _decay_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on matrices only: vectors are gains and biases, which decay would push away from where they are."""
    parameters = list(parameters)
    groups = [
        {"params": [one for one in parameters if _is_matrix(one)], "weight_decay": weight_decay},
        {"params": [one for one in parameters if not _is_matrix(one)], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def remember_learning_rate(optimizer: Optimizer) -> Optimizer:
    """Keep each group's learning rate as the one before the schedule; every `OptimizerRecipe` ends so."""
    for group in optimizer.param_groups:
        group[BASE_LEARNING_RATE] = group["lr"]
    return optimizer


class OptimizerRecipe(ABC):
    """What a config's ``optimizer`` node builds: it makes the optimizer once the model is there.

    Every parameter group keeps its learning rate before the schedule under `BASE_LEARNING_RATE`.
    """

    @abstractmethod
    def build(self, module: nn.Module) -> Optimizer:
        """The optimizer over all trainable parameters of ``module``."""


class AdamW(OptimizerRecipe):
    """AdamW (arXiv 1711.05101), fused, with decay on matrices only.

    Args:
        learning_rate: at the top of the schedule.
        betas: decay rates of the running averages.
        epsilon: added to the denominator.
        weight_decay: decoupled, on matrices.
    """

    def __init__(
        self,
        learning_rate: PositiveFloat = 1e-3,
        betas: tuple[Probability, Probability] = (0.9, 0.95),
        epsilon: PositiveFloat = 1e-8,
        weight_decay: NonNegativeFloat = 0.1,
    ) -> None:
        self.learning_rate, self.betas, self.epsilon, self.weight_decay = learning_rate, betas, epsilon, weight_decay

    def build(self, module: nn.Module) -> Optimizer:
        """The optimizer over all trainable parameters of ``module``."""
        parameters = (parameter for _, parameter in _trainable(module))
        return remember_learning_rate(self._adamw(_decay_groups(parameters, self.weight_decay)))

    def _adamw(self, groups: list[dict[str, Any]]) -> Optimizer:
        return torch.optim.AdamW(
            groups, lr=self.learning_rate, betas=(self.betas[0], self.betas[1]), eps=self.epsilon, fused=True
        )


class MuonWithAdamW(AdamW):
    """Muon for the matrices of the blocks, AdamW for everything else.

    Embeddings and head are matrices too, but their rows are looked up one by one; Muon's author leaves them to AdamW
    (https://kellerjordan.github.io/posts/muon). Muon's update is scaled to AdamW's root mean square
    (arXiv 2502.16982, section 2.2), so that both parts share one learning rate.

    Args:
        learning_rate: of both parts, at the top of the schedule.
        momentum: of Muon.
        newton_schulz_steps: iterations that orthogonalise an update.
        betas, epsilon: of AdamW.
        weight_decay: decoupled, on matrices.
    """

    def __init__(
        self,
        learning_rate: PositiveFloat = 2e-3,
        momentum: Probability = 0.95,
        newton_schulz_steps: PositiveInt = 5,
        betas: tuple[Probability, Probability] = (0.9, 0.95),
        epsilon: PositiveFloat = 1e-8,
        weight_decay: NonNegativeFloat = 0.1,
    ) -> None:
        super().__init__(learning_rate, betas, epsilon, weight_decay)
        self.momentum, self.newton_schulz_steps = momentum, newton_schulz_steps

    def build(self, module: nn.Module) -> Optimizer:
        """The optimizer over all trainable parameters of ``module``."""
        tables = {
            id(parameter)
            for part in module.modules()
            if isinstance(part, nn.Embedding)
            for parameter in part.parameters(recurse=False)
        }
        hidden: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in _trainable(module):
            is_hidden = parameter.ndim == 2 and id(parameter) not in tables and "head" not in name.split(".")
            (hidden if is_hidden else others).append(parameter)
        muon = torch.optim.Muon(
            hidden,
            lr=self.learning_rate,
            momentum=self.momentum,
            ns_steps=self.newton_schulz_steps,
            weight_decay=self.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
        return remember_learning_rate(CombinedOptimizer([muon, self._adamw(_decay_groups(others, self.weight_decay))]))


class CombinedOptimizer(Optimizer):
    """Several optimizers over different parameters, as one: Lightning's automatic optimization takes only one.

    Args:
        parts: the optimizers; their parameter groups stay their own.
    """

    def __init__(self, parts: list[Optimizer]) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], defaults={})
        # The groups are shared, not copied: a learning rate set here is the parts' learning rate.
        self.param_groups = [group for part in parts for group in part.param_groups]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of every part; the closure runs once, before them."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of all parts."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The parts' states, in order."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore every part."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]
