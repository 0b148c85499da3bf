"""Lightning's Trainer, as every run uses it."""

import logging
import os
import warnings
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers.logger import Logger

from ntp.config.errors import ConfigError
from ntp.training.checkpoint import Checkpoint
from ntp.training.checkpoint_store import CheckpointWriter
from ntp.training.setup import Setup
from ntp.training.sharding import EqualShares
from ntp.training.strategies import FullySharded, make_strategy

# What Lightning would say of hardware that is not there, of its products, and of its own internals.
for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.WARNING)
for message in (
    ".*LeafSpec.*",
    ".*does not have many workers.*",
    ".*`weights_only` was not set.*",
    ".*exists and is not empty.*",
    ".*logger supports TensorBoard.*",
    ".*dataloader is not resumable.*",  # it is: its sampler is told the step
    ".*sync_dist=True.*",  # what is logged is summed over devices already
):
    warnings.filterwarnings("ignore", message)


def make_trainer(
    setup: Setup, micro_batch_size: int, directory: Path, loggers: list[Logger], callbacks: list[Callback]
) -> Trainer:
    """A Trainer for one fit.

    Args:
        setup: parts of the run.
        micro_batch_size: rows that one device takes at a time.
        directory: of the run.
        loggers: that `PretrainingModule.write` sends to.
        callbacks: in the order in which they are called; Lightning puts checkpoints behind them.

    Raises:
        ConfigError: Lightning refuses it.
    """
    config, world_size = setup.config, setup.world_size
    trainer = config.trainer
    accumulate = config.data.batch_size // (micro_batch_size * world_size)
    every, steps = config.evaluation.every_steps, setup.budget.steps
    checkpoints = next((one for one in callbacks if isinstance(one, Checkpoint)), None)
    validates = every is not None and (steps is None or every <= steps)
    strategy = make_strategy(trainer, world_size, setup.optimizer, config.allow_targets)
    if isinstance(strategy, FullySharded):
        callbacks = [*callbacks, EqualShares()]  # behind `Stopping`, for which the devices meet after a batch
    try:
        return Trainer(
            accelerator=trainer.accelerator,
            devices=trainer.devices if trainer.accelerator != "auto" else _devices(setup),
            num_nodes=trainer.num_nodes,
            strategy=strategy,
            precision=trainer.precision,
            max_epochs=-1,
            max_steps=-1 if steps is None else steps,
            accumulate_grad_batches=accumulate,
            # In micro-batches. Lightning's epochs do not exist here: one epoch is the whole run.
            val_check_interval=every * accumulate if validates and every is not None else None,
            check_val_every_n_epoch=None if validates else 10**9,
            limit_val_batches=None if validates else 0,
            num_sanity_val_steps=0,
            inference_mode=False,  # weights that fsdp gathers in inference mode can't be trained with afterwards
            log_every_n_steps=1,  # unused: metrics go to the loggers in one call of our own
            use_distributed_sampler=False,
            deterministic=trainer.deterministic,
            default_root_dir=str(directory),
            logger=loggers,
            callbacks=callbacks,
            plugins=[checkpoints.plugin(directory) if checkpoints else CheckpointWriter()],
            profiler=_profiler(trainer.profiler, directory),
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=True,
        )
    except (ValueError, RuntimeError) as error:  # Lightning's own refusals are written for people
        raise ConfigError("trainer", str(error).splitlines()[0]) from error


class StepEnd(Callback):
    """Lets the module seed and log before any callback: Lightning's own hooks of it come after theirs."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """What other callbacks draw is then a function of the micro-batch too."""
        pl_module.seed_micro_batch(batch_idx)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Only behind the last micro-batch of an optimizer step."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            pl_module.end_step()


def _devices(setup: Setup) -> int:
    return setup.world_size // setup.config.trainer.num_nodes


def _profiler(name: str | None, directory: Path) -> Any:
    if name is None:
        return None
    from lightning.pytorch import profilers

    classes = {
        "simple": profilers.SimpleProfiler,
        "advanced": profilers.AdvancedProfiler,
        "pytorch": profilers.PyTorchProfiler,
    }
    return classes[name](dirpath=os.fspath(directory), filename="profile")
