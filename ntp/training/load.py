"""A finished or running run, read back from its directory."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ntp.config.errors import ConfigError
from ntp.config.schema import TrainConfig
from ntp.data.tokenizers import Tokenizer
from ntp.models.base import LanguageModel
from ntp.objectives.base import Objective
from ntp.training.checkpoint import CHECKPOINTS
from ntp.training.checkpoint_format import STATE
from ntp.training.restore import read_checkpoint, restore_weights
from ntp.training.setup import bind, build_model, build_objective
from ntp.training.stored_config import read_stored_config, typed_config


@dataclass
class Run:
    """A run with its weights.

    Attributes:
        path: its directory.
        config: what it was trained with.
        tokenizer, objective, model: as they were then, the model in evaluation mode.
        step: optimizer steps that the weights have seen.
        data_digest: of the prepared text that it was trained on; None where it does not say.
    """

    path: Path
    config: TrainConfig
    tokenizer: Tokenizer
    objective: Objective
    model: LanguageModel
    step: int
    data_digest: str | None = None


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
    content = read_stored_config(directory, "run")
    config = typed_config(content, "run", allow, "model", "objective", "data")
    stored = read_checkpoint(directory / CHECKPOINTS / f"{checkpoint}.ckpt", "checkpoint")
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
        directory,
        config,
        tokenizer,
        objective.to(device).eval(),
        model.to(device).eval(),
        stored["global_step"],
        stored.get(STATE, {}).get("data_digest"),
    )


def choose_device(accelerator: str) -> torch.device:
    """The device that ``cpu``, ``gpu`` or ``auto`` means here.

    Raises:
        ConfigError: a GPU is asked for and none is there.
    """
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("accelerator", "there is no GPU here; take cpu or auto")
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")
