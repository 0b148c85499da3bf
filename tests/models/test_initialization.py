import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ntp.models.attention import Pattern
from ntp.models.transformer import Transformer

Build = Callable[..., Any]


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


def test_equal_seeds_give_equal_weights(tiny: Build) -> None:
    first = tiny().state_dict()
    torch.manual_seed(0)
    second = tiny().state_dict()
    torch.manual_seed(0)
    third = tiny().state_dict()
    assert all(torch.equal(second[name], third[name]) for name in first)
