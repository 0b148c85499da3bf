"""A finished or running run, read back from its directory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import ValidationError

from ntp.config.errors import ConfigError
from ntp.config.schema import TrainConfig
from ntp.config.validation import check_arguments
from ntp.data.tokenizers import Tokenizer
from ntp.models.base import LanguageModel
from ntp.objectives.base import Objective
from ntp.training.checkpoint import read_checkpoint, restore_weights
from ntp.training.setup import bind, build_model, build_objective


@dataclass
class Run:
    """A run with its weights.

    Attributes:
        path: its directory.
        config: what it was trained with.
        tokenizer, objective, model: as they were then, the model in evaluation mode.
        step: optimizer steps that the weights have seen.
    """

    path: Path
    config: TrainConfig
    tokenizer: Tokenizer
    objective: Objective
    model: LanguageModel
    step: int


def load_run(path: str, checkpoint: str, allow: list[str], device: torch.device) -> Run:
    """Read a run directory.

    Args:
        path: of the directory.
        checkpoint: ``best`` or ``last``.
        allow: packages whose classes the run's config may build.
        device: where to put the model.

    Raises:
        ConfigError: there is no run, it has no such checkpoint, or the two do not fit.
    """
    directory = Path(path)
    if not (directory / "config.yaml").is_file():
        raise ConfigError("run", f"{path} is not a run directory: it has no config.yaml")
    config = _read_config(directory / "config.yaml", allow)
    stored = read_checkpoint(directory / "checkpoints" / f"{checkpoint}.ckpt", "checkpoint")
    try:
        tokenizer = Tokenizer.load(directory / "tokenizer")
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError("run", f"{path} has no readable tokenizer ({error})") from error
    objective = build_objective(config.objective, allow)
    sequence_length = config.data.sequence_length
    model = build_model(config.model, tokenizer.vocabulary_size, config.seed, sequence_length, allow)
    bind(objective, tokenizer, model, sequence_length, config.seed)
    restore_weights({"model": model, "objective": objective}, stored, "checkpoint")
    return Run(
        directory, config, tokenizer, objective.to(device).eval(), model.to(device).eval(), stored["global_step"]
    )


def _read_config(path: Path, allow: list[str]) -> TrainConfig:
    # Somebody else's run is somebody else's config: its own allow_targets counts for nothing here.
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError("run", f"{path} is damaged ({str(error).splitlines()[0]})") from error
    if not isinstance(content, dict):
        raise ConfigError("run", f"{path} is damaged: it holds no configuration")
    check_arguments({key: content.get(key) for key in _BUILT}, content, allow)
    try:
        # Keys that only fed others, such as data.path, and keys of other versions do no harm here.
        return TrainConfig.model_validate(content, extra="ignore")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(
            "run", f"{path} is not a configuration of this version of ntp: {where}: {first['msg']}"
        ) from error


_BUILT = ("model", "objective", "data")


def choose_device(accelerator: str) -> torch.device:
    """The device that ``cpu``, ``gpu`` or ``auto`` means here.

    Raises:
        ConfigError: a GPU is asked for and none is there.
    """
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("accelerator", "there is no GPU here; take cpu or auto")
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")
