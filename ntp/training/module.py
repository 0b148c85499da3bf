"""The one LightningModule: any model under any objective.

The quantity to optimise is the sum of the objective's loss over all targets of an optimizer step (all ranks, all
micro-batches) divided once by their number. Averaging the means of micro-batches instead over-weights the targets of
sparse ones, which is invisible for causal prediction and wrong for everything else.
"""

import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning import LightningModule
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from ntp.data.example import Batch
from ntp.models.base import LanguageModel
from ntp.objectives.base import Objective
from ntp.training.budget import Budget
from ntp.training.checkpoint_format import STATE, VERSION
from ntp.training.memory import forget_peak_memory, peak_memory
from ntp.training.metrics import Consumed, Progress, Totals
from ntp.training.optimizers import BASE_LEARNING_RATE, OptimizerRecipe
from ntp.training.schedules import Schedule
from ntp.training.sharding import shard, whole

PEAK_MEMORY = "perf/peak_memory_bytes"
_OF_VALIDATION = 2**32 - 1


class PretrainingModule(LightningModule):
    """Trains ``model`` under ``objective``.

    Args:
        model: gives hidden states and the likelihood of targets.
        objective: bound to the run's tokenizer and model.
        optimizer: recipe of the optimizer.
        schedule: of the learning rate.
        budget: length of the run.
        seed: of everything random on the device, such as dropout.
        nominal_targets: a constant about the size of a step's targets, so that gradients before the division have an
            ordinary size (float16's range is narrow).
        gradient_clip_norm: largest norm of the gradient; None for no limit.
        log_every_steps: optimizer steps between two lines of training metrics.
        validate_every_steps: optimizer steps between two validations; None for none before the end.
        peak_flops: of one device, per second; None where unknown.
    """

    def __init__(
        self,
        model: LanguageModel,
        objective: Objective,
        optimizer: OptimizerRecipe,
        schedule: Schedule,
        budget: Budget,
        *,
        seed: int,
        nominal_targets: int,
        gradient_clip_norm: float | None,
        log_every_steps: int,
        validate_every_steps: int | None = None,
        peak_flops: float | None = None,
    ) -> None:
        super().__init__()
        self.model, self.objective = model, objective
        self.optimizer_recipe, self.schedule, self.budget = optimizer, schedule, budget
        self.seed, self.nominal_targets = seed, nominal_targets
        self.gradient_clip_norm, self.peak_flops = gradient_clip_norm, peak_flops
        self.log_every_steps, self.validate_every_steps = log_every_steps, validate_every_steps
        self.progress = Progress()
        self.latest: dict[str, float] = {}  # the newest value of every metric
        self.remarks: dict[str, str] = {}  # what the summary says beside them, by others
        self.empty_steps = 0
        self.counts: dict[str, int] = {}  # of what else is counted, by others; logged beside the training metrics
        self.peak_memory = 0  # bytes, of the device that has taken most
        self._consumed = Consumed()
        self._train, self._validation = Totals(), Totals()
        self._step_targets: int | Tensor = 0
        self.step_loss: Tensor | float = 0.0  # summed over the micro-batches so far of this step
        self.targets = 0.0  # of the last step, over all ranks
        self.is_updating = False  # between two states of the weights
        self._before_step: tuple[dict[str, Any], Consumed] | None = None  # what was counted, while a step is computed
        self._gradient_norm: Tensor | None = None
        self._trained: list[nn.Parameter] = []
        self._host_group: dist.ProcessGroup | None = None  # None is the default group
        self._spent = 0.0
        # What any rank may ask of all or tell all, and its sum before this step: no rank may save, stop or skip alone.
        self.requests = {"stop": 0.0, "checkpoint": 0.0, "skip": 0.0}
        self.agreed = dict.fromkeys(self.requests, 0.0)
        self.validated_step = -1
        self.validation_loss: float | None = None  # of the fixed rows, at `validated_step`
        self._logged_step = self._interval_step = self._logged_tokens = self._logged_flops = 0
        self.kept_with_checkpoints: list[Callable[[], dict[str, Any]]] = []  # of others, beside the module's own state
        self._seconds_before = 0.0  # of the run, before this process
        self._started = self._interval_started = time.perf_counter()
        self._interval_paused = self._validation_started = 0.0

    # -- optimisation --

    def configure_model(self) -> None:
        """Cut the weights over the devices, where the strategy has laid these out for it."""
        if self.device_mesh is not None:
            mixed = self.trainer.precision == "bf16-mixed"
            shard(self, self.objective, self.device_mesh["data_parallel"], mixed)

    def configure_optimizers(self) -> Optimizer:
        """Over model and objective: an objective may own heads."""
        return self.optimizer_recipe.build(self)

    def on_train_start(self) -> None:
        """Start the clocks."""
        self._started = self._interval_started = time.perf_counter()
        self._seconds_before = self.progress.seconds
        if self.trainer.world_size > 1 and dist.get_backend() == "nccl":
            # Numbers that the host knows travel between hosts: no step waits for the device.
            # It should be the first to complain of a device that hangs: NCCL ends the process.
            timeout = getattr(self.trainer.strategy, "_timeout", None)
            self._host_group = dist.new_group(backend="gloo", timeout=timeout and 0.9 * timeout)
        self._trained = [one for one in self.parameters() if one.requires_grad]
        self._interval_step = self.trainer.global_step
        self._logged_tokens, self._logged_flops = self.progress.tokens, self.progress.flops
        step = self.trainer.global_step
        if step and self.validation_due(step) and self.validated_step != step:
            self._validate()

    def _validate(self) -> None:
        """The validation that a run owes which was stopped in front of it or in the middle of it."""
        connector = self.trainer._logger_connector
        first = connector._first_loop_iter
        self.trainer.validating = True
        self.trainer.fit_loop.epoch_loop.val_loop.run()
        self.trainer.training = True
        connector._first_loop_iter = first

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rate at the first micro-batch of a step."""
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self._before_step = dict(self._train.sums), replace(self._consumed)
            step = self.trainer.global_step + 1
            seconds = self.seconds
            if self.budget.seconds is not None and self.trainer.world_size > 1:
                clock = torch.tensor(seconds, dtype=torch.float64)
                dist.broadcast(clock, src=0, group=self._host_group)  # one clock for all
                seconds = clock.item()
            self._spent = self.budget.progress(step, seconds)
            factor = self.schedule.factor(step, self._spent)
            for group in self.optimizers(use_pl_optimizer=False).param_groups:  # type: ignore[union-attr]
                group["lr"] = group[BASE_LEARNING_RATE] * factor

    def seed_micro_batch(self, batch_idx: int) -> None:
        """Seed everything that is random while a micro-batch is worked on, callbacks included."""
        _seed(self.device, self.seed, batch_idx, self.global_rank)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The summed loss of a micro-batch, over a constant."""
        terms = self.objective.loss(self.model, batch)
        self._train.add(terms)
        self._step_targets = self._step_targets + terms.count
        self.step_loss = self.step_loss + terms.sum.detach()
        self._consumed.add(batch, self.objective.training_flops(self.model, batch))
        return terms.sum / self.nominal_targets

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Divide the gradient once by the number of targets of the whole step.

        Runs after the gradients are unscaled and before they are clipped. Lightning has divided the loss by the number
        of accumulated micro-batches and DDP has averaged over ranks; both are undone here.
        """
        self.targets, *requests = self._sum_over_ranks(float(self._step_targets), *self.requests.values())
        self.agreed = dict(zip(self.requests, requests, strict=True))
        self._step_targets, self.step_loss = 0, 0.0
        self.is_updating = True
        gradients = self.gradients()
        self.empty_steps += self.targets == 0
        if self.agreed["skip"] and self._before_step is not None:
            self._train.sums = self._before_step[0]  # one loss that is not finite would be all of the mean
        if self.targets == 0 or self.agreed["skip"]:
            # Nothing is learned: without gradients no optimizer moves or decays a weight.
            optimizer.zero_grad(set_to_none=True)
        elif gradients:
            averaged = self.trainer.world_size * self.trainer.accumulate_grad_batches
            factor = self.nominal_targets * averaged / self.targets
            if factor != 1.0:  # on one device it is 1 whenever every position has a target
                torch._foreach_mul_(gradients, factor)

    def gradients(self) -> list[Tensor]:
        """Of all parameters that have one."""
        return [one.grad for one in self._trained if one.grad is not None]

    def any_rank(self, asked: bool) -> bool:
        """Whether any rank says so; all ranks must ask at the same place."""
        return self._sum_over_ranks(float(asked))[0] > 0

    def _sum_over_ranks(self, *values: float) -> list[float]:
        if self.trainer.world_size == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(sums, group=self._host_group)
        return sums.tolist()

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm over all parameters; Lightning's own clipping refuses fused optimizers in mixed precision."""
        if self.gradient_clip_norm is not None:
            self._gradient_norm = whole(clip_grad_norm_(self._trained, self.gradient_clip_norm))

    # -- measuring --

    @property
    def seconds(self) -> float:
        """Since the first step of the run."""
        return self._seconds_before + time.perf_counter() - self._started

    @property
    def spent(self) -> float:
        """The part of the budget that is spent, in [0, 1]."""
        return self._spent

    def end_step(self) -> None:
        """Log after an optimizer step whose number asks for it; end a run whose time is up."""
        self.is_updating, self._before_step = False, None
        step = self.trainer.global_step
        done = self._spent >= 1.0
        if done and self.budget.seconds is not None:
            self.trainer.should_stop = True
        if step % self.log_every_steps == 0 or step == 1 or done:
            self._log_training(step)

    def forget_step(self) -> None:
        """Take back what has been counted of a step that will not be finished."""
        if self._before_step is not None:
            self._train.sums, self._consumed = self._before_step
            self._before_step = None

    def _log_training(self, step: int) -> None:
        if step == self._logged_step:
            return
        metrics = {f"train/{name}": value for name, value in self._train.means(self.gather).items()}
        self.count_progress()
        now = time.perf_counter()
        seconds = max(now - self._interval_started - self._interval_paused, 1e-9)
        metrics["perf/tokens_per_second"] = (self.progress.tokens - self._logged_tokens) / seconds
        metrics["perf/step_seconds"] = seconds / (step - self._interval_step)
        if self.peak_flops:
            achieved = (self.progress.flops - self._logged_flops) / seconds
            metrics["perf/mfu"] = achieved / (self.peak_flops * self.trainer.world_size)
        optimizer = self.optimizers(use_pl_optimizer=False)
        metrics["train/learning_rate"] = optimizer.param_groups[0]["lr"]  # type: ignore[union-attr]
        if self._gradient_norm is not None:
            metrics["train/gradient_norm"] = float(self._gradient_norm)
        if self.empty_steps:
            metrics["train/empty_steps"] = self.empty_steps
        metrics |= {f"train/{name}": number for name, number in self.counts.items()}
        metrics[PEAK_MEMORY] = self.peak_memory
        self._interval_started, self._interval_paused = now, 0.0
        self._logged_step = self._interval_step = step
        self._logged_tokens, self._logged_flops = self.progress.tokens, self.progress.flops
        self.write(metrics)

    def validation_due(self, step: int) -> bool:
        """Whether a validation follows this optimizer step."""
        return self.validate_every_steps is not None and step % self.validate_every_steps == 0

    def on_validation_start(self) -> None:
        """Training's throughput does not pay for validation, and its random numbers do not depend on training's."""
        self._validation_started = time.perf_counter()
        self._validation.sums.clear()
        _seed(self.device, self.seed, _OF_VALIDATION, self.global_rank)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Sums of the fixed rows."""
        self._validation.add(self.objective.loss(self.model, batch))

    def keep_company(self, batch: Batch) -> None:
        """Run a validation batch that counts for nothing, because other devices run one that does."""
        counted = dict(self._validation.sums)
        self.trainer.strategy.validation_step(batch, 0)
        self._validation.sums = counted

    def on_validation_epoch_end(self) -> None:
        """Token-weighted means over all ranks."""
        self.count_progress()
        metrics = {f"val/{name}": value for name, value in self._validation.means(self.gather).items()}
        final = self.trainer.datamodule.final  # type: ignore[attr-defined]
        loss = metrics.get("val/loss", math.nan)
        self.validation_loss = loss if math.isfinite(loss) and not final else None  # others are compared with it
        self.validated_step = self.trainer.global_step
        # Not all rows have all metrics (a component, a precision): numbers of two validations must not stand together.
        self.latest = {name: value for name, value in self.latest.items() if not name.startswith("val/")}
        self.write(metrics)
        self.log_dict(metrics, logger=False)  # for callbacks of Lightning's, such as EarlyStopping
        self._interval_paused += time.perf_counter() - self._validation_started

    @contextmanager
    def aside(self) -> Iterator[None]:
        """For what is done in between: no clock of training and no random number of its own notices."""
        started = time.perf_counter()
        try:
            with isolate_rng():
                _seed(self.trainer.strategy.root_device, self.seed, _OF_VALIDATION)
                yield
        finally:  # it may be what a run is stopped in
            forget_peak_memory(self.device)
            paused = time.perf_counter() - started
            self._interval_paused += paused
            self._started += paused

    def count_progress(self) -> None:
        """Bring `progress` up to date over all ranks."""
        for part, memory in self.gather((self._consumed.take(), peak_memory(self.device))):
            self.progress.add(part)
            self.peak_memory = max(self.peak_memory, memory)
        if self.trainer.training or self.trainer.state.fn == "fit":
            self.progress.step = self.trainer.global_step
            self.progress.seconds = self.seconds

    def gather(self, value: Any) -> list[Any]:
        """``value`` of every rank."""
        if self.trainer.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.trainer.world_size
        dist.all_gather_object(values, value, group=self._host_group)
        return values

    def write(self, metrics: dict[str, float]) -> None:
        """Send metrics to every logger in one call each, beside the progress counters."""
        self.latest |= metrics | self.progress.metrics()
        for logger in self.loggers:
            logger.log_metrics(metrics | self.progress.metrics(), step=self.progress.step)

    # -- checkpoints --

    @property
    def _length(self) -> list[Any]:
        return [self.budget.unit, self.budget.amount]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Beside Lightning's state: all that the numbers still to come depend on; see `checkpoint_format`."""
        self.count_progress()
        validated = self.validated_step == self.trainer.global_step
        checkpoint[STATE] = {
            "version": VERSION,
            "progress": asdict(self.progress),
            "totals": self.gather(self._train.state()),
            "latest": dict(self.latest),
            "empty_steps": self.empty_steps,
            "logged_step": self._logged_step,
            "validated_step": self.validated_step,
            "validation_loss": self.validation_loss if validated else None,
            "ended": self._length if self.trainer.should_stop else None,
        }
        for part in self.kept_with_checkpoints:
            checkpoint[STATE] |= part()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore it, on any number of devices."""
        state = checkpoint[STATE]
        self.progress = Progress(**state["progress"])
        if "rows" not in state["progress"]:  # of an older version; every step has as many
            self.progress.rows = self.progress.step * self.trainer.datamodule.config.batch_size  # type: ignore[attr-defined]
        totals = state["totals"]
        if len(totals) == self.trainer.world_size:
            self._train = Totals(dict(totals[self.global_rank]))
        elif self.global_rank == 0:
            self._train = Totals.sum_of(totals)
        self.latest = dict(state["latest"])
        self.peak_memory = int(self.latest.get(PEAK_MEMORY, 0))
        self.empty_steps, self._logged_step = state["empty_steps"], state["logged_step"]
        self.validated_step, self.validation_loss = state["validated_step"], state["validation_loss"]
        if state["ended"] == self._length:
            self.trainer.should_stop = True  # what is left is to be validated; a larger budget goes on
        place_loops(checkpoint, self.trainer.accumulate_grad_batches)


def place_loops(checkpoint: dict[str, Any], micro_batches: int) -> None:
    """Put Lightning's loops at the boundary behind the last optimizer step, whatever they were in the middle of.

    Lightning would count a micro-batch twice that was saved before its hooks were done, and knows nothing of other
    numbers of micro-batches a step.

    Args:
        checkpoint: as Lightning made it; its ``loops`` are changed.
        micro_batches: of one optimizer step on one device.
    """
    done = checkpoint["global_step"] * micro_batches
    everything = dict.fromkeys(("ready", "started", "processed", "completed"), done)
    fit = checkpoint["loops"]["fit_loop"]
    fit["epoch_loop.batch_progress"] |= {"total": dict(everything), "current": everything, "is_last_batch": False}
    # A validation that is owed starts from its first batch.
    none = dict.fromkeys(everything, 0)
    fit["epoch_loop.val_loop.batch_progress"] |= {"total": dict(none), "current": none, "is_last_batch": False}
    # One epoch is the whole run.
    epoch = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    fit["epoch_progress"] |= {"total": dict(epoch), "current": epoch}


def _seed(device: torch.device, *key: int) -> None:
    """Seed what this process draws from; ``torch.manual_seed`` visits every backend and takes half a millisecond."""
    first, second = np.random.SeedSequence(key).generate_state(2, np.uint64).tolist()
    random.seed(second)
    np.random.seed(second >> 32)
    torch.default_generator.manual_seed(first >> 1)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(first >> 1)
