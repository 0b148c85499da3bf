"""Exams while a model is trained, and when it is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer

from ntp.evaluation.exams.exam import Exam, ExamRecipe
from ntp.evaluation.exams.result import Result, StoredResult, forget_results
from ntp.evaluation.keeping import keep, make_room
from ntp.evaluation.sharing import shared
from ntp.evaluation.taking import Company, candidate_of, prepare_exams, take
from ntp.tracking.results import STANDARD_ERROR
from ntp.training.load import Run
from ntp.training.run_callback import RunCallback
from ntp.training.setup import Setup
from ntp.training.stopping import Stopping
from ntp.training.strategies import FSDP


class ExamCallback(RunCallback):
    """Takes the exams of ``evaluation.exams``, every ``evaluation.exams_every_steps`` steps and at the end of the run.

    All devices take them together, with the weights that they have just then. The numbers go to every logger and into
    the summary, what they are made of into ``exams/`` of the run. Training goes on as if there had been none: neither
    its random numbers nor its throughput know of them, and a run that is gone on with takes what is still to be taken.
    """

    def __init__(self) -> None:
        self._exams: Mapping[str, tuple[ExamRecipe, Exam]] = {}
        self._every: int | None = None
        self._setup: Setup | None = None
        self._run = Path()
        self._taken_step = -1
        self._remarks: dict[str, str] = {}

    def prepare(self, setup: Setup, run: Path) -> list[tuple[str, str]]:
        """Make the exams, or read them from the cache.

        Raises:
            ConfigError: there is nothing to ask.
        """
        config = setup.config
        self._setup, self._run, self._every = setup, run, config.evaluation.exams_every_steps
        exams = prepare_exams(config.evaluation.exams, config.data, config.allow_targets)
        if not exams:
            return []
        if config.trainer.strategy == FSDP:
            return [("exams", "none in this run, whose weights are cut over the devices; `ntp evaluate` takes them")]
        self._exams = exams
        asked = ", ".join(f"{name} ({len(exam.items):,} questions)" for name, (_, exam) in exams.items())
        when = "at the end" if self._every is None else f"every {self._every:,} steps and at the end"
        return [("exams", f"{asked}, {when}")]

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Share the remarks with the module, whose run puts them into the summary."""
        pl_module.remarks = self._remarks

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Forget what weights have said that are no more: a run that goes on may come by other ones.

        Raises:
            ConfigError: results can't be kept.
        """
        if trainer.is_global_zero and self._setup is not None:
            forget_results(self._run, trainer.global_step)
            if self._exams:
                make_room(self._run, "run_dir")

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Take the exams where it is time; not at the last step, where callbacks may still put other weights in.

        A checkpoint of the same step is written behind them, and knows what came of them.
        """
        step, ends_step = trainer.global_step, (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if self._exams and self._every and ends_step and step % self._every == 0 and pl_module.spent < 1.0:
            self._take(trainer, pl_module)

    def on_run_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Take the exams with the weights at the end of the run, one by one until it is asked to stop.

        Raises:
            RunStopped: it was. A run that is gone on with takes all of them.
        """
        if self._exams and self._taken_step != trainer.global_step:
            pl_module.to(trainer.strategy.root_device)
            self._take(trainer, pl_module, _stopping(trainer))

    def _take(self, trainer: Trainer, module: Any, stopping: Sequence[Stopping] = ()) -> None:
        assert self._setup is not None
        setup, step = self._setup, trainer.global_step
        module.count_progress()
        run = Run(
            self._run,
            setup.config,
            setup.prepared.tokenizer,
            module.objective,
            module.model,
            step,
            setup.prepared.digest,
        )
        candidate = candidate_of(
            run,
            draws=setup.config.evaluation.exams_draws,
            precision=setup.config.trainer.precision,
            device=trainer.strategy.root_device,
            company=_company(trainer, module),
        )
        # A compiled model would compile anew for every length.
        with module.aside(), torch.compiler.set_stance("force_eager"):
            for stored in take(self._exams, candidate, step):
                self._keep(stored, trainer, module)
                for one in stopping:
                    one.check(trainer, module)
        self._taken_step = step

    def _keep(self, stored: StoredResult, trainer: Trainer, module: Any) -> None:
        shared(_company(trainer, module), 1, lambda _: keep(stored, self._run, "run_dir"))
        self._remarks.update(remarks(stored.result))
        if named := metrics(stored.result):
            module.write(named)

    def state_dict(self) -> dict[str, Any]:
        """When exams were taken last, and what was said of them."""
        return {"taken_step": self._taken_step, "remarks": dict(self._remarks)} if self._exams else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on as if nothing had been in between."""
        self._taken_step = state_dict.get("taken_step", -1)
        self._remarks.update(state_dict.get("remarks", {}))


def _company(trainer: Trainer, module: Any) -> Company:
    return Company(trainer.global_rank, trainer.world_size, module.gather)


def _stopping(trainer: Trainer) -> list[Stopping]:
    return [one for one in trainer.callbacks if isinstance(one, Stopping)]  # type: ignore[attr-defined]


def metrics(result: Result) -> dict[str, float]:
    """The numbers of a result under their names in ``metrics.jsonl``."""
    named: dict[str, float] = {}
    for name, one in result.measures.items():
        named[f"exam/{result.exam}/{name}"] = one.value
        error = one.standard_error
        if error is not None:
            named[f"exam/{result.exam}/{name}{STANDARD_ERROR}"] = error
    return named


def remarks(result: Result) -> dict[str, str]:
    """What the summary says beside them: the kind of the numbers, or why there are none."""
    if result.refusal is not None:
        return {f"exam/{result.exam}/refusal": result.refusal}
    return {f"exam/{result.exam}/likelihood": result.likelihood}
