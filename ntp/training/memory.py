"""How much memory a run has taken, and what to say, and what to try, when a step does not fit into it."""

import sys

import torch
from lightning.pytorch.utilities.memory import is_oom_error

from ntp.config.schema import DataConfig


def peak_memory(device: torch.device) -> int:
    """Bytes at most, so far.

    Args:
        device: of CUDA, what this process has had allocated for tensors (`torch.cuda.max_memory_allocated`). Of the
            CPU, the largest resident set of this process: all that it has held in memory, interpreter and libraries
            and whatever else ran in it included. 0 where the system does not say.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def forget_peak_memory(device: torch.device) -> None:
    """Of CUDA, begin anew to look for the peak; the largest resident set of a process can't be forgotten."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is the end of the memory of a device or of the machine."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or is_oom_error(error)


def smaller_micro_batch(rows: int, share: int) -> int | None:
    """At most half as many rows at a time; None where there is nothing to halve.

    Args:
        rows: that a device takes at a time.
        share: rows of a device's part of the global batch, which micro-batches divide.
    """
    return next((one for one in range(rows // 2, 0, -1) if share % one == 0), None)


def what_to_lower(step: int, rows: int, smaller: int | None, config: DataConfig, *, alone: bool, updating: bool) -> str:
    """One line for a person.

    Args:
        step: that did not fit.
        rows: that a device takes at a time.
        smaller: what `smaller_micro_batch` says.
        config: the ``data`` node.
        alone: whether the run has one device.
        updating: whether it was the update of the weights, to which the number of rows is nothing.
    """
    where = (
        f"out of memory at step {step}, with {_rows(rows)} of data.sequence_length={config.sequence_length} at a time "
        f"(data.batch_size={config.batch_size})"
    )
    if updating:
        return (
            f"{where}: the optimizer's state does not fit; a smaller model does (model=..., model.width, model.layers)"
        )
    if smaller is None:
        return f"{where}: lower data.sequence_length, or take a smaller model (model=..., model.width, model.layers)"
    auto = ", and trainer.auto_micro_batch=true finds what fits" if alone else ""
    return (
        f"{where}: data.micro_batch_size={smaller} takes less, with the same result{auto}; "
        "so do a shorter data.sequence_length and a smaller model"
    )


def _rows(number: int) -> str:
    return "one row" if number == 1 else f"{number} rows"
