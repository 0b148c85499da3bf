"""One run: Lightning's Trainer around the parts, and the run directory kept true whatever happens."""

import contextlib
import logging
import os
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.fabric.utilities.throughput import get_available_flops
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers.logger import Logger

from ntp.config.errors import ConfigError, RunStopped
from ntp.config.identity import identity
from ntp.config.instantiate import build
from ntp.data.module import TextDataModule
from ntp.data.rows import micro_batch_size
from ntp.generation.answer import Request, answer
from ntp.generation.sampling import Sampling
from ntp.models.flops import parameter_count
from ntp.tracking.describe import relative
from ntp.tracking.metrics_file import METRICS, MetricsFile
from ntp.tracking.run_directory import RunDirectory
from ntp.training.checkpoint import Checkpoint
from ntp.training.checkpoint_store import CheckpointWriter
from ntp.training.module import PretrainingModule
from ntp.training.progress_bar import ProgressBar
from ntp.training.setup import Setup
from ntp.training.stopping import Stopping

SAMPLE_PROMPT_TOKENS, SAMPLE_TEMPERATURE = 32, 0.8

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
):
    warnings.filterwarnings("ignore", message)


class TrainingRun:
    """Trains what a `Setup` describes.

    Args:
        setup: the parts.
        directory: claimed by this run.
        plain: the resolved config, as plain containers.
        objective_name: as the user chose it.
        checkpoint: to go on from; None for a new run.
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
        self.sample: tuple[str, str, str] | None = None  # a text, of which the second part is the model's
        config = setup.config
        allow = config.allow_targets
        trainer = config.trainer
        torch.set_float32_matmul_precision(trainer.matmul_precision)
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
            setup.prepared, setup.objective, config.data, config.evaluation, config.seed, setup.budget.steps
        )
        held_out = len(self.data.validation_windows)
        for name in ("rows", "final_rows"):
            if min(getattr(config.evaluation, name) or held_out, held_out) < setup.world_size:
                raise ConfigError(
                    f"evaluation.{name}", f"there is less than one row for each of {setup.world_size} devices"
                )
        self.metrics = MetricsFile(directory.path / METRICS)
        self.module.kept_with_checkpoints.append(
            lambda: {"metric_lines": self.metrics.lines, "data_digest": setup.prepared.digest}
        )
        self.loggers: list[Logger] = [self.metrics]
        self.loggers += [build(node, f"logger.{name}", allow=allow) for name, node in config.logger.items()]
        callbacks: list[Callback] = [
            build(node, f"callbacks.{name}", allow=allow) for name, node in config.callbacks.items()
        ]
        how_to_go_on = f"ntp train resume={relative(directory.path)}"
        self.stopping = Stopping(how_to_go_on, trainer.time_limit_minutes)
        # What logs comes first and what stops comes last: Lightning calls checkpoints behind all of them.
        self.trainer = self._build_trainer([StepEnd(), ProgressBar(trainer.progress_bar), *callbacks, self.stopping])
        if trainer.compile:
            setup.model.compile()  # in place: the names in checkpoints stay as they are

    def _build_trainer(self, callbacks: list[Callback]) -> Trainer:
        config, setup = self.setup.config, self.setup
        trainer, world_size = config.trainer, setup.world_size
        accumulate = config.data.batch_size // (micro_batch_size(config.data, world_size) * world_size)
        every, steps = config.evaluation.every_steps, setup.budget.steps
        checkpoints = next((one for one in callbacks if isinstance(one, Checkpoint)), None)
        validates = every is not None and (steps is None or every <= steps)
        try:
            return Trainer(
                accelerator=trainer.accelerator,
                devices=trainer.devices if trainer.accelerator != "auto" else _devices(setup),
                num_nodes=trainer.num_nodes,
                strategy=_strategy(trainer.strategy, config.allow_targets),
                precision=trainer.precision,
                max_epochs=-1,
                max_steps=-1 if steps is None else steps,
                accumulate_grad_batches=accumulate,
                # In micro-batches. Lightning's epochs do not exist here: one epoch is the whole run.
                val_check_interval=every * accumulate if validates and every is not None else None,
                check_val_every_n_epoch=None if validates else 10**9,
                limit_val_batches=None if validates else 0,
                num_sanity_val_steps=0,
                log_every_n_steps=1,  # unused: metrics go to the loggers in one call of our own
                use_distributed_sampler=False,
                deterministic=trainer.deterministic,
                default_root_dir=str(self.directory.path),
                logger=self.loggers,
                callbacks=callbacks,
                plugins=[checkpoints.plugin(self.directory.path) if checkpoints else CheckpointWriter()],
                profiler=_profiler(trainer.profiler, self.directory.path),
                enable_progress_bar=False,
                enable_model_summary=False,
                enable_checkpointing=True,
            )
        except (ValueError, RuntimeError) as error:  # Lightning's own refusals are written for people
            raise ConfigError("trainer", str(error).splitlines()[0]) from error

    def train(self) -> None:
        """Fit, validate on all that is held out, write a sample, and leave a summary in every case."""
        state = "failed"
        started = time.perf_counter()
        try:
            self._summarize("running")
            for logger in self.loggers:
                if hasattr(logger, "start"):
                    logger.start(self.directory.path, self.plain, self.setup.config.tags, self.objective_name)
            with self.stopping.listening():
                self.trainer.fit(self.module, datamodule=self.data, ckpt_path=self.checkpoint, weights_only=True)
                if self.trainer.interrupted:
                    raise KeyboardInterrupt
                self._final_validation()
            self._write_sample()
            state = "finished"
        except RunStopped:
            state = "stopped"
            raise
        except (KeyboardInterrupt, SystemExit) as stop:  # Lightning turns the first into the second
            state = "stopped"
            raise KeyboardInterrupt from stop
        finally:
            self._close(state, time.perf_counter() - started)

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
        request = self._sample_request()
        # Lightning has put the model back on the CPU; and a compiled model would compile anew for every length.
        device = self.trainer.strategy.root_device
        model, objective = setup.model.to(device), setup.objective.to(device)
        try:
            with torch.compiler.set_stance("force_eager"):
                isolated = setup.config.data.documents == "isolate"
                written = answer(model, objective, setup.prepared.tokenizer, request, isolated=isolated).texts[0]
        except ConfigError as error:  # rows too short for a question: no reason to lose a finished run
            warnings.warn(f"no sample was written: {error}", stacklevel=2)
            return
        self.sample = (request.prefix, written, request.suffix or "")
        self.directory.write_sample("".join(self.sample))

    def _sample_request(self) -> Request:
        """Continue the beginning of the held-out text, or write again a stretch of it that is hidden."""
        setup, prepared = self.setup, self.setup.prepared
        length, tokens = setup.config.data.sequence_length, setup.config.evaluation.sample_tokens
        prompt = SAMPLE_PROMPT_TOKENS
        if setup.objective.attention != "causal":
            # Prompt and answer are read together, and rows longer than those of training are new to the model.
            prompt = min(prompt, max(1, length // 4))
            tokens = max(1, min(tokens, length // 2 - prompt))
        held_out = prepared.validation.tokens[: 2 * prompt + tokens].tolist()
        before = prepared.tokenizer.decode(held_out[:prompt])
        behind = None
        if "continue" not in setup.objective.inference:
            behind = prepared.tokenizer.decode(held_out[prompt + tokens :])
        return Request(before, behind, tokens=tokens, sampling=Sampling(temperature=SAMPLE_TEMPERATURE))

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
            self._summarize(state, **latest, total_seconds=seconds, mean_tokens_per_second=speed)
        for logger in self.loggers:
            if hasattr(logger, "summarize"):
                logger.summarize(latest)
            if hasattr(logger, "finish"):
                logger.finish(failed=state != "finished")


class StepEnd(Callback):
    """Lets the module log before any callback sees the step as done: Lightning's own hook of it comes after them."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Only behind the last micro-batch of an optimizer step."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            pl_module.end_step()


def _devices(setup: Setup) -> int:
    return setup.world_size // setup.config.trainer.num_nodes


def _strategy(strategy: str | dict[str, Any], allow: list[str]) -> Any:
    return strategy if isinstance(strategy, str) else build(strategy, "trainer.strategy", allow=allow)


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


def _peak_flops(teraflops: float | None, precision: str) -> float | None:
    if teraflops is not None:
        return teraflops * 1e12
    if not torch.cuda.is_available():
        return None
    dtype = torch.float32 if precision == "32-true" else torch.bfloat16
    return get_available_flops(torch.device("cuda"), dtype)
