"""Weights out of a checkpoint."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ntp.config.errors import ConfigError
from ntp.training.checkpoint_format import upgrade


def read_checkpoint(path: Path, key: str) -> dict[str, Any]:
    """The content of a checkpoint: tensors and plain containers.

    Args:
        path: of the file.
        key: the config key that led to it, for messages.

    Raises:
        ConfigError: there is no such file, or it can't be read.
    """
    if not path.is_file():
        others = [one for one in ("best", "last") if (path.parent / f"{one}.ckpt").is_file()]
        hint = f"; there is {key}={others[0]}" if others else ""
        raise ConfigError(key, f"there is no checkpoint {path}{hint}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in many ways, each with its own exception
        raise ConfigError(key, f"{path} is not a readable checkpoint ({str(error).splitlines()[0]})") from error
    if not isinstance(checkpoint, dict) or not checkpoint.keys() >= {"state_dict", "global_step"}:
        raise ConfigError(key, f"{path} is not a checkpoint of ntp's")
    upgrade(checkpoint)
    return checkpoint


def restore_weights(parts: dict[str, nn.Module], checkpoint: dict[str, Any], key: str) -> None:
    """Load the weights of a checkpoint.

    Args:
        parts: modules by the name that the checkpoint has for them.
        checkpoint: what `read_checkpoint` gave.
        key: the config key that led to it, for messages.

    Raises:
        ConfigError: the checkpoint holds another architecture.
    """
    stored = checkpoint["state_dict"]
    own = {f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()}
    for name in [*own, *(name for name in stored if name not in own)]:
        here, there = (_shape(weights.get(name)) for weights in (own, stored))
        if here != there:
            raise ConfigError(
                key, f"is of another architecture: '{name}' is {there} in it and {here} in the configured model"
            )
    for part, module in parts.items():
        prefix = f"{part}."
        weights = {name.removeprefix(prefix): one for name, one in stored.items() if name.startswith(prefix)}
        module.load_state_dict(weights)


def _shape(tensor: torch.Tensor | None) -> str:
    return "absent" if tensor is None else "x".join(map(str, tensor.shape))
