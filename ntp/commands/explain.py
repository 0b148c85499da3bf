"""``ntp explain``: show what an objective makes of a real row."""

from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.console import Console

from ntp.commands.composed import option_name
from ntp.config.errors import ConfigError
from ntp.config.schema import ExplainConfig
from ntp.config.validation import resolve, validate
from ntp.explain import Explanation, Source, explain, text_source, training_source, validation_source
from ntp.explain.terminal import show
from ntp.objectives.base import Objective
from ntp.tracking.describe import relative
from ntp.tracking.tree import print_config
from ntp.training.setup import Prepared, bind, build_model, build_objective, prepare_data


def run(config: DictConfig) -> Explanation:
    """Explain the objective in the terminal and, where a directory is named, as a page and a picture.

    Raises:
        ConfigError: the configuration would not run, there is no such row, or the directory cannot be written.
    """
    typed = validate(config, ExplainConfig)
    if typed.print_config:
        print_config(resolve(config))
    try:
        objective, prepared = _bound(typed)
        source = _source(typed, objective, prepared)
    except ConfigError as error:
        if error.key != "data.sequence_length":
            raise
        raise ConfigError("length", error.problem) from error  # what this command calls it
    if typed.row >= source.rows:
        raise ConfigError("row", f"there are {source.rows} rows; the last is {source.rows - 1}")
    explanation = explain(
        objective,
        prepared.tokenizer,
        source,
        sequence_length=typed.data.sequence_length,
        name=option_name("objective"),
        options=typed.objective,
        row=typed.row,
        sampled=typed.sampled_rows,
    )
    console = Console(width=typed.width, highlight=False)
    show(explanation, console)
    if typed.output is not None:
        _write(explanation, Path(typed.output), console)
    return explanation


def _bound(typed: ExplainConfig) -> tuple[Objective, Prepared]:
    """The objective, knowing a run like that of ``ntp train``, with a model that has no weights."""
    allow, length = typed.allow_targets, typed.data.sequence_length
    objective = build_objective(typed.objective, allow)
    prepared = prepare_data(typed.data, allow)
    vocabulary_size = prepared.tokenizer.vocabulary_size
    with torch.device("meta"):
        model = build_model(typed.model, vocabulary_size, typed.seed, length, allow, "meta")
        bind(objective, prepared.tokenizer, model, length, typed.seed)
    return objective, prepared


def _source(typed: ExplainConfig, objective: Objective, prepared: Prepared) -> Source:
    data, seed = typed.data, typed.seed
    if typed.text is not None:
        return text_source(
            typed.text,
            prepared.tokenizer,
            objective,
            data,
            seed,
            progress=typed.progress,
            evaluation=typed.split == "validation",
        )
    if typed.split == "validation":
        return validation_source(prepared, objective, data, seed)
    return training_source(prepared, objective, data, seed, typed.progress)


def _write(explanation: Explanation, directory: Path, console: Console) -> None:
    from ntp.explain.html import page

    try:
        directory.mkdir(parents=True, exist_ok=True)
        written = [directory / f"{explanation.name}.html"]
        written[0].write_text(page(explanation), encoding="utf-8")
        try:
            from ntp.explain.png import save
        except ModuleNotFoundError as error:
            if error.name != "matplotlib":
                raise
            console.print('no picture: it needs matplotlib; pip install "ntp\\[figures]"', style="dim")
        else:
            written.append(directory / f"{explanation.name}.png")
            save(explanation, written[1])
    except OSError as error:
        raise ConfigError("output", f"{directory} cannot be written ({error.strerror})") from error
    for path in written:
        console.print(f"wrote {relative(path)}", style="dim", markup=False, soft_wrap=True)
