import typing
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ntp.config.errors import ConfigError
from ntp.data.example import Attention
from ntp.models import flex, stack
from ntp.models.attention import Pattern, visible
from ntp.models.blocks import Activation, FeedForward
from ntp.models.transformer import Transformer

Build = Callable[..., Any]
POSITIONS = ["learned", "sinusoidal", "rotary", "alibi", "relative", "none"]
every_position = pytest.mark.parametrize("positions", POSITIONS)


def changed(model: Transformer, tokens: Tensor, at: int, **rule: Any) -> Tensor:
    """Which hidden states of the first row move when its token at one position does: [L] bool."""
    other = tokens.clone()
    other[0, at] = (other[0, at] + 1) % model.vocabulary_size
    with torch.no_grad():
        difference = (model(tokens, **rule) - model(other, **rule)).abs()
    return difference[0].amax(-1) > 0


# Who is told what


@every_position
def test_causal_tells_the_past_nothing_and_the_future_everything(tiny: Build, tokens: Tensor, positions: str) -> None:
    moved = changed(tiny(positions=positions).double(), tokens, 5)
    assert torch.equal(moved, torch.arange(12) >= 5)


@every_position
def test_full_attention_tells_everybody(tiny: Build, tokens: Tensor, positions: str) -> None:
    assert changed(tiny(positions=positions).double(), tokens, 5, attention="full").all()


def test_a_target_after_the_prefix_is_not_told_to_the_prefix(tiny: Build, tokens: Tensor) -> None:
    order = (torch.arange(12) - 4).clamp(min=0).expand(3, -1)
    moved = changed(tiny().double(), tokens, 7, attention="ordered", order=order)
    assert torch.equal(moved, torch.arange(12) >= 7)


def test_a_prefix_is_told_to_all_of_itself(tiny: Build, tokens: Tensor) -> None:
    order = (torch.arange(12) - 4).clamp(min=0).expand(3, -1)
    assert changed(tiny().double(), tokens, 4, attention="ordered", order=order).all()


def test_a_document_is_not_told_to_its_neighbours(tiny: Build, tokens: Tensor) -> None:
    segments = torch.tensor([0] * 3 + [1] * 5 + [2] * 4).expand(3, -1)
    moved = changed(tiny().double(), tokens, 4, segments=segments)
    assert moved.nonzero().flatten().tolist() == [4, 5, 6, 7]


def test_a_private_position_is_told_to_its_equals_only(tiny: Build, tokens: Tensor) -> None:
    block = torch.arange(6) // 2
    order = torch.cat((2 * block + 1, 2 * block)).expand(3, -1)
    private = (torch.arange(12) >= 6).expand(3, -1)
    moved = changed(tiny().double(), tokens, 8, attention="ordered", order=order, private=private)
    assert moved.nonzero().flatten().tolist() == [8, 9]


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_news_travels_exactly_as_far_as_the_rule_carries_it(data: st.DataObject) -> None:
    torch.manual_seed(0)
    model = Transformer(vocabulary_size=9, width=16, layers=2, heads=2, init_std=0.3).double().eval()
    length = data.draw(st.integers(1, 7))
    whole = st.lists(st.integers(-1, 3), min_size=length, max_size=length)
    order, segments = torch.tensor([data.draw(whole)]), torch.tensor([data.draw(whole)])
    private = torch.tensor([data.draw(st.lists(st.booleans(), min_size=length, max_size=length))])
    at = data.draw(st.integers(0, length - 1))
    tokens = torch.arange(length)[None]
    moved = changed(model, tokens, at, attention="ordered", order=order, segments=segments, private=private)
    seen = visible(order, segments, private)[0].long()
    assert torch.equal(moved, (seen @ seen)[:, at] > 0)


@every_position
@pytest.mark.parametrize("attention", ["causal", "full"])
def test_padding_changes_nothing(tiny: Build, tokens: Tensor, positions: str, attention: str) -> None:
    model = tiny(positions=positions)
    segments = torch.where(torch.arange(12) < 7, 0, -1).expand(3, -1)
    padded = model(tokens, attention=attention, segments=segments)
    torch.testing.assert_close(padded[:, :7], model(tokens[:, :7], attention=attention), atol=1e-5, rtol=1e-5)


@every_position
def test_a_row_of_nothing_but_padding_is_finite(tiny: Build, tokens: Tensor, positions: str) -> None:
    hidden = tiny(positions=positions)(tokens, segments=torch.full_like(tokens, -1))
    assert hidden.isfinite().all()


@every_position
def test_a_packed_document_is_read_as_if_it_were_alone(tiny: Build, tokens: Tensor, positions: str) -> None:
    model = tiny(positions=positions)
    index = torch.arange(12)
    segments, restarted = (index >= 5).long().expand(3, -1), torch.where(index < 5, index, index - 5).expand(3, -1)
    packed = model(tokens, segments=segments, positions=restarted)
    torch.testing.assert_close(packed[:, 5:], model(tokens[:, 5:]), atol=1e-5, rtol=1e-5)


@every_position
def test_absent_positions_count_from_zero(tiny: Build, tokens: Tensor, positions: str) -> None:
    model = tiny(positions=positions)
    counted = model(tokens, positions=torch.arange(12).expand(3, -1))
    torch.testing.assert_close(model(tokens), counted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary", "alibi", "relative"])
def test_the_order_of_tokens_matters_to_a_bidirectional_model_with_positions(
    tiny: Build, tokens: Tensor, positions: str
) -> None:
    model = tiny(positions=positions)
    turned = model(tokens.roll(1, dims=1), attention="full").roll(-1, dims=1)
    assert not torch.allclose(model(tokens, attention="full"), turned, atol=1e-3)


def test_without_positions_a_bidirectional_model_reads_a_bag_of_tokens(tiny: Build, tokens: Tensor) -> None:
    model = tiny(positions="none")
    turned = model(tokens.roll(1, dims=1), attention="full").roll(-1, dims=1)
    torch.testing.assert_close(model(tokens, attention="full"), turned, atol=1e-5, rtol=1e-5)


# Options


def test_tied_embeddings_share_storage(tiny: Build) -> None:
    model = tiny()
    assert model.output_weight is model.token_embedding.weight
    assert "head.weight" not in model.state_dict()


def test_untied_embeddings_do_not(tiny: Build) -> None:
    model = tiny(tie_embeddings=False)
    assert model.output_weight.data_ptr() != model.token_embedding.weight.data_ptr()


def test_the_head_is_never_biased(tiny: Build) -> None:
    assert not any(name.startswith("head.b") for name in tiny(tie_embeddings=False, bias=True).state_dict())


def test_softcap_reaches_loss_and_logits_alike(tiny: Build, tokens: Tensor) -> None:
    model = tiny(logit_softcap=0.5)
    hidden = model(tokens).flatten(0, 1)
    expected = -model.logits(hidden).log_softmax(-1).gather(1, tokens.flatten()[:, None])[:, 0]
    torch.testing.assert_close(model.token_nll(hidden, tokens.flatten()), expected)
    assert model.logits(hidden).abs().max() <= 0.5


@pytest.mark.parametrize("attention", ["causal", "full"])
def test_activation_checkpointing_gives_the_same_gradients(tiny: Build, tokens: Tensor, attention: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = tiny(activation_checkpointing=checkpointing).train()
        model.token_nll(model(tokens, attention=attention).flatten(0, 1), tokens.flatten()).sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_activation_checkpointing_repeats_the_same_dropout(tiny: Build, tokens: Tensor) -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = tiny(activation_checkpointing=checkpointing, dropout=0.5).train()
        model.token_nll(model(tokens).flatten(0, 1), tokens.flatten()).sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_stack_is_as_precise_behind_a_projection_as_behind_an_embedding(tiny: Build) -> None:
    own = tiny().make_stack(1, None)
    hidden_BLD = torch.randn(2, 5, 16).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        made, expected = own(hidden_BLD), own(hidden_BLD.float())
    assert made.dtype == expected.dtype == torch.float32
    assert torch.equal(made, expected)


def test_dropout_is_off_in_evaluation(tiny: Build, tokens: Tensor) -> None:
    model = tiny(dropout=0.5)
    assert torch.equal(model(tokens), model(tokens))


def test_dropout_is_on_in_training(tiny: Build, tokens: Tensor) -> None:
    model = tiny(dropout=0.5).train()
    assert not torch.equal(model(tokens), model(tokens))


@pytest.mark.parametrize("positions", ["learned", "relative"])
def test_every_parameter_gets_a_gradient(tiny: Build, tokens: Tensor, positions: str) -> None:
    model = tiny(positions=positions, qk_norm=True, bias=True, norm="layernorm", activation="gelu", kv_heads=2)
    model.token_nll(model(tokens).flatten(0, 1), tokens.flatten()).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_normalised_queries_ignore_the_scale_of_their_projection(tiny: Build, tokens: Tensor) -> None:
    model = tiny(qk_norm=True, layers=1, norm_epsilon=1e-12)
    before = model(tokens)
    with torch.no_grad():
        model.stack.blocks[0].attention.qkv.weight[:32] *= 10.0
    torch.testing.assert_close(model(tokens), before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("activation", get_args(Activation))
def test_default_width_of_the_feed_forward_network(tiny: Build, activation: str) -> None:
    model = tiny(width=128, activation=activation, mlp_width=None)
    gated = activation in ("swiglu", "geglu")
    assert model.stack.blocks[0].mlp.down.in_features == (320 if gated else 512)


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("gelu", F.gelu),
        ("gelu_tanh", lambda x: F.gelu(x, approximate="tanh")),
        ("relu", F.relu),
        ("relu2", lambda x: F.relu(x) ** 2),
    ],
)
def test_feed_forward_network_applies_its_nonlinearity(activation: Any, function: Callable[[Tensor], Tensor]) -> None:
    network, hidden = FeedForward(8, 16, activation, bias=True), torch.randn(2, 3, 8)
    torch.testing.assert_close(network(hidden), network.down(function(network.up(hidden))))


@pytest.mark.parametrize(
    ("activation", "function"), [("swiglu", F.silu), ("geglu", lambda x: F.gelu(x, approximate="tanh"))]
)
def test_gated_feed_forward_network_applies_its_nonlinearity_to_the_gate(
    activation: Any, function: Callable[[Tensor], Tensor]
) -> None:
    network, hidden = FeedForward(8, 16, activation, bias=False), torch.randn(2, 3, 8)
    gate, value = network.up.weight.split(16)
    torch.testing.assert_close(network(hidden), network.down(function(hidden @ gate.mT) * (hidden @ value.mT)))


@pytest.mark.parametrize("attention", ["causal", "full"])
def test_rows_that_share_their_positions_share_the_bias_of_relative_positions(
    tiny: Build, tokens: Tensor, attention: Attention, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []
    monkeypatch.setattr(stack, "make_pattern", lambda *args, bias, **more: shapes.append(bias.shape) or Pattern())
    tiny(positions="relative")(tokens, attention=attention)
    assert shapes == [(1, 4, 12, 12)]


# Precision


@pytest.mark.filterwarnings("error")
@every_position
def test_reads_under_autocast_to_bfloat16(tiny: Build, tokens: Tensor, positions: str) -> None:
    model = tiny(positions=positions, qk_norm=True, kv_heads=2)
    exact = model.logits(model(tokens))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.logits(model(tokens))
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().mean() < 0.05 * exact.abs().mean()


@every_position
@pytest.mark.parametrize("norm", ["rmsnorm", "layernorm"])
def test_trains_with_weights_of_bfloat16(tiny: Build, tokens: Tensor, positions: str, norm: str) -> None:
    model = tiny(positions=positions, norm=norm, qk_norm=True).bfloat16()
    segments = torch.zeros_like(tokens)
    hidden = model(tokens, segments=segments)
    assert hidden.dtype == torch.bfloat16
    loss = model.token_nll(hidden.flatten(0, 1), tokens.flatten())
    assert loss.dtype == torch.float32
    loss.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


# What a user may ask wrongly


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocabulary_size": None}, r"model\.vocabulary_size: is null"),
        ({"width": 20, "heads": 3, "positions": "none"}, r"model\.heads: 3 does not divide .* is 2"),
        ({"kv_heads": 3}, r"model\.kv_heads: 3 does not divide .* is 2"),
        ({"width": 12, "heads": 4}, r"model\.heads: 4 does not divide half of .* is 3"),
        ({"width": 15, "heads": 1}, r"model\.width: .* take 16"),
        ({"positions": "learned", "context_length": None}, r"model\.context_length: learned positions need it"),
        ({"positions": "rotory"}, r"model\.positions: 'rotory' .* closest is rotary"),
        ({"activation": "gleu"}, r"model\.activation: 'gleu' .* closest is gelu"),
        ({"norm": "rms"}, r"model\.norm: 'rms' .* closest is rmsnorm"),
        ({"positions": "relative", "relative_buckets": 7}, r"model\.relative_buckets: 7 .* take 8"),
        ({"positions": "relative", "relative_max_distance": 8}, r"model\.relative_max_distance: 8 .* at least 9"),
        ({"init": "zero"}, r"model\.init: 'zero' .* closest is zero_output"),
    ],
)
def test_values_that_do_not_fit_are_refused_with_the_closest_that_do(
    tiny: Build, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny(**arguments)


def test_a_row_longer_than_the_learned_positions_is_refused(tiny: Build, tokens: Tensor) -> None:
    with pytest.raises(ConfigError, match=r"data\.sequence_length: .* largest right value is 8"):
        tiny(positions="learned", context_length=8)(tokens)


def test_annotations_of_the_constructor_can_be_read_at_run_time() -> None:
    hints = typing.get_type_hints(Transformer.__init__, include_extras=True)
    assert type(None) in typing.get_args(hints["vocabulary_size"])


# Compilation


@pytest.mark.slow
@pytest.mark.parametrize("positions", ["rotary", "alibi", "learned"])
def test_compiled_in_place_it_computes_the_same_and_keeps_its_keys(tiny: Build, tokens: Tensor, positions: str) -> None:
    model = tiny(positions=positions)
    keys, rule = list(model.state_dict()), {"attention": "ordered", "order": torch.arange(12).expand(3, -1) // 3}
    expected = [model(tokens), model(tokens, **rule)]
    model.compile()
    torch.testing.assert_close([model(tokens), model(tokens, **rule)], expected, atol=1e-4, rtol=1e-4)
    assert list(model.state_dict()) == keys


@pytest.mark.parametrize("positions", ["rotary", "relative"])
def test_a_forward_is_one_graph(tiny: Build, tokens: Tensor, positions: str) -> None:
    model = tiny(qk_norm=True, positions=positions)
    segments = torch.zeros_like(tokens)
    expected = model(tokens, segments=segments)
    model.compile(backend="eager", fullgraph=True)
    torch.testing.assert_close(model(tokens, segments=segments), expected)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("positions", ["rotary", "alibi"])
@torch.no_grad()
def test_a_forward_with_flex_attention_is_one_graph(
    tiny: Build, tokens: Tensor, positions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(positions=positions, width=64, kv_heads=2)
    rule = {"attention": "ordered", "order": torch.arange(12).expand(3, -1) // 3, "private": tokens < 9}
    expected = model(tokens, **rule)
    monkeypatch.setattr(flex, "usable", lambda *arguments: True)
    model.compile(backend="eager", fullgraph=True)
    torch.testing.assert_close(model(tokens, **rule), expected, atol=1e-4, rtol=1e-4)
