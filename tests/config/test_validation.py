"""What a composed config may hold, beyond what the command line's tests show."""

from typing import Literal

import pytest
from omegaconf import OmegaConf

from ntp.config.errors import ConfigError
from ntp.config.schema import CommonConfig, Section, Target
from ntp.config.types import NonNegativeFloat, PositiveInt, Probability
from ntp.config.validation import validate


class Inner(Section):
    size: PositiveInt
    kind: Literal["one", "two"]


class Root(CommonConfig):
    inner: Inner
    thing: Target


class Thing:
    def __init__(
        self,
        rate: Probability = 0.5,
        path: str = "",
        names: list[str] | None = None,
        shares: dict[str, NonNegativeFloat | list[Probability]] | None = None,
    ) -> None: ...


class Demanding:
    def __init__(self, size: int) -> None: ...


class Keywords:
    def __init__(self, **anything: int) -> None: ...


def check(thing=None, **changes):
    content = {
        "allow_targets": ["tests"],
        "print_config": False,
        "inner": {"size": 1, "kind": "one"},
        "thing": {"_target_": f"{__name__}.Thing"} | (thing or {}),
    }
    return validate(OmegaConf.create(content | changes), Root)


def refused(match, **arguments):
    with pytest.raises(ConfigError, match=match):
        check(**arguments)


def test_a_good_config_is_typed():
    typed = check({"rate": 1})
    assert typed.inner.size == 1
    assert typed.thing["rate"] == 1


def test_whole_floats_are_counts():
    assert check(inner={"size": 1e6, "kind": "one"}).inner.size == 1_000_000


@pytest.mark.parametrize("size", [0, -1, 1.5, "3", True, None, [1], {}])
def test_what_is_not_a_count_is_refused(size):
    refused(r"^inner\.size: ", inner={"size": size, "kind": "one"})


def test_choices_are_listed():
    refused("inner.kind: should be 'one' or 'two', not \"three\"", inner={"size": 1, "kind": "three"})


def test_unknown_keys_are_named_before_missing_ones():
    refused(r"inner\.sise: no such key \(did you mean 'size'\?\)", inner={"sise": 1, "kind": "one"})


def test_a_section_that_is_no_section_is_named():
    refused("^inner: ", inner=3)


def test_a_node_without_a_target_is_named():
    refused("thing: needs a _target_", **{"thing": {"_target_": None}})


def test_arguments_are_checked_against_the_signature():
    refused(r"thing\.rat: Thing takes no such argument \(did you mean 'rate'\?\)", thing={"rat": 1})
    refused(r"thing\.rate: should be less than or equal to 1, not 2", thing={"rate": 2})
    refused(r"thing\.names: should be a valid list", thing={"names": "a"})


def test_a_required_argument_that_is_missing_is_named():
    refused(r"thing\.size: Demanding needs this argument", thing={"_target_": f"{__name__}.Demanding"})


def test_a_class_that_takes_anything_takes_anything():
    content = {"_target_": f"{__name__}.Keywords", "more": 1}
    assert check(content).thing["more"] == 1


def test_a_key_that_another_one_reads_is_allowed_and_is_the_one_to_blame():
    inner = {"size": 1, "kind": "one", "where": 3}
    refused(r"inner\.where: should be a valid string, not 3", inner=inner, thing={"path": "${inner.where}"})
    inner["where"] = "here"
    assert check({"path": "${inner.where}"}, inner=inner).thing["path"] == "here"


def test_an_interpolation_to_nowhere_is_one_line():
    refused("thing.path: .*nowhere", thing={"path": "${nowhere}"})


def test_a_mandatory_value_is_named():
    refused(r"thing\.path: needs a value", thing={"path": "???"})


def test_of_several_allowed_types_the_error_is_about_the_one_that_fits_best():
    refused(r"^thing\.shares\.a: should be greater than or equal to 0, not -1", thing={"shares": {"a": -1}})
    refused(r"^thing\.shares\.b: should be less than or equal to 1, not 2", thing={"shares": {"a": 1, "b": [0.5, 2]}})
    refused(r'^thing\.shares: should be a mapping, not "a"', thing={"shares": "a"})
