"""Steps that must not be taken, and runs that should not go on as they are."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from torch.nn.utils import get_total_norm

from ntp.config.errors import RunFailed, RunStopped
from ntp.config.types import Count, PositiveFloat, PositiveInt
from ntp.data.sampling import Place
from ntp.tracking.describe import relative
from ntp.training.checkpoint import Checkpoint
from ntp.training.checkpoint_store import Entry
from ntp.training.rewind import Rewind
from ntp.training.sharding import whole
from ntp.training.spikes import SpikeDetector

NONFINITE = "nonfinite.json"
_SHOWN_ROWS = 4


class Health(Callback):
    """Looks at loss and gradient of every optimizer step before it is taken.

    A step whose loss or gradient is not finite is skipped on all devices: it changes no weight and no state of the
    optimizer, and is left out of the training metrics. A loss that stands out from those before it is a spike; that is
    said, and counted. All devices see the same two numbers, and come to the same verdict. The host waits for them once
    a step; without this callback it does not.

    Args:
        stop_after: steps in a row without a finite loss and gradient behind which the run fails.
        window: steps that a loss is compared with.
        threshold: robust standard deviations above the median of the window from which a loss is a spike; None does not
            look for any.
        rewind: at a spike, and instead of failing, go on from the newest good checkpoint before it, with the data
            behind it: the batches in between are left out.
        max_rewinds: how often.
    """

    def __init__(
        self,
        stop_after: PositiveInt = 10,
        window: PositiveInt = 128,
        threshold: PositiveFloat | None = 8.0,
        rewind: bool = False,
        max_rewinds: Count = 3,
    ) -> None:
        self.stop_after, self.rewind, self.max_rewinds = stop_after, rewind, max_rewinds
        self.detector = SpikeDetector(window, threshold)
        self.counts: dict[str, int] = {}
        self._skipped: list[int] = []  # the last steps, in a row
        self._rewound_from: int | None = None
        self._console = Console(stderr=True, soft_wrap=True)

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Share the numbers with the module, which logs them; note in the metrics that the run has gone back."""
        pl_module.counts = self.counts
        if self._rewound_from is not None:
            skipped = trainer.datamodule.skipped_batches  # type: ignore[attr-defined]
            event = {"train/rewound_from_step": self._rewound_from, "train/skipped_batches": skipped}
            pl_module.write(_metrics(self.counts) | event)
            self._rewound_from = None

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        """Vote against a step that is not finite here; the module sums the votes of all devices."""
        loss = pl_module.step_loss.float()
        norm = whole(get_total_norm(pl_module.gradients()))
        both = torch.stack([loss, norm.to(loss)]).tolist()
        pl_module.requests["skip"] = float(not all(map(math.isfinite, both)))
        pl_module.requests["loss"] = both[0]

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count what happened, and end the fit if it can't go on so.

        Raises:
            RunFailed: too many steps in a row were skipped.
            Rewind: the run is to go on from an earlier checkpoint.
        """
        if (batch_idx + 1) % trainer.accumulate_grad_batches or not pl_module.targets:
            return
        loss = pl_module.agreed["loss"] / pl_module.targets
        if pl_module.agreed["skip"]:
            self._note_skipped(trainer, pl_module, "gradient" if math.isfinite(loss) else "loss")
            return
        self._skipped.clear()
        score = self.detector.begins(loss)
        if score is not None:
            self._note_spike(trainer, pl_module, loss, score)

    def _note_skipped(self, trainer: Trainer, module: Any, what: str) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        step = trainer.global_step
        self._count("nonfinite_steps")
        self._skipped.append(step)
        file = Path(trainer.default_root_dir) / NONFINITE
        if trainer.is_global_zero:
            rows = [{"step": one, "rows": [_row(place) for place in data.places(one)]} for one in self._skipped]
            file.write_text(json.dumps(rows) + "\n", encoding="utf-8")
        first = self._skipped[0]
        if step == first:
            self._say(
                trainer, f"step {step}: the {what} is not finite; the step is skipped. {_shown(data.places(step))}"
            )
        if len(self._skipped) < self.stop_after:
            return
        good = _newest(trainer, lambda entry: _is_followed(entry, first) or entry.loss is not None)
        self._rewind_if_allowed(trainer, module, good, f"no finite {what} in steps {first} to {step}")
        module.count_progress()
        module.write(_metrics(self.counts))
        message = (
            f"the {what} has not been finite for {len(self._skipped)} steps, {first} to {step}; "
            + (f"the last good checkpoint is {good.file}" if good else "there is no good checkpoint")
            + f". {_shown(data.places(step))}; all of them are in {relative(file)}. A smaller optimizer.learning_rate "
            "may help, or callbacks.health.rewind=true, which goes on behind these rows"
        )
        # The first process of a run takes any other status of another one for a failure.
        raise RunFailed(message) if trainer.is_global_zero else RunStopped(message, 0)

    def _note_spike(self, trainer: Trainer, module: Any, loss: float, score: float) -> None:
        self._count("loss_spikes")
        step = trainer.global_step
        places = trainer.datamodule.places(step)  # type: ignore[attr-defined]
        message = f"step {step}: loss {loss:.4g} is a spike, {score:.1f} deviations above the median. {_shown(places)}"
        good = _newest(trainer, lambda entry: _is_followed(entry, step))
        self._rewind_if_allowed(trainer, module, good, message)
        self._say(trainer, message)

    def _rewind_if_allowed(self, trainer: Trainer, module: Any, good: Entry | None, reason: str) -> None:
        if not self.rewind or self.counts.get("rewinds", 0) >= self.max_rewinds:
            return
        step = trainer.global_step
        good = trainer.strategy.broadcast(good)  # the first device's view of the files
        if good is None:
            self._say(trainer, f"step {step}: there is no good checkpoint to go back to")
            return
        self._say(trainer, f"{reason}; going on from step {good.step}, with the data behind step {step}")
        self._count("rewinds")
        batches = step + trainer.datamodule.skipped_batches  # type: ignore[attr-defined]
        state = {"counts": dict(self.counts), "skipped": [], "rewound_from": step}
        raise Rewind(good.step, batches, module.seconds, self.state_key, state)

    def _count(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1

    def _say(self, trainer: Trainer, message: str) -> None:
        if trainer.is_global_zero:
            self._console.print(message, markup=False, highlight=False)

    def state_dict(self) -> dict[str, Any]:
        """All that the verdict on the next step depends on."""
        detector = self.detector
        return {
            "counts": dict(self.counts),
            "skipped": list(self._skipped),
            "losses": list(detector.losses),
            "high": detector.high,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on as if nothing had been in between."""
        self.counts.update(state_dict["counts"])
        # A checkpoint from before this callback was there holds no more than `Rewind` has put into it.
        self._skipped = list(state_dict.get("skipped", []))
        self.detector.losses.extend(state_dict.get("losses", []))
        self.detector.high = state_dict.get("high", False)
        self._rewound_from = state_dict.get("rewound_from")


def _is_followed(entry: Entry, bad: int) -> bool:
    """Whether a good step has proven the weights of a checkpoint: those just before a bad step may be its cause."""
    return entry.step < bad - 1


def _newest(trainer: Trainer, is_good: Callable[[Entry], bool]) -> Entry | None:
    stores = [one.store for one in trainer.checkpoint_callbacks if isinstance(one, Checkpoint)]
    return next((entry for store in stores for entry in reversed(store.entries()) if is_good(entry)), None)


def _metrics(counts: dict[str, int]) -> dict[str, float]:
    return {f"train/{name}": number for name, number in counts.items()}


def _row(place: Place) -> dict[str, int]:
    return {"epoch": place.epoch, "row": place.row, "offset": place.offset}


def _shown(places: list[Place]) -> str:
    """``Its rows: 17, 4, 250, 3 and 12 more of epoch 0``; a batch may lie in two epochs."""
    epochs = {place.epoch: [one.row for one in places if one.epoch == place.epoch] for place in places}
    texts = []
    for epoch, rows in epochs.items():
        more = f" and {len(rows) - _SHOWN_ROWS} more" if len(rows) > _SHOWN_ROWS else ""
        texts.append(f"{', '.join(map(str, rows[:_SHOWN_ROWS]))}{more} of epoch {epoch}")
    return f"Its rows: {'; '.join(texts)}"
