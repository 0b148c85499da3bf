import math
import os
import random
import subprocess
import sys
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ntp.models.attention import Pattern
from ntp.models.initialization import named, seeded
from ntp.models.transformer import Transformer

Build = Callable[..., Any]


def weights(build: Build, seed: int = 0, **changes: Any) -> dict[str, Tensor]:
    """What a model starts from."""
    torch.manual_seed(seed)
    return dict(build(**changes).named_parameters())


def shared(first: dict[str, Tensor], second: dict[str, Tensor]) -> list[tuple[str, Tensor, Tensor]]:
    """What both models have by the same name and of the same shape."""
    return [
        (name, one, second[name]) for name, one in first.items() if name in second and one.shape == second[name].shape
    ]


def drawn(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those that are not constants."""
    return {name: weight for name, weight in weights.items() if len(weight.unique()) > 1}


def test_matrices_have_the_standard_deviation_asked_for(tiny: Build) -> None:
    model = tiny(width=128, init_std=0.05)
    assert model.stack.blocks[0].attention.qkv.weight.std().item() == pytest.approx(0.05, rel=0.03)
    assert model.token_embedding.weight.std().item() == pytest.approx(0.05, rel=0.05)


def test_what_writes_to_the_residual_stream_shrinks_with_depth(tiny: Build) -> None:
    model = tiny(width=128, layers=8, init_std=0.02)
    for block in model.stack.blocks:
        for projection in block.residual_projections():
            assert projection.weight.std().item() == pytest.approx(0.02 / math.sqrt(16), rel=0.05)


def test_zero_output_starts_every_block_as_the_identity(tiny: Build) -> None:
    hidden = torch.randn(1, 3, 16)
    block = tiny(init="zero_output").stack.blocks[0]
    pattern = Pattern(causal=True)
    assert torch.equal(block(hidden, pattern), hidden)


def test_biases_start_at_zero(tiny: Build) -> None:
    named = tiny(bias=True, norm="layernorm").named_parameters()
    biases = [parameter for name, parameter in named if name.endswith("bias")]
    assert biases
    assert not any(bias.any() for bias in biases)


@pytest.mark.parametrize("tied", [True, False])
def test_the_first_loss_is_near_that_of_a_uniform_guess(tied: bool) -> None:
    model = Transformer(vocabulary_size=2048, tie_embeddings=tied)
    tokens = torch.randint(2048, (4, 65))
    loss = model.token_nll(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).mean()
    assert loss.item() == pytest.approx(math.log(2048), abs=0.15)


@pytest.mark.parametrize("build", ["tiny", "tiny_pair"])
def test_weights_are_a_function_of_the_seed(build: str, request: pytest.FixtureRequest) -> None:
    first, second, other = (weights(request.getfixturevalue(build), seed) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(torch.equal(weight, other[name]) for name, weight in drawn(first).items())
    assert len(drawn(first)) > 8


def test_a_second_model_of_one_seed_starts_elsewhere(tiny: Build) -> None:
    first, second = dict(tiny().named_parameters()), dict(tiny().named_parameters())
    assert not any(torch.equal(weight, second[name]) for name, weight in drawn(first).items())


@pytest.mark.parametrize(
    ("build", "changes"),
    [
        ("tiny", {"vocabulary_size": 37}),
        ("tiny", {"tie_embeddings": False}),
        ("tiny", {"positions": "learned"}),
        ("tiny", {"positions": "relative", "relative_buckets": 8, "relative_max_distance": 16}),
        ("tiny", {"mlp_width": 40}),
        ("tiny", {"kv_heads": 2, "qk_norm": True}),
        ("tiny_pair", {"vocabulary_size": 37, "tie_embeddings": False}),
        ("tiny_pair", {"positions": "rotary"}),
        ("tiny_pair", {"mlp_width": 40, "kv_heads": 2}),
    ],
)
def test_a_weight_is_the_same_whatever_else_the_model_has(
    build: str, changes: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    first, second = weights(request.getfixturevalue(build)), weights(request.getfixturevalue(build), **changes)
    pairs = shared(first, second)
    assert all(torch.equal(one, other) for _, one, other in pairs)
    assert len({name for name, *_ in pairs} & drawn(first).keys()) >= 4
    assert len(pairs) < len(first.keys() | second.keys())


@pytest.mark.parametrize(
    ("build", "changes", "factor"),
    [("tiny", {"layers": 5}, math.sqrt(2 / 5)), ("tiny_pair", {"decoder_layers": 4}, math.sqrt(2 / 4))],
)
def test_layers_that_are_added_only_scale_what_writes_to_the_residual_stream(
    build: str, changes: dict[str, Any], factor: float, request: pytest.FixtureRequest
) -> None:
    first, second = weights(request.getfixturevalue(build)), weights(request.getfixturevalue(build), **changes)
    assert first.keys() < second.keys()
    for name, one, other in shared(first, second):
        scaled = name.endswith(("output.weight", "down.weight")) and not name.startswith("encoder.")
        assert torch.allclose(one * factor if scaled else one, other, rtol=1e-6, atol=0), name


@pytest.mark.parametrize("build", ["tiny", "tiny_pair"])
def test_no_weight_is_a_copy_of_another(build: str, request: pytest.FixtureRequest) -> None:
    made = drawn(
        weights(request.getfixturevalue(build), layers=3)
        if build == "tiny"
        else weights(request.getfixturevalue(build))
    )
    for (name, one), (other_name, other) in combinations(made.items(), 2):
        common = min(one.numel(), other.numel())
        correlation = torch.corrcoef(torch.stack((one.flatten()[:common], other.flatten()[:common])))[0, 1]
        assert abs(correlation) < 5 / math.sqrt(common), (name, other_name)


def test_stacks_that_are_lent_have_weights_of_their_own(tiny: Build) -> None:
    model = tiny()
    first, second = (dict(model.make_stack(2).named_parameters()) for _ in range(2))
    own = dict(model.stack.named_parameters())
    assert own.keys() == first.keys()
    for name in drawn(own):
        assert not torch.equal(own[name], first[name])
        assert not torch.equal(first[name], second[name])


@pytest.mark.parametrize("build", ["tiny", "tiny_pair"])
def test_weights_are_normal(build: str, request: pytest.FixtureRequest) -> None:
    made = weights(request.getfixturevalue(build), width=128, init_std=0.05, tie_embeddings=False)
    for name, weight in drawn(made).items():
        # Two matrices of each of two blocks write to a stream; in a decoder with a source three.
        writers = (6 if name.startswith("decoder.") else 4) if name.endswith(("output.weight", "down.weight")) else 1
        std, count = 0.05 / math.sqrt(writers), weight.numel()
        assert weight.std().item() == pytest.approx(std, rel=4 / math.sqrt(count)), name
        assert abs(weight.mean().item()) < 4.5 * std / math.sqrt(count), name
        inside = (weight.abs() < std).float().mean().item()
        assert inside == pytest.approx(0.6827, abs=4.5 * 0.466 / math.sqrt(count)), name


def test_without_weights_nothing_is_drawn(tiny: Build) -> None:
    with torch.device("meta"):
        model = tiny()
    assert all(parameter.is_meta for parameter in model.parameters())


def test_another_process_starts_from_the_same_weights() -> None:
    code = (
        "import torch; from ntp.models.transformer import Transformer; torch.manual_seed(5);"
        "print([p.double().sum().item() for p in Transformer(31, width=16, layers=1).parameters()])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
        check=True,
    )
    torch.manual_seed(5)
    assert done.stdout.strip() == str(
        [p.double().sum().item() for p in Transformer(31, width=16, layers=1).parameters()]
    )


def numbers() -> tuple[float, float, float]:
    return torch.rand(()).item(), np.random.random(), random.random()


def test_what_is_built_under_a_seed_draws_the_same_and_moves_no_generator() -> None:
    with seeded(1):
        first = numbers()
    torch.manual_seed(9)
    np.random.seed(9)
    random.seed(9)
    with seeded(1):
        second = numbers()
    after = numbers()
    torch.manual_seed(9)
    np.random.seed(9)
    random.seed(9)
    assert first == second
    assert after == numbers()


def test_a_layer_with_a_name_does_not_depend_on_what_was_built_before() -> None:
    def built(names: list[str], seed: int = 0) -> dict[str, Tensor]:
        made = {}
        with seeded(seed):
            for name in names:
                with named(name):
                    made[name] = nn.Linear(4, 5).weight
        return made

    alone, together = built(["last"]), built(["first", "last"])
    assert torch.equal(alone["last"], together["last"])
    assert not torch.equal(together["first"], together["last"])
    assert not torch.equal(alone["last"], built(["last"], seed=1)["last"])


def test_names_within_names_are_names_of_their_own() -> None:
    made = set()
    with seeded(0):
        for outer in ("a", "b"):
            with named(outer):
                made.add(torch.rand(()).item())
                for inner in ("a", "b"):
                    with named(inner):
                        made.add(torch.rand(()).item())
    assert len(made) == 6
