"""How the devices of a run work together: Lightning's strategies, with the few things that ntp needs of them."""

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ntp.config.errors import ConfigError
from ntp.config.instantiate import build
from ntp.config.schema import TrainerConfig
from ntp.training.launcher import Launcher
from ntp.training.optimizers import MuonWithAdamW, OptimizerRecipe
from ntp.training.sharding import gathered, load_optimizer, load_weights

DDP, FSDP = "ddp", "fsdp"
"""Names of ntp's own strategies; any other is Lightning's."""


class DataParallel(DDPStrategy):
    """``ddp``: each device has the whole model, and gradients are averaged while they are computed."""

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = Launcher(self.cluster_environment, self.num_processes, self.num_nodes)

    def _setup_model(self, model: nn.Module) -> DistributedDataParallel:
        wrapped = super()._setup_model(model)
        # What checkpoints leave out is constant: to send it from the first device before each forward changes nothing.
        kept = model.state_dict()
        wrapped.broadcast_buffers = any(name in kept for name, _ in model.named_buffers())
        return wrapped


class FullySharded(ModelParallelStrategy):
    """``fsdp``: FSDP2. The module cuts itself (`ntp.training.sharding.shard`); checkpoints hold what one process would
    write, so that any strategy goes on with those of any other.

    Args:
        world_size: devices, over all machines.
        timeout: how long one may wait for another.
    """

    def __init__(self, world_size: int, timeout: timedelta) -> None:
        super().__init__(
            data_parallel_size=world_size, tensor_parallel_size=1, save_distributed_checkpoint=False, timeout=timeout
        )

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = Launcher(self.cluster_environment, self.num_processes, self.num_nodes)

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Like any other strategy, from a checkpoint that has been read."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The whole weights, on the first device."""
        assert self.lightning_module is not None
        state: dict[str, Any] = gathered(self.lightning_module.state_dict(), keep=self.is_global_zero)
        return state

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The whole state of an optimizer, on the first device, by numbers in the order of its own groups."""
        state: dict[str, Any] = gathered(optimizer.state_dict(), keep=self.is_global_zero)
        return state

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = True) -> dict[str, Any]:
        """Through the run's own door to checkpoint files; Lightning's FSDP goes around it."""
        return Strategy.load_checkpoint(self, checkpoint_path, weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """This device's part of the weights."""
        assert self.lightning_module is not None
        load_weights(self.lightning_module, checkpoint["state_dict"], strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """This device's part of the state of each optimizer."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            load_optimizer(optimizer, state)

    def teardown(self) -> None:
        """Wait for checkpoints that are still being written, too."""
        super().teardown()
        self.checkpoint_io.teardown()


def make_strategy(config: TrainerConfig, world_size: int, optimizer: OptimizerRecipe, allow: list[str]) -> Any:
    """What Lightning's Trainer takes as its strategy.

    Args:
        config: the ``trainer`` node.
        world_size: devices, over all machines.
        optimizer: what the run trains with.
        allow: packages that the user trusts.

    Raises:
        ConfigError: torchrun or SLURM started another number of processes, or the optimizer needs whole matrices.
    """
    _check_processes(world_size)
    timeout = timedelta(minutes=config.collective_timeout_minutes)
    name = config.strategy
    if not isinstance(name, str):
        return build(name, "trainer.strategy", allow=allow)
    if name == DDP or (name == "auto" and world_size > 1):
        return DataParallel(timeout=timeout)
    if name == FSDP:
        if isinstance(optimizer, MuonWithAdamW):
            raise ConfigError("optimizer", "muon turns whole matrices, which fsdp cuts; take adamw, or trainer=ddp")
        return FullySharded(world_size, timeout)
    return name


def _check_processes(world_size: int) -> None:
    counts = (
        ("torchrun", TorchElasticEnvironment.detect(), "WORLD_SIZE"),
        ("srun", SLURMEnvironment.detect(), "SLURM_STEP_NUM_TASKS"),
    )
    for starter, is_used, count in counts:
        started = int(os.environ.get(count, world_size))
        if is_used and started != world_size:
            raise ConfigError(
                "trainer.devices",
                f"{world_size} in all (trainer.devices * trainer.num_nodes), but {starter} has started {started} "
                "processes; each device takes one",
            )
