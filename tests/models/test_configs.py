import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ntp.models.base import LanguageModel
from ntp.models.encoder_decoder import EncoderDecoder
from ntp.models.flops import parameter_count
from ntp.models.transformer import Transformer

FOLDER = Path(__file__).parents[2] / "conf" / "model"
CLASSES = {f"{one.__module__}.{one.__name__}": one for one in (Transformer, EncoderDecoder)}
every_config = pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))


def config(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))


def build(name: str, **changes: Any) -> LanguageModel:
    arguments = config(name) | changes
    with torch.device("meta"):
        return CLASSES[arguments.pop("_target_")](**arguments)


def parameters_of(name: str) -> list[str]:
    return list(inspect.signature(CLASSES[config(name)["_target_"]]).parameters)


@pytest.mark.parametrize(
    ("name", "vocabulary_size", "parameters"),
    [
        ("nano", 2048, 1_016_960),
        ("micro", 8192, 9_875_520),
        ("small", 8192, 29_106_688),
        ("gpt2_124m", 50257, 124_439_808),
        ("llama_1b", 128256, 1_235_814_400),
        ("encoder_nano", 2048, 1_016_960),
        ("bert_base", 30522, 108_890_112),
        ("modernbert_base", 50368, 149_014_272),
        ("t5_nano", 2048, 1_050_368),
        ("t5_small", 32128, 76_961_152),
        ("t5_base", 32128, 247_577_856),
    ],
)
def test_a_config_has_the_size_it_says(name: str, vocabulary_size: int, parameters: int) -> None:
    assert parameter_count(build(name, vocabulary_size=vocabulary_size)) == parameters


@every_config
def test_a_config_names_every_argument_in_the_order_of_the_constructor(name: str) -> None:
    assert list(config(name)) == ["_target_", *parameters_of(name)]


@every_config
def test_every_field_of_a_config_has_a_comment_above_it(name: str) -> None:
    lines = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    fields = [number for number, line in enumerate(lines) if line and line[0].isalpha()]
    assert len(fields) == len(parameters_of(name))
    assert all(lines[number - 1].startswith("# ") for number in fields)


def test_a_config_that_says_how_many_parameters_it_has_is_right() -> None:
    said = {}
    for path in FOLDER.glob("*.yaml"):
        match = re.search(r"([\d,]{9,}) parameters", path.read_text(encoding="utf-8").split("_target_")[0])
        if match:
            said[path.stem] = int(match[1].replace(",", ""))
    vocabulary = {"gpt2_124m": 50257, "llama_1b": 128256, "bert_base": 30522, "modernbert_base": 50368}
    vocabulary |= {"t5_small": 32128, "t5_base": 32128}
    assert said == {name: parameter_count(build(name, vocabulary_size=size)) for name, size in vocabulary.items()}


@pytest.mark.parametrize(("name", "target"), [("nano", Transformer), ("t5_nano", EncoderDecoder)])
def test_defaults_of_the_constructor_are_the_nano_config(name: str, target: type[LanguageModel]) -> None:
    defaults = {name: parameter.default for name, parameter in inspect.signature(target).parameters.items()}
    assert config(name) == {"_target_": f"{target.__module__}.{target.__name__}"} | defaults
