"""What the parts of a run remember and no checkpoint keeps."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from ntp.testing.fingerprint import digest, fingerprint

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_NOT_THE_USERS = ("ntp", "lightning", "pytorch_lightning", "torch")
_DEEPEST, _LONGEST = 4, 40


def hidden_state(trainer: Trainer) -> dict[str, str]:
    """Attributes of model, objective and the user's own callbacks that are data, random generators included.

    Parameters and buffers that a ``state_dict`` has are not hidden.

    Returns:
        By name the value, or a hash of it where that would be long.
    """
    module = trainer.lightning_module
    found: dict[str, str] = {}
    for part in ("model", "objective"):
        for name, inner in getattr(module, part).named_modules(prefix=part):
            found |= _attributes(name, inner)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if _package(callback) not in _NOT_THE_USERS:
            found |= _attributes(f"callbacks.{type(callback).__name__}", callback)
    return found


def _attributes(prefix: str, owner: nn.Module | Callback) -> dict[str, str]:
    # Behind two underscores torch keeps notes of its own, under names that are others in each process.
    names = [name for name in vars(owner) if name not in _OF_EVERY_MODULE and not name.startswith("__")]
    own = {name: getattr(owner, name) for name in names}
    if isinstance(owner, nn.Module):
        own |= {name: owner.get_buffer(name) for name in owner._non_persistent_buffers_set}
    texts = {f"{prefix}.{name}": _text(value, _package(owner), 0) for name, value in own.items()}
    return {name: text for name, text in texts.items() if text is not None}


def _text(value: Any, package: str, depth: int) -> str | None:
    """Equal for equal data; None for what is no data."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.generic)):
        text = repr(value)
    elif isinstance(value, Tensor):
        return None if value.is_meta else f"#{fingerprint(value)}"
    elif isinstance(value, np.ndarray) and value.dtype != object:
        text = f"{value.dtype}{value.shape}{value.tobytes().hex()}"
    elif isinstance(value, np.random.Generator):
        text = repr(value.bit_generator.state)
    elif isinstance(value, random.Random):
        text = repr(value.getstate())
    elif isinstance(value, torch.Generator):
        return f"#{fingerprint(value.get_state())}"
    else:
        inside = None if depth == _DEEPEST else _inside(value, package)
        if inside is None:
            return None
        text = f"{type(value).__name__}{[_text(one, package, depth + 1) for one in inside]}"
    return text if len(text) <= _LONGEST else f"#{digest(text.encode())}"


def _inside(value: Any, package: str) -> Iterable[Any] | None:
    """The parts of a container, or of an object of the owner's own package; None for anything else."""
    if isinstance(value, Mapping):
        return [one for item in value.items() for one in item]
    if isinstance(value, AbstractSet):
        return sorted(value, key=repr)
    if isinstance(value, (list, tuple, deque)):
        return value
    if _package(value) == package and hasattr(value, "__dict__") and not isinstance(value, (nn.Module, type)):
        return vars(value).values()
    return None


def _package(value: Any) -> str:
    return type(value).__module__.split(".")[0]
