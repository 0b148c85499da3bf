from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ntp.models.encoder_decoder import EncoderDecoder
from ntp.models.flops import parameter_count
from ntp.models.transformer import Transformer

Build = Callable[..., Transformer]
SHAPES: list[dict[str, Any]] = [
    {},
    {"activation": "gelu", "mlp_width": None, "bias": True},
    {"kv_heads": 2, "qk_norm": True},
    {"positions": "learned", "tie_embeddings": False},
    {"positions": "relative", "activation": "geglu"},
]


def counted(model: Transformer, backward: bool) -> int:
    """What torch counts for two rows of twelve positions, seven targets each."""
    tokens = torch.randint(31, (2, 12))
    # The fused kernel of the CPU is unknown to torch's counter.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        hidden = model(tokens)[:, :7].flatten(0, 1)
        loss = model.token_nll(hidden, tokens[:, :7].flatten()).sum()
        if backward:
            loss.backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("shape", SHAPES)
def test_forward_flops_are_those_that_torch_counts(tiny: Build, shape: dict[str, Any]) -> None:
    model = tiny(**shape)
    assert 2 * model.forward_flops(12, 7) == counted(model, backward=False)


@pytest.mark.parametrize("shape", SHAPES)
def test_training_flops_are_those_that_torch_counts(tiny: Build, shape: dict[str, Any]) -> None:
    model = tiny(**shape)
    assert 2 * 3 * model.forward_flops(12, 7) == counted(model, backward=True)


@pytest.mark.parametrize("changes", [{}, {"kv_heads": 2, "head_width": 6, "qk_norm": True, "tie_embeddings": False}])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("targets", [1, 7, 12])
def test_flops_of_an_encoder_decoder_are_those_that_torch_counts(
    tiny_pair: Callable[..., EncoderDecoder], changes: dict[str, Any], backward: bool, targets: int
) -> None:
    model = tiny_pair(encoder_layers=3, decoder_layers=2, **changes)
    tokens, source = torch.randint(31, (2, 12)), 12 - targets + 1
    order = (torch.arange(12) - source + 1).clamp(min=0).expand(2, -1)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        hidden = model(tokens, attention="prefix", order=order)[:, source - 1 :].flatten(0, 1)
        loss = model.token_nll(hidden, tokens[:, source - 1 :].flatten()).sum()
        if backward:
            loss.backward()
    assert 2 * (3 if backward else 1) * model.forward_flops(12, targets) == counter.get_total_flops()


def test_activation_checkpointing_does_not_change_what_a_model_costs(tiny: Build) -> None:
    assert tiny(activation_checkpointing=True).forward_flops(12, 7) == tiny().forward_flops(12, 7)


def test_tied_weights_count_once(tiny: Build) -> None:
    assert parameter_count(tiny(tie_embeddings=False)) - parameter_count(tiny()) == 31 * 16


def test_embeddings_can_be_left_out_of_the_count(tiny: Build) -> None:
    model = tiny(positions="learned")
    assert parameter_count(model) - parameter_count(model, embeddings=False) == 31 * 16 + 16 * 16
