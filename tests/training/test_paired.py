"""Runs of one seed are paired: whatever their objectives are, they start alike and read the same text."""

import random
from itertools import combinations
from pathlib import Path

import ntp.conf
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from torch import Tensor

from ntp.config import resolvers, search_path
from ntp.config.compose import CONFIG_MODULE
from ntp.config.schema import TrainConfig
from ntp.config.validation import validate
from ntp.data.module import TextDataModule
from ntp.data.tokenizers import Bytes
from ntp.models.transformer import Transformer
from ntp.objectives.causal import Causal
from ntp.training.setup import Setup, bind, build_model, set_up

OBJECTIVES = sorted(path.stem for path in (Path(ntp.conf.__path__[0]) / "objective").glob("*.yaml"))
LENGTH = 64
ONE_STRIDE = {"causal", "fim", "masked_diffusion", "mixture", "mlm", "multi_token", "prefix_lm", "replaced_token"}
"""Their rows begin as many tokens apart as a row has positions."""

DETECTION = "{_target_:ntp.objectives.replaced_token.ReplacedTokenDetection}"
FURTHER = "{_target_:ntp.objectives.multi_token.MultiTokenPrediction}"
WITH_LAYERS = {
    "modules": ("objective=multi_token", "objective.depth=2"),
    "heads": ("objective=multi_token", "objective.depth=2", "objective.kind=parallel"),
    "generator": ("objective=replaced_token",),
    "twice": (
        "objective=mixture",
        f"+objective.components.first={DETECTION}",
        f"+objective.components.second={DETECTION}",
    ),
}


@pytest.fixture(scope="module")
def build(tiny):
    """Build the parts of a run, as ``ntp train`` does."""

    def build(*overrides: str) -> Setup:
        resolvers.register()
        search_path.register()
        GlobalHydra.instance().clear()
        of_model = not any(one.startswith("model=") for one in overrides)
        sizes = [one for one in tiny if of_model or not one.startswith("model.")]
        sizes += [f"data.sequence_length={LENGTH}", "data.batch_size=16", "budget.steps=32"]
        with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            return set_up(validate(compose("train", overrides=[*sizes, *overrides]), TrainConfig))

    return build


@pytest.fixture(scope="module")
def runs(build):
    """One run of each objective."""
    return {name: build(f"objective={name}") for name in OBJECTIVES}


def weights(module: torch.nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters())


def drawn(module: torch.nn.Module) -> dict[str, Tensor]:
    """Those that are not constants."""
    return {name: one for name, one in module.named_parameters() if len(one.unique()) > 1}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(one, second[name]) for name, one in first.items())


# -- initial weights --


def test_models_start_alike_under_all_objectives(runs):
    first = weights(runs["causal"].model)
    assert all(equal(weights(setup.model), first) for setup in runs.values())


def test_encoder_decoders_start_alike_under_all_objectives_that_they_serve(build):
    objectives = ("prefix_lm", "span_corruption", "ul2")
    first, *others = (weights(build("model=t5_nano", f"objective={name}").model) for name in objectives)
    assert all(equal(first, other) for other in others)


def test_what_is_different_in_a_model_moves_nothing_else(build):
    ours = weights(build().model)
    theirs = weights(build("model.tie_embeddings=false", "model.vocabulary_size=300", "model.mlp_width=48").model)
    alike = {name for name, one in ours.items() if one.shape == theirs[name].shape}
    assert all(torch.equal(ours[name], theirs[name]) for name in alike)
    matrices = {name for name in ours if name.endswith(("qkv.weight", "attention.output.weight"))}
    assert alike > matrices > set()


def test_another_seed_starts_elsewhere(build):
    first, second = (build("objective=replaced_token", f"seed={seed}") for seed in (0, 1))
    for ours, theirs in ((drawn(first.model), drawn(second.model)), (drawn(first.objective), drawn(second.objective))):
        assert ours
        assert not any(torch.equal(one, theirs[name]) for name, one in ours.items())


@pytest.mark.parametrize("name", WITH_LAYERS)
def test_layers_of_an_objective_depend_on_the_seed_alone(build, name):
    first, second = (drawn(build(*WITH_LAYERS[name]).objective) for _ in range(2))
    assert first
    assert equal(first, second)


@pytest.mark.parametrize("name", WITH_LAYERS)
def test_layers_of_an_objective_are_copies_neither_of_the_model_nor_of_each_other(build, name):
    setup = build(*WITH_LAYERS[name])
    own, models = drawn(setup.objective), drawn(setup.model)
    for (ours, one), (theirs, other) in [
        *combinations(own.items(), 2),
        *((a, b) for a in own.items() for b in models.items()),
    ]:
        common = min(one.numel(), other.numel())
        both = torch.stack((one.flatten()[:common], other.flatten()[:common]))
        # Of independent numbers the correlation has a standard deviation of 1 / sqrt(common); few are too few to tell.
        assert common < 64 or torch.corrcoef(both)[0, 1].abs() < 6 / common**0.5, (ours, theirs)


@pytest.mark.parametrize(
    ("change", "alike"),
    [
        (
            "objective.generator_layers=1",
            ("generator_input.", "generator_output.", "detector.", "generator.blocks.0.mlp.up"),
        ),
        ("objective.generator_fraction=0.75", ("detector.",)),
    ],
)
def test_what_is_different_in_an_objective_moves_nothing_else(build, change, alike):
    ours = weights(build("objective=replaced_token").objective)
    theirs = weights(build("objective=replaced_token", change).objective)
    names = [name for name in ours if name.startswith(alike)]
    assert len(names) >= len(alike)
    assert all(torch.equal(ours[name], theirs[name]) for name in names)
    assert ours.keys() != theirs.keys() or any(ours[name].shape != theirs[name].shape for name in ours)


def test_further_depths_leave_the_first_as_it_was(build):
    first, second = (drawn(build("objective=multi_token", f"objective.depth={depth}").objective) for depth in (1, 3))
    assert first.keys() < second.keys()
    assert all(torch.equal(one, second[name]) for name, one in first.items())


def test_a_component_starts_alike_whatever_it_is_mixed_with(build):
    with_causal = build("objective=mixture", "~objective.components.mlm", f"+objective.components.found={DETECTION}")
    with_heads = build("objective=mixture", "~objective.components.causal", "~objective.components.mlm",
        f"+objective.components.further={FURTHER}", f"+objective.components.found={DETECTION}")  # fmt: skip
    first, second = (drawn(setup.objective.parts[-1]) for setup in (with_causal, with_heads))
    assert first
    assert equal(first, second)


class OwnModel(Transformer):
    """A model of another package, which draws by its own means."""

    def __init__(self, vocabulary_size: int | None = None) -> None:
        super().__init__(vocabulary_size, width=16, layers=1)
        self.numbers = (torch.rand(()).item(), np.random.random(), random.random())


class OwnObjective(Causal):
    """An objective of another package, likewise."""

    def bind(self, context):
        self.numbers = (torch.rand(()).item(), np.random.random(), random.random())


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_what_others_draw_by_their_own_means_depends_on_the_seed_alone(seed):
    def numbers(seed):
        model = build_model({"_target_": f"{__name__}.OwnModel"}, 300, seed, 32, ["tests"])
        objective = OwnObjective()
        bind(objective, Bytes().train(), model, 32, seed)
        return [*model.numbers, *objective.numbers]

    first = numbers(seed)
    _ = torch.rand(3), np.random.random(3), random.random()
    assert numbers(seed) == first
    assert len({*first, *numbers(1)}) == 12


# -- what is read --


def rows_read(setup: Setup, part: str, everything: bool = False) -> np.ndarray:
    """The first tokens of every row that the objective is handed, in the order in which they come."""
    config, seen = setup.config, []
    corrupt = setup.objective.corrupt
    data = TextDataModule(
        setup.prepared, setup.objective, config.data, config.evaluation, config.seed, setup.budget.steps
    )
    data.final = everything

    def watched(row, draw):
        seen.append(row.tokens[:LENGTH])
        return corrupt(row, draw)

    setup.objective.corrupt = watched
    try:
        for _ in data.train_dataloader() if part == "train" else data.val_dataloader():
            pass
    finally:
        setup.objective.corrupt = corrupt
    return np.stack(seen)


def test_objectives_of_one_stride_are_those_that_the_docs_name(runs):
    strides = {name: setup.objective.raw_length(LENGTH) - setup.objective.lookahead for name, setup in runs.items()}
    assert {name for name, stride in strides.items() if stride == LENGTH} == ONE_STRIDE


@pytest.mark.parametrize("documents", ["concatenate", "isolate"])
def test_objectives_of_one_stride_train_on_the_same_rows_in_the_same_order(build, documents):
    read = {name: rows_read(build(f"objective={name}", f"data.documents={documents}"), "train") for name in ONE_STRIDE}
    expected = read["causal"]
    assert all(np.array_equal(rows, expected) for rows in read.values())
    # Over more than two epochs, each in an order and with an offset of its own.
    assert len(expected) == 32 * 16 > 2 * build().rows
    assert not np.array_equal(expected[: build().rows], expected[build().rows : 2 * build().rows])


def test_objectives_of_one_stride_are_validated_on_the_same_rows(runs):
    read = {name: rows_read(runs[name], "val") for name in ONE_STRIDE}
    assert all(np.array_equal(rows, read["causal"]) for rows in read.values())
    assert len(read["causal"]) == 8


def test_another_seed_reads_in_another_order_and_is_validated_on_the_same_rows(build):
    first, second = (build(f"seed={seed}") for seed in (0, 1))
    assert not np.array_equal(rows_read(first, "train"), rows_read(second, "train"))
    assert np.array_equal(rows_read(first, "val"), rows_read(second, "val"))
