import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ntp.models.flops import parameter_count
from ntp.models.transformer import Transformer

FOLDER = Path(__file__).parents[2] / "conf" / "model"
TRANSFORMERS = ["nano", "micro", "small", "gpt2_124m", "llama_1b"]
every_config = pytest.mark.parametrize("name", TRANSFORMERS)


def config(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))


def build(name: str, **changes: Any) -> Transformer:
    arguments = config(name) | changes
    assert arguments.pop("_target_") == "ntp.models.transformer.Transformer"
    with torch.device("meta"):
        return Transformer(**arguments)


@pytest.mark.parametrize(
    ("name", "vocabulary_size", "parameters"),
    [
        ("nano", 2048, 1_016_960),
        ("micro", 8192, 9_875_520),
        ("small", 8192, 29_106_688),
        ("gpt2_124m", 50257, 124_439_808),
        ("llama_1b", 128256, 1_235_814_400),
    ],
)
def test_a_config_has_the_size_it_says(name: str, vocabulary_size: int, parameters: int) -> None:
    assert parameter_count(build(name, vocabulary_size=vocabulary_size)) == parameters


@every_config
def test_a_config_names_every_argument_in_the_order_of_the_constructor(name: str) -> None:
    assert list(config(name)) == ["_target_", *inspect.signature(Transformer).parameters]


@every_config
def test_every_field_of_a_config_has_a_comment_above_it(name: str) -> None:
    lines = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    fields = [number for number, line in enumerate(lines) if line and line[0].isalpha()]
    assert len(fields) == len(inspect.signature(Transformer).parameters)
    assert all(lines[number - 1].startswith("# ") for number in fields)


def test_defaults_of_the_constructor_are_the_nano_config() -> None:
    defaults = {name: parameter.default for name, parameter in inspect.signature(Transformer).parameters.items()}
    assert config("nano") == {"_target_": "ntp.models.transformer.Transformer"} | defaults
