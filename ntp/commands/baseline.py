"""``ntp baseline``: let n-grams, classifiers and compressors take the exams of runs."""

import sys
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from ntp.baselines.baseline import Unsuitable
from ntp.baselines.fitting import BaselineResults, baselines_for
from ntp.baselines.printing import print_baselines
from ntp.commands.output import check_output
from ntp.config.errors import ConfigError
from ntp.config.schema import BaselineConfig
from ntp.config.validation import resolve, validate
from ntp.evaluation.taking import prepare_exams
from ntp.tracking.describe import facts, relative, short
from ntp.tracking.tree import print_config
from ntp.training.setup import prepare_data


def run(config: DictConfig) -> list[BaselineResults]:
    """Fit the baselines that are not in the cache, let them take the exams, and print a table.

    Raises:
        ConfigError: there is nothing to do, the data can't be had, or a baseline can't be fitted to it; of those that
            are not for such data, all.
    """
    typed = validate(config, BaselineConfig)
    if typed.print_config:
        print_config(resolve(config))
    check_output(typed.output)
    if not typed.baseline:
        raise ConfigError("baseline", "names none; choose some, such as baseline=[ngram,xz]")
    if not typed.evaluation.exams:
        raise ConfigError("evaluation.exams", "names none; choose some, such as evaluation/exams=[continue]")
    prepared = prepare_data(typed.data, typed.allow_targets)
    exams = prepare_exams(typed.evaluation.exams, typed.data, typed.allow_targets)
    errors, console = Console(stderr=True), Console()

    def say(line: str) -> None:
        if sys.stderr.isatty():
            errors.print(line, style="dim", highlight=False)

    baselines: list[BaselineResults] = []
    missing: dict[str, Unsuitable] = {}
    for name, node in typed.baseline.items():
        try:
            baselines += baselines_for(typed.data, {name: node}, exams, typed.allow_targets, prepared=prepared, say=say)
        except Unsuitable as error:
            missing[name] = error
    if not baselines:
        raise next(iter(missing.values()))
    train = prepared.train
    text = f"{short(train.total_bytes, 'B')}, {short(len(train))} tokens, {prepared.tokenizer.vocabulary_size} ids"
    facts([("training text", text)], console)
    console.print()
    print_baselines(baselines, {name: error.problem for name, error in missing.items()}, console)
    if typed.output is not None:
        for one in baselines:
            try:
                one.save(Path(typed.output) / one.name)
            except OSError as error:
                raise ConfigError("output", f"{typed.output} can't be written ({error.strerror})") from error
        console.print(f"\nwrote {relative(Path(typed.output))}", style="dim", markup=False, soft_wrap=True)
    return baselines
