"""Fully sharded data parallelism: each device keeps a part of every weight, its gradient and its optimizer state.

A block's matrices are gathered when the block runs and dropped behind it; what lies outside of blocks (embeddings,
norms, heads) is gathered for a whole step, because objectives use it outside of the model's forward.
"""

from collections.abc import Mapping
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from ntp.models.blocks import Block
from ntp.objectives.base import Objective

_STEPS = ("training_step", "validation_step")


def shard(module: LightningModule, objective: Objective, mesh: DeviceMesh, mixed: bool) -> None:
    """Cut all weights of a module over the devices of a mesh, in place; nothing happens the second time.

    Args:
        module: whose ``training_step`` and ``validation_step`` are the only places where weights are used.
        objective: of the module.
        mesh: of one dimension.
        mixed: gather matrices of blocks as bfloat16. Autocast would gather float32, and keep its bfloat16 copies of all
            blocks until the backward pass.
    """
    if isinstance(module, FSDPModule):
        return
    policy = MixedPrecisionPolicy()
    if mixed:
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    if _steps_alike(objective):
        for unit in units(module):
            fully_shard(unit, mesh=mesh, mp_policy=policy)
    fully_shard(module, mesh=mesh)
    for name in _STEPS:
        register_fsdp_forward_method(module, name)


def units(module: nn.Module) -> list[list[nn.Module]]:
    """What is gathered at a time: the parts of each block that hold matrices.

    Norms are left to the rest of the module: they are small, and stay float32 in mixed precision.
    """
    blocks = [one for one in module.modules() if isinstance(one, Block)]
    return [[part for part in block.children() if _holds_matrices(part)] for block in blocks]


def _holds_matrices(module: nn.Module) -> bool:
    return any(one.ndim >= 2 for one in module.parameters())


def _steps_alike(objective: Objective) -> bool:
    """Whether all devices run the same blocks equally often.

    Where an objective is made of others, some of which run the model by themselves, that depends on the rows. Then
    everything is gathered once a step; waiting for each other in every block would never end.
    """
    parts = [one for one in objective.modules() if isinstance(one, Objective) and one is not objective]
    return all(type(one).loss is Objective.loss for one in parts)


def is_sharded(module: nn.Module) -> bool:
    """Whether a module's weights are cut."""
    return any(isinstance(one, DTensor) for one in module.parameters())


def whole(value: Any) -> Any:
    """A tensor that is cut over devices, put together on each of them; anything else as it is."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def gathered(state: Any, keep: bool) -> Any:
    """State of a module or an optimizer as one process alone would have it, on the CPU; all devices must call it.

    Args:
        state: nested dicts and lists.
        keep: whether this process needs it; the others only take part, and get an empty shell.
    """
    if isinstance(state, Mapping):
        return {name: gathered(value, keep) for name, value in state.items()}
    if isinstance(state, list):
        return [gathered(value, keep) for value in state]
    if not isinstance(state, Tensor):
        return state
    value = whole(state.detach())
    return value.cpu() if keep else None


def load_weights(module: nn.Module, state: Mapping[str, Tensor], strict: bool) -> None:
    """Load the state dict of a whole module into one that is cut."""
    own = module.state_dict()
    module.load_state_dict({name: _cut_like(own.get(name), value) for name, value in state.items()}, strict=strict)


def load_optimizer(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Load the state dict of an optimizer over whole parameters into one over parameters that are cut."""
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    cut = {
        number: {name: _cut_like(parameter, value) for name, value in state["state"][number].items()}
        for number, parameter in zip(numbers, parameters, strict=True)
        if number in state["state"]
    }
    optimizer.load_state_dict({**state, "state": cut})


def _cut_like(own: Any, value: Any) -> Any:
    """This device's part of a whole tensor, if it belongs to one that is cut; numbers such as a step belong to all."""
    if not isinstance(own, DTensor) or not isinstance(value, Tensor) or value.shape != own.shape:
        return value
    # Every device has read the file: nothing needs to be sent.
    return distribute_tensor(value.to(own.device), own.device_mesh, own.placements, src_data_rank=None)


class EqualShares(Callback):
    """Lets a device whose share of the validation rows has fewer batches than others run its last one once more.

    All devices put the weights together in every forward: one that came less often would keep the others waiting.
    """

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Learn how many batches the others have, while nobody is in a forward."""
        self._own = int(sum(trainer.num_val_batches))
        self._most = max(pl_module.gather(self._own))

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Behind the last one."""
        if batch_idx + 1 == self._own:
            for _ in range(self._most - self._own):
                pl_module.keep_company(batch)
