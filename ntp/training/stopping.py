"""Being asked to stop: by a signal, or by the end of the time that the machine grants."""

import contextlib
import signal
import time
from collections.abc import Iterator
from typing import Any, NoReturn

from lightning import Trainer
from lightning.pytorch.callbacks import Callback

from ntp.config.errors import RunStopped
from ntp.training.checkpoint import Checkpoint

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_STATUS_OF_INTERRUPT, _STATUS_OF_STOP = 130, 143
_SPARE_SECONDS = 2.0


class Stopping(Callback):
    """Ends a run at the next optimizer step with a checkpoint, on all devices at the same step.

    A handler of a signal must not do anything but note it: in the middle of a step there is no state that could be gone
    on from exactly, and a collective operation inside a handler waits for devices that are in another one.

    Args:
        how_to_go_on: command that the message names.
        time_limit_minutes: of the process; None for none.
    """

    def __init__(self, how_to_go_on: str, time_limit_minutes: float | None = None) -> None:
        self.how_to_go_on = how_to_go_on
        self.reason = ""
        self._started = time.monotonic()
        self._limit = None if time_limit_minutes is None else time_limit_minutes * 60
        self._status = _STATUS_OF_STOP
        self._boundary = 0.0
        self._longest_step = 0.0

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Note signals instead of dying of them; a second Ctrl-C still interrupts at once."""
        before = {one: signal.signal(one, self._note) for one in SIGNALS}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def _note(self, number: int, _: Any) -> None:
        if number == signal.SIGINT:
            if self._status == _STATUS_OF_INTERRUPT:
                raise KeyboardInterrupt
            self._status = _STATUS_OF_INTERRUPT
        self.reason = "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"

    def _asked(self, trainer: Trainer) -> bool:
        if not self.reason and self._limit is not None and self._time_left() < self._needed(trainer):
            self.reason = "stopped at its time limit"
        return bool(self.reason)

    def _time_left(self) -> float:
        assert self._limit is not None
        return self._limit - (time.monotonic() - self._started)

    def _needed(self, trainer: Trainer) -> float:
        return (
            2 * (self._longest_step + max((one.save_seconds for one in _checkpoints(trainer)), default=0.0))
            + _SPARE_SECONDS
        )

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Keep Lightning from listening too: its handler talks to other devices, in the middle of anything."""
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        # And it would ask all of them in front of each micro-batch.
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Start the clock."""
        self._boundary = time.monotonic()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        """Tell the other devices."""
        pl_module.requests["stop"] = float(self._asked(trainer))

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stop, if any device was asked to."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        now = time.monotonic()
        self._longest_step, self._boundary = max(self._longest_step, now - self._boundary), now
        if pl_module.agreed["stop"]:
            self._stop(trainer)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Stop in the middle of a validation: the run makes up for it when it goes on."""
        if trainer.state.fn == "fit" and _is_prepared_by_others(trainer):
            return
        # Some devices have one batch more than others; there they are alone and must not ask.
        if batch_idx < trainer.datamodule.common_validation_batches and pl_module.any_rank(self._asked(trainer)):  # type: ignore[attr-defined]
            self._stop(trainer)

    def check(self, trainer: Trainer, pl_module: Any) -> None:
        """Stop, if any device was asked to, behind the last step: its checkpoint has everything.

        Raises:
            RunStopped: one was.
        """
        if pl_module.any_rank(self._asked(trainer)):
            self._raise(trainer)

    def _stop(self, trainer: Trainer) -> None:
        if trainer.state.fn == "fit":
            for one in _checkpoints(trainer):
                one.save(trainer)
        self._raise(trainer)

    def _raise(self, trainer: Trainer) -> NoReturn:
        message = f"{self.reason or 'stopped'} at step {trainer.global_step}; go on with: {self.how_to_go_on}"
        # The first process of a run takes any other status of another one for a failure.
        raise RunStopped(message, self._status if trainer.is_global_zero else 0)


def _is_prepared_by_others(trainer: Trainer) -> bool:
    """Whether a callback does something before a validation, such as putting mean weights in, which it will undo."""
    theirs = [one for one in trainer.callbacks if not type(one).__module__.startswith("ntp.")]  # type: ignore[attr-defined]
    hooks = ("on_validation_start", "on_validation_epoch_start")
    return any(getattr(type(one), hook) is not getattr(Callback, hook) for one in theirs for hook in hooks)


def _checkpoints(trainer: Trainer) -> list[Checkpoint]:
    return [one for one in trainer.checkpoint_callbacks if isinstance(one, Checkpoint)]
