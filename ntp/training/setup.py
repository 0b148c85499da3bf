"""From a typed config to the parts of a run, with every check that needs more than the config itself."""

from dataclasses import dataclass
from typing import Any

import torch

from ntp.config.errors import ConfigError
from ntp.config.instantiate import build, locate
from ntp.config.schema import DataConfig, TrainConfig, TrainerConfig
from ntp.data.datasets import BatchMaker, TrainingRows
from ntp.data.example import Batch
from ntp.data.prepare import Prepared, prepare
from ntp.data.rows import micro_batch_size, training_windows
from ntp.data.sampling import DataOrder
from ntp.data.tokenizers import Tokenizer
from ntp.data.windows import Windows
from ntp.models.base import LanguageModel
from ntp.models.flops import training_flops
from ntp.objectives.base import Context, Objective
from ntp.training.budget import Budget, StepCost, translate

_PROBED_ROWS = 16


@dataclass
class Setup:
    """The parts of a run, built and checked to fit together.

    Attributes:
        config: typed.
        prepared: tokenizer and token stores.
        objective: bound.
        model: on the device that was asked for.
        budget: length of the run.
        cost: of one optimizer step.
        row_flops, target_flops: floating-point operations of training on one row, and on each of its targets.
        rows: of the training text, an epoch.
        world_size: devices.
    """

    config: TrainConfig
    prepared: Prepared
    objective: Objective
    model: LanguageModel
    budget: Budget
    cost: StepCost
    row_flops: float
    target_flops: float
    rows: int
    world_size: int
    sample_batch: Batch


def _check_class(node: dict[str, Any], key: str, base: type, allow: list[str]) -> None:
    if not issubclass(locate(node["_target_"], key, allow), base):
        wanted = f"{base.__module__}.{base.__name__}"
        raise ConfigError(f"{key}._target_", f"{node['_target_']} is not a subclass of {wanted}")


def prepare_data(config: DataConfig, allow: list[str]) -> Prepared:
    """Corpus and tokenizer of the ``data`` node, as token stores.

    Raises:
        ConfigError: the source is missing, empty, unreadable, or too short to be split.
    """
    corpus = build(config.corpus, "data.corpus", allow=allow)
    recipe = build(config.tokenizer, "data.tokenizer", allow=allow)
    return prepare(
        corpus,
        recipe,
        validation=config.validation,
        validation_fraction=config.validation_fraction,
        cache_dir=config.cache_dir,
    )


def build_objective(node: dict[str, Any], allow: list[str]) -> Objective:
    """The objective, not yet bound.

    Raises:
        ConfigError: it is not an `Objective`.
    """
    _check_class(node, "objective", Objective, allow)
    objective: Objective = build(node, "objective", allow=allow)
    return objective


def build_model(
    node: dict[str, Any], vocabulary_size: int, seed: int, sequence_length: int, allow: list[str], device: str = "cpu"
) -> LanguageModel:
    """The model, with the tokenizer's vocabulary unless it says its own.

    Args:
        node: the ``model`` node.
        vocabulary_size: of the tokenizer.
        seed: of the initial weights.
        sequence_length: of the rows it will read.
        allow: packages that the user trusts.
        device: ``cpu``, or ``meta`` for the shapes alone.

    Raises:
        ConfigError: its arguments do not fit together, the vocabulary does not fit its head, or the rows its positions.
    """
    _check_class(node, "model", LanguageModel, allow)
    size = node.get("vocabulary_size")
    if size is not None and size < vocabulary_size:
        raise ConfigError(
            "model.vocabulary_size",
            f"{size} is less than the tokenizer's {vocabulary_size}; null takes the tokenizer's",
        )
    torch.manual_seed(seed)
    with torch.device(device):
        provided = {} if size is not None else {"vocabulary_size": vocabulary_size}
        model: LanguageModel = build(node, "model", allow=allow, **provided)
    limit = model.context_length
    if limit is not None and sequence_length > limit:
        raise ConfigError(
            "data.sequence_length", f"{sequence_length} is longer than the model's context; at most {limit} fits"
        )
    return model


def bind(objective: Objective, tokenizer: Tokenizer, width: int, sequence_length: int, seed: int) -> None:
    """Tell the objective about its run.

    Raises:
        ConfigError: the tokenizer lacks a special token that the objective needs.
    """
    missing = tokenizer.missing_special_tokens(objective.special_tokens())
    if missing:
        raise ConfigError(
            "data.tokenizer",
            f"lacks {', '.join(missing)}, which the objective needs; "
            f"add what is missing with "
            f'"data.tokenizer.extra_special_tokens={missing}"',
        )
    torch.manual_seed(seed)
    objective.bind(
        Context(
            sequence_length=sequence_length,
            vocabulary_size=tokenizer.vocabulary_size,
            special_ids=tokenizer.special_tokens,
            width=width,
            seed=seed,
        )
    )


def count_devices(config: TrainerConfig) -> int:
    """Devices of the run, over all machines.

    Raises:
        ConfigError: a GPU is asked for and none is there, or more than there are.
    """
    available = torch.cuda.device_count()
    on_gpu = config.accelerator == "gpu" or (config.accelerator == "auto" and available > 0)
    if on_gpu and not available:
        raise ConfigError("trainer.accelerator", "there is no GPU here; trainer=cpu runs on the processor")
    if config.devices == "auto":
        return (available if on_gpu else 1) * config.num_nodes
    if on_gpu and config.devices > available:
        raise ConfigError("trainer.devices", f"{config.devices} GPUs are asked for and {available} are here")
    return config.devices * config.num_nodes


def set_up(config: TrainConfig, device: str = "cpu") -> Setup:
    """Build and check all parts of a run that do not belong to Lightning.

    Args:
        config: typed and validated.
        device: ``cpu``, or ``meta`` for a model without weights, to look at.

    Raises:
        ConfigError: something does not fit.
    """
    allow, data = config.allow_targets, config.data
    world_size = count_devices(config.trainer)
    micro_batch_size(data, world_size)
    objective = build_objective(config.objective, allow)
    # Once without weights, before the text is read: a mistake in the model should not wait for the tokenizer.
    build_model(config.model, config.model.get("vocabulary_size") or 1, 0, data.sequence_length, allow, "meta")

    prepared = prepare_data(data, allow)
    vocabulary_size = prepared.tokenizer.vocabulary_size
    model = build_model(config.model, vocabulary_size, config.seed, data.sequence_length, allow, device)
    bind(objective, prepared.tokenizer, model.width, data.sequence_length, config.seed)

    windows = training_windows(prepared, objective, data)
    batch = _probe(windows, objective, prepared.tokenizer, data, config.seed)
    row_flops = float(training_flops(model, data.sequence_length, 0))
    target_flops = float(training_flops(model, data.sequence_length, 1)) - row_flops
    cost = StepCost(
        tokens=data.batch_size * data.sequence_length,
        bytes=max(1.0, batch.read_bytes / batch.rows) * data.batch_size,
        flops=data.batch_size * (row_flops + target_flops * batch.target_count / batch.rows),
    )
    return Setup(
        config=config,
        prepared=prepared,
        objective=objective,
        model=model,
        budget=translate(config.budget, cost),
        cost=cost,
        row_flops=row_flops,
        target_flops=target_flops,
        rows=len(windows),
        world_size=world_size,
        sample_batch=batch,
    )


def _probe(windows: Windows, objective: Objective, tokenizer: Tokenizer, data: DataConfig, seed: int) -> Batch:
    """A few rows as this objective makes them: how many targets and bytes a row has."""
    order = DataOrder(len(windows), windows.stride, data.batch_size, seed)
    make_batch = BatchMaker(objective, data.sequence_length, tokenizer.token_bytes, tokenizer.padding)
    rows = TrainingRows(windows, order, make_batch)
    return rows.__getitems__(list(range(min(_PROBED_ROWS, data.batch_size))))
