"""From a typed config to the parts of a run, with every check that needs more than the config itself."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import Any

import numpy as np
import torch

from ntp.config.errors import ConfigError
from ntp.config.instantiate import build, locate_as
from ntp.config.nearest import suggestion
from ntp.config.schema import DataConfig, TrainConfig, TrainerConfig
from ntp.data.corpora import Corpus
from ntp.data.datasets import BatchMaker
from ntp.data.example import Batch, Draw
from ntp.data.prepare import Prepared, prepare
from ntp.data.rows import micro_batch_size, training_windows
from ntp.data.sampling import DataOrder
from ntp.data.special_tokens import reserved_tokens, sentinel
from ntp.data.tokenizers import Recipe, Tokenizer
from ntp.data.windows import Windows
from ntp.models.base import LanguageModel
from ntp.models.initialization import named, seeded
from ntp.objectives.base import Context, Objective
from ntp.training.budget import Budget, StepCost, translate
from ntp.training.optimizers import OptimizerRecipe
from ntp.training.schedules import Schedule

_PROBED_ROWS = 16
_MORE_PROBES = 63
_OF_OBJECTIVE = 0


@dataclass
class Setup:
    """The parts of a run, built and checked to fit together.

    Attributes:
        config: typed.
        prepared: tokenizer and token stores.
        objective: bound.
        optimizer: recipe of the optimizer.
        schedule: of the learning rate.
        model: on the device that was asked for.
        budget: length of the run.
        cost: of one optimizer step.
        rows: of the training text, an epoch.
        world_size: devices.
    """

    config: TrainConfig
    prepared: Prepared
    objective: Objective
    optimizer: OptimizerRecipe
    schedule: Schedule
    model: LanguageModel
    budget: Budget
    cost: StepCost
    rows: int
    world_size: int
    sample_batch: Batch


def prepare_data(config: DataConfig, allow: list[str]) -> Prepared:
    """Corpus and tokenizer of the ``data`` node, as token stores.

    Raises:
        ConfigError: the source is missing, empty, unreadable, or too short to be split.
    """
    corpus = build(config.corpus, "data.corpus", base=Corpus, allow=allow)
    recipe = build(config.tokenizer, "data.tokenizer", base=Recipe, allow=allow)
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
    objective: Objective = build(node, "objective", base=Objective, allow=allow)
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
    size = node.get("vocabulary_size")
    if size is not None and size < vocabulary_size:
        raise ConfigError(
            "model.vocabulary_size",
            f"{size} is less than the tokenizer's {vocabulary_size}; null takes the tokenizer's",
        )
    with seeded(seed), torch.device(device):
        size = vocabulary_size if size is None else size
        model: LanguageModel = build(node, "model", base=LanguageModel, allow=allow, vocabulary_size=size)
    limit = model.context_length
    if limit is not None and sequence_length > limit:
        raise ConfigError(
            "data.sequence_length", f"{sequence_length} is longer than the model's context; at most {limit} fits"
        )
    return model


def bind(objective: Objective, tokenizer: Tokenizer, model: LanguageModel, sequence_length: int, seed: int) -> None:
    """Tell the objective about its run.

    Raises:
        ConfigError: the model does not serve its attention, or the tokenizer lacks a special token that it needs.
    """
    if unserved := sorted(objective.attentions - model.attentions):
        raise ConfigError(
            "objective",
            f"needs {' and '.join(unserved)} attention, which {type(model).__name__} does not serve; "
            f"it serves {', '.join(sorted(model.attentions))}",
        )
    missing = tokenizer.missing_special_tokens(objective.special_tokens())
    if missing:
        advice = _what_adds(missing, tokenizer)
        raise ConfigError("data.tokenizer", f"lacks {', '.join(missing)}, which the objective needs; {advice}")
    # Not the numbers of the model again: layers of the objective would begin as copies of the model's weights.
    own_seed = np.random.SeedSequence(seed, spawn_key=(_OF_OBJECTIVE,)).generate_state(1)
    with seeded(int(own_seed[0])):
        objective.bind(
            Context(
                sequence_length=sequence_length,
                tokenizer=tokenizer,
                width=model.width,
                make_stack=model.make_stack,
                named=named,
            )
        )


def _what_adds(missing: list[str], tokenizer: Tokenizer) -> str:
    """What to write for a tokenizer that has the special tokens."""
    if tokenizer.missing_special_tokens(reserved_tokens(0)):  # a pretrained one, to which nothing may be added
        return "data.tokenizer.add_special_tokens=true adds all of ntp's"
    if sentinel(0) in missing:
        return "data.tokenizer.sentinels=128 reserves 128 of them"
    return f'add what is missing with "data.tokenizer.extra_special_tokens={missing}"'


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


def check_lightning_parts(config: TrainConfig) -> None:
    """Check that loggers, callbacks and strategy are what Lightning takes; they are built later.

    Raises:
        ConfigError: names the part that is something else.
    """
    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.loggers import Logger
    from lightning.pytorch.strategies import Strategy, StrategyRegistry

    for group, nodes, base in (("logger", config.logger, Logger), ("callbacks", config.callbacks, Callback)):
        for name, node in nodes.items():
            locate_as(base, node, f"{group}.{name}", config.allow_targets)
    strategy = config.trainer.strategy
    if isinstance(strategy, dict):
        locate_as(Strategy, strategy, "trainer.strategy", config.allow_targets)
    elif strategy not in (known := ["auto", *StrategyRegistry.available_strategies()]):
        raise ConfigError("trainer.strategy", f"there is no '{strategy}'{suggestion(strategy, known)}")


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
    optimizer: OptimizerRecipe = build(config.optimizer, "optimizer", base=OptimizerRecipe, allow=allow)
    schedule: Schedule = build(config.schedule, "schedule", base=Schedule, allow=allow)
    check_lightning_parts(config)
    # Once without weights, before the text is read: a mistake in the model should not wait for the tokenizer.
    build_model(config.model, config.model.get("vocabulary_size") or 1, 0, data.sequence_length, allow, "meta")

    prepared = prepare_data(data, allow)
    vocabulary_size = prepared.tokenizer.vocabulary_size
    model = build_model(config.model, vocabulary_size, config.seed, data.sequence_length, allow, device)
    with torch.device(device):
        bind(objective, prepared.tokenizer, model, data.sequence_length, config.seed)

    windows = training_windows(prepared, objective, data)
    clocked = config.budget.minutes is not None
    probes = _probes(windows, objective, prepared.tokenizer, data, config.seed, clocked)
    first = next(probes)
    # Sixteen rows tell how large a step is; how many steps make up an amount should be known better.
    is_expected = any(getattr(config.budget, unit) is not None for unit in ("targets", "bytes", "flops"))
    cost = _step_cost(
        chain([first], islice(probes, _MORE_PROBES if is_expected else 0)),
        lambda batch: objective.training_flops(model, batch),
        data,
        prepared.train.bytes_per_token * windows.stride,
    )
    return Setup(
        config=config,
        prepared=prepared,
        objective=objective,
        optimizer=optimizer,
        schedule=schedule,
        model=model,
        budget=translate(config.budget, cost),
        cost=cost,
        rows=len(windows),
        world_size=world_size,
        sample_batch=first[0],
    )


def _probes(
    windows: Windows, objective: Objective, tokenizer: Tokenizer, data: DataConfig, seed: int, clocked: bool
) -> Iterator[tuple[Batch, float]]:
    """Without end, some rows as this objective makes them, spread over the run, and the part of their text it reads."""
    order = DataOrder(len(windows), windows.stride, data.batch_size, seed)
    make_batch = BatchMaker(objective, data.sequence_length, tokenizer.token_bytes, tokenizer.padding)
    for begin in count(step=_PROBED_ROWS):
        rows = []
        for index in range(_PROBED_ROWS):
            place = order.place(begin + index)
            progress = None if clocked else index / _PROBED_ROWS
            draw = Draw(seed, place.epoch, place.row, (index, _PROBED_ROWS), progress)
            rows.append((windows.row(place.row, place.offset), draw))
        batch = make_batch(rows)
        text = sum(int(row.bytes[: windows.stride].sum()) for row, _ in rows)
        yield batch, batch.read_bytes / text if text else 1.0


def _step_cost(
    probes: Iterable[tuple[Batch, float]], flops_of: Callable[[Batch], int], data: DataConfig, bytes_per_row: float
) -> StepCost:
    """What a step costs on average, as some rows tell.

    Args:
        probes: rows, and the part of their text that is read; at least one.
        flops_of: a batch.
        data: the ``data`` node.
        bytes_per_row: of text, read or not.
    """
    rows = targets = flops = 0
    shares = []
    for batch, share in probes:
        rows, targets, flops = rows + batch.rows, targets + batch.target_count, flops + flops_of(batch)
        shares.append(share)
    steps = rows / data.batch_size
    return StepCost(
        rows=data.batch_size,
        tokens=data.batch_size * data.sequence_length,
        targets=max(1, targets) / steps,
        bytes=max(1.0, float(np.mean(shares)) * bytes_per_row * data.batch_size),
        flops=flops / steps,
    )
