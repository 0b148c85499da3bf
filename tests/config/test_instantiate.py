"""A config builds what it may build and nothing else."""

import pytest

from ntp.config.errors import ConfigError
from ntp.config.instantiate import build, locate


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.Popen",
        "builtins.eval",
        "numpy.load",
        "torch.load",  # a function of an allowed package: it runs code from files
        "torch.hub.load",
        "ntp.config.compose.os.system",  # reached through a module that imports it
        "ntp.training.checkpoint.Path",
        "ntp.cli.main",
    ],
)
def test_what_could_run_code_is_refused(target):
    with pytest.raises(ConfigError, match="_target_"):
        locate(target, "objective")


@pytest.mark.parametrize(
    "target",
    [
        "ntp.objectives.causal.Causal",
        "torch.nn.Linear",
        "torch.optim.AdamW",
        "lightning.pytorch.loggers.CSVLogger",
        "lightning.pytorch.callbacks.Timer",
        "lightning.pytorch.strategies.DDPStrategy",
    ],
)
def test_classes_of_ntp_torch_and_lightning_are_allowed(target):
    assert isinstance(locate(target, "x"), type)


def test_a_package_that_the_user_names_is_allowed():
    with pytest.raises(ConfigError, match=r"set allow_targets=\[collections\]"):
        locate("collections.OrderedDict", "x")
    assert locate("collections.OrderedDict", "x", allow=["collections"]).__name__ == "OrderedDict"


def test_a_misspelt_class_is_answered_with_the_nearest_one():
    with pytest.raises(
        ConfigError, match=r"x\._target_: 'ntp.objectives.causal' has no 'Casual' \(did you mean 'Causal'"
    ):
        locate("ntp.objectives.causal.Casual", "x")


def test_a_module_that_does_not_exist_is_named():
    with pytest.raises(ConfigError, match=r"there is no module 'ntp\.objectives\.cusal'"):
        locate("ntp.objectives.cusal.Causal", "x")


def test_a_value_that_a_constructor_refuses_is_an_error_of_its_key():
    node = {"_target_": "ntp.training.schedules.WarmupStableDecay", "warmup_fraction": 0.9, "decay_fraction": 0.9}
    with pytest.raises(ConfigError, match="schedule: warmup_fraction"):
        build(node, "schedule")


def test_provided_arguments_win():
    node = {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3}
    assert build(node, "x", out_features=5).out_features == 5


def test_a_forbidden_target_inside_an_allowed_one_is_refused():
    node = {"_target_": "torch.nn.Linear", "in_features": {"_target_": "os.getpid"}, "out_features": 3}
    with pytest.raises(ConfigError, match=r"x\.in_features\._target_"):
        build(node, "x")


class Part:
    def __init__(self, size: int) -> None:
        if size < 0:
            raise ConfigError("thing.size", "is too small; 0 is the least")
        if size > 9:
            raise ValueError("too large")


class Whole:
    def __init__(self, parts: dict) -> None: ...


@pytest.mark.parametrize(
    ("size", "message"), [(-1, r"thing\.parts\.a\.size: is too small"), (10, r"thing\.parts\.a: too large")]
)
def test_what_an_inner_node_finds_wrong_is_an_error_of_its_own_key(size, message):
    node = {"_target_": f"{__name__}.Whole", "parts": {"a": {"_target_": f"{__name__}.Part", "size": size}}}
    with pytest.raises(ConfigError, match=f"^{message}"):
        build(node, "thing", allow=["tests"])
