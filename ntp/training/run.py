"""One run: Lightning's Trainer around the parts, and the run directory kept true whatever happens."""

import contextlib
import time
import warnings
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.throughput import get_available_flops
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.memory import garbage_collection_cuda
from rich.console import Console

from ntp.config.errors import ConfigError, RunFailed, RunStopped
from ntp.config.identity import identity
from ntp.config.instantiate import build
from ntp.data.module import TextDataModule
from ntp.data.rows import micro_batch_size
from ntp.models.base import LanguageModel
from ntp.models.flops import parameter_count
from ntp.objectives.base import Objective
from ntp.tracking.describe import relative
from ntp.tracking.metrics_file import METRICS, MetricsFile
from ntp.tracking.run_directory import RunDirectory
from ntp.training.checkpoint import CHECKPOINTS, Checkpoint
from ntp.training.checkpoint_store import LAST, CheckpointStore
from ntp.training.health import Health
from ntp.training.memory import is_out_of_memory, smaller_micro_batch, what_to_lower
from ntp.training.module import PretrainingModule
from ntp.training.progress_bar import ProgressBar
from ntp.training.pruning import Pruned, Pruning
from ntp.training.restore import read_checkpoint, restore_weights
from ntp.training.rewind import Rewind, go_back
from ntp.training.run_callback import RunCallback, prepare
from ntp.training.sample import Sample, write_sample
from ntp.training.setup import Setup, bind, build_model, build_objective
from ntp.training.sharding import is_sharded, units
from ntp.training.stopping import Stopping
from ntp.training.strategies import FSDP
from ntp.training.trainer import StepEnd, make_trainer
from ntp.training.watch import ending_together


class TrainingRun:
    """Trains what a `Setup` describes.

    Args:
        setup: the parts.
        directory: claimed by this run.
        plain: the resolved config, as plain containers.
        objective_name: as the user chose it.
        checkpoint: to go on from; None for a new run.

    Attributes:
        plan: what callbacks are about to do, as names and values.
    """

    def __init__(
        self,
        setup: Setup,
        directory: RunDirectory,
        plain: dict[str, Any],
        objective_name: str,
        checkpoint: Path | None = None,
    ) -> None:
        self.setup, self.directory, self.plain, self.objective_name = setup, directory, plain, objective_name
        self.checkpoint = checkpoint
        self.sample: Sample | None = None
        config = setup.config
        trainer = config.trainer
        if trainer.auto_micro_batch and setup.world_size > 1:
            raise ConfigError(
                "trainer.auto_micro_batch",
                f"works on one device, and this run has {setup.world_size}: give data.micro_batch_size",
            )
        torch.set_float32_matmul_precision(trainer.matmul_precision)
        self.data_config = config.data
        self.metrics = MetricsFile(directory.path / METRICS)
        self.loggers: list[Logger] = [self.metrics]
        self.loggers += [
            build(node, f"logger.{name}", allow=config.allow_targets) for name, node in config.logger.items()
        ]
        how_to_go_on = f"ntp train resume={relative(directory.path)}"
        if config.allow_targets:  # what a stored configuration allows itself counts for nothing
            how_to_go_on += f" 'allow_targets=[{','.join(config.allow_targets)}]'"
        self.stopping = Stopping(how_to_go_on, trainer.time_limit_minutes)
        self._assemble()
        held_out = len(self.data.validation_windows)
        for name in ("rows", "final_rows"):
            if min(getattr(config.evaluation, name) or held_out, held_out) < setup.world_size:
                raise ConfigError(
                    f"evaluation.{name}", f"there is less than one row for each of {setup.world_size} devices"
                )
        self._compile()

    def _assemble(self) -> None:
        """Whatever a fit leaves its traces in, anew; the model stays, and a checkpoint may tell its weights."""
        if is_sharded(self.setup.model):  # for the module that has been
            self.setup.model, self.setup.objective = self._fresh_parts()
            self._compile()
        setup, config = self.setup, self.setup.config
        trainer = config.trainer
        self.module = PretrainingModule(
            setup.model,
            setup.objective,
            setup.optimizer,
            setup.schedule,
            setup.budget,
            seed=config.seed,
            nominal_targets=setup.cost.tokens,
            gradient_clip_norm=trainer.gradient_clip_norm,
            log_every_steps=trainer.log_every_steps,
            validate_every_steps=config.evaluation.every_steps,
            peak_flops=_peak_flops(trainer.peak_teraflops, trainer.precision),
        )
        self.data = TextDataModule(
            setup.prepared, setup.objective, self.data_config, config.evaluation, config.seed, setup.budget.steps
        )
        self.module.kept_with_checkpoints.append(
            lambda: {"metric_lines": self.metrics.lines, "data_digest": setup.prepared.digest}
        )
        callbacks: list[Callback] = [
            build(node, f"callbacks.{name}", allow=config.allow_targets) for name, node in config.callbacks.items()
        ]
        if config.sweep.trial is not None:
            callbacks.append(Pruning(config.sweep.trial, config.sweep.metric))
        self._run_callbacks = [one for one in callbacks if isinstance(one, RunCallback)]
        self.plan = prepare(self._run_callbacks, setup, self.directory.path)
        health = [one for one in callbacks if isinstance(one, Health)]
        others = [one for one in callbacks if not isinstance(one, Health)]
        # What judges a step and what logs it come first, and what stops comes last: Lightning calls checkpoints behind
        # all of them.
        ordered = [*health, StepEnd(), ProgressBar(trainer.progress_bar), *others, self.stopping]
        self.trainer = make_trainer(setup, self._micro_batch_size, self.directory.path, self.loggers, ordered)

    def _compile(self) -> None:
        if self.setup.config.trainer.compile:
            # What is gathered by itself is compiled by itself.
            cut = self.setup.config.trainer.strategy == FSDP
            for part in chain.from_iterable(units(self.setup.model)) if cut else [self.setup.model]:
                part.compile()  # in place: the names in checkpoints stay as they are

    def _fresh_parts(self) -> tuple[LanguageModel, Objective]:
        """Model and objective as they were in the beginning, whole."""
        config, tokenizer, allow = self.setup.config, self.setup.prepared.tokenizer, self.setup.config.allow_targets
        length = config.data.sequence_length
        model = build_model(config.model, tokenizer.vocabulary_size, config.seed, length, allow)
        objective = build_objective(config.objective, allow)
        bind(objective, tokenizer, model, length, config.seed)
        return model, objective

    def train(self) -> None:
        """Fit, validate on all that is held out, write a sample, and leave a summary in every case."""
        state = "failed"
        started = time.perf_counter()
        try:
            self._summarize("running")
            for logger in self.loggers:
                if hasattr(logger, "start"):
                    logger.start(self.directory.path, self.plain, self.setup.config.tags, self.objective_name)
            with self.stopping.listening(), self._ending_together():
                self._fit()
                if self.trainer.interrupted:
                    raise KeyboardInterrupt
                self._final_validation()
                for callback in self._run_callbacks:
                    callback.on_run_end(self.trainer, self.module)
            self._write_sample()
            state = "finished"
        except Pruned:
            state = "pruned"
        except RunStopped:
            state = "stopped"
            raise
        except (KeyboardInterrupt, SystemExit) as stop:  # Lightning turns the first into the second
            state = "stopped"
            raise KeyboardInterrupt from stop
        except Exception as error:
            if is_out_of_memory(error):
                raise RunFailed(self._what_to_lower()) from error
            raise
        finally:
            self._close(state, time.perf_counter() - started)

    def _ending_together(self) -> AbstractContextManager[None]:
        timeout, how = self.setup.config.trainer.collective_timeout_minutes, self.stopping.how_to_go_on
        return ending_together(self.trainer.strategy, how, timeout, lambda: self._summarize("failed"))

    @property
    def _micro_batch_size(self) -> int:
        return micro_batch_size(self.data_config, self.setup.world_size)

    @property
    def _smaller_micro_batch(self) -> int | None:
        return smaller_micro_batch(self._micro_batch_size, self.data_config.batch_size // self.setup.world_size)

    @property
    def _store(self) -> CheckpointStore:
        stores = [one.store for one in self.trainer.checkpoint_callbacks if isinstance(one, Checkpoint)]
        return stores[0] if stores else CheckpointStore(self.directory.path / CHECKPOINTS)

    def _fit(self) -> None:
        """Fit, and fit again where `Health` wants to go back, or where memory is short and may be looked after."""
        while True:
            rewind = None
            try:
                self.trainer.fit(self.module, datamodule=self.data, ckpt_path=self.checkpoint, weights_only=True)
                return
            except Rewind as asked:
                rewind = asked.with_traceback(None)
            except Exception as error:
                if not (is_out_of_memory(error) and self._may_take_less()):
                    raise
            # Out here nothing holds on to what the step had allocated.
            if rewind is None:
                self._take_less()
            else:
                self._go_back(rewind)
            self._assemble()
            garbage_collection_cuda()

    def _go_back(self, rewind: Rewind) -> None:
        path = go_back(rewind, self._store, self.metrics.path) if self.trainer.is_global_zero else None
        self.checkpoint = self.trainer.strategy.broadcast(path)
        if self.checkpoint is None:
            raise RunFailed("the run was to go on from an earlier checkpoint, and none of them can be read")

    def _may_take_less(self) -> bool:
        # In the middle of an update there is no whole state, and what it needs does not depend on the rows.
        allowed = self.setup.config.trainer.auto_micro_batch and not self.module.is_updating
        return allowed and self._smaller_micro_batch is not None

    def _take_less(self) -> None:
        """Keep the state at the last optimizer step, and halve the micro-batch for a fit from there."""
        before, now, step = self._micro_batch_size, self._smaller_micro_batch, self.trainer.global_step
        self.module.zero_grad(set_to_none=True)
        garbage_collection_cuda()
        self.module.train()  # a validation may be what did not fit
        self.module.forget_step()
        if step:
            self.checkpoint = self._store.path(step)
            self.trainer.save_checkpoint(self.checkpoint, weights_only=False)
            self.trainer.strategy.checkpoint_io.teardown()  # waits for an asynchronous one
        self.data_config = self.data_config.model_copy(update={"micro_batch_size": now})
        Console(stderr=True, soft_wrap=True).print(
            f"out of memory at step {step + 1} with {before} rows at a time; going on with data.micro_batch_size={now}",
            highlight=False,
        )
        self._summarize("running", micro_batch_size=now)

    def _what_to_lower(self) -> str:
        return what_to_lower(
            self.trainer.global_step + 1,
            self._micro_batch_size,
            self._smaller_micro_batch,
            self.data_config,
            alone=self.setup.world_size == 1,
            updating=self.module.is_updating,
        )

    def _final_validation(self) -> None:
        evaluation = self.setup.config.evaluation
        self.trainer.limit_val_batches = 1.0
        if self.module.validated_step != self.trainer.global_step:
            self.trainer.validate(self.module, datamodule=self.data, verbose=False)
        if evaluation.final_rows != evaluation.rows:
            self.data.final = True
            self.trainer.validate(self.module, datamodule=self.data, verbose=False)

    def _write_sample(self) -> None:
        setup = self.setup
        if (
            not setup.config.evaluation.sample_tokens
            or not setup.objective.inference
            or not self.trainer.is_global_zero
        ):
            return
        model, objective = setup.model, setup.objective
        if is_sharded(model):
            last = self._store.directory / LAST
            if not last.is_file():
                warnings.warn("no sample was written: weights on several devices, and no checkpoint", stacklevel=2)
                return
            model, objective = self._fresh_parts()
            restore_weights({"model": model, "objective": objective}, read_checkpoint(last, "callbacks.checkpoint"), "")
        # Lightning has put the model back on the CPU.
        self.sample = write_sample(setup, model, objective, self.trainer.strategy.root_device)
        if self.sample is not None:
            self.directory.write_sample("".join(self.sample))

    def _summarize(self, state: Any, **values: Any) -> None:
        if self.trainer.is_global_zero:
            setup = self.setup
            self.directory.update_summary(
                state,
                identity=identity(self.plain),
                objective=self.objective_name,
                likelihood=setup.objective.likelihood,
                parameters=parameter_count(setup.model) + parameter_count(setup.objective),
                seed=setup.config.seed,
                tags=setup.config.tags,
                data_digest=setup.prepared.digest,
                **values,
            )

    def _close(self, state: str, seconds: float) -> None:
        latest = self.module.latest
        training_seconds = self.module.progress.seconds
        speed = self.module.progress.tokens / training_seconds if training_seconds else 0.0
        with contextlib.suppress(OSError):  # a full disk: what failed first is what should be told
            remarks = self.module.remarks
            self._summarize(state, **latest, **remarks, total_seconds=seconds, mean_tokens_per_second=speed)
        for logger in self.loggers:
            if hasattr(logger, "summarize"):
                logger.summarize(latest)
            if hasattr(logger, "finish"):
                logger.finish(failed=state not in ("finished", "pruned"))


def _peak_flops(teraflops: float | None, precision: str) -> float | None:
    if teraflops is not None:
        return teraflops * 1e12
    if not torch.cuda.is_available():
        return None
    dtype = torch.float32 if precision == "32-true" else torch.bfloat16
    return get_available_flops(torch.device("cuda"), dtype)
