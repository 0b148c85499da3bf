import typing
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ntp.config.errors import ConfigError
from ntp.data.collate import collate
from ntp.data.example import IGNORE, Example
from ntp.models.base import LanguageModel
from ntp.models.encoder_decoder import EncoderDecoder, lay_out
from ntp.objectives.base import target_nll

Build = Callable[..., EncoderDecoder]
every_position = pytest.mark.parametrize("positions", ["relative", "rotary"])

# Three rows of twelve: sources of 5, 9 and 1.
ORDER = (torch.arange(12) - torch.tensor([[4], [8], [0]])).clamp(min=0)
# Three documents (sources of 2 and 1, and nothing but a source) and padding in the last row only.
PACKED_ORDER = torch.tensor(
    [
        [0, 0, 1, 2, 0, 1, 2, 3, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5],
        [0, 0, 0, 1, 0, 0, 1, 2, 3, 4, 0, 0],
    ]
)
PACKED_SEGMENTS = torch.tensor([[0] * 4 + [1] * 4 + [2] * 4, [0] * 12, [0] * 4 + [1] * 6 + [-1] * 2])
PACKED_POSITIONS = torch.tensor(
    [[0, 1, 2, 3] * 3, list(range(12)), [0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 0, 0]],
)


def moved(model: LanguageModel, tokens: Tensor, row: int, at: int, **rule: Any) -> Tensor:
    """Which hidden states of a row move when its token at one position does: [L] bool; those of other rows must not."""
    other = tokens.clone()
    other[row, at] = (other[row, at] + 1) % model.vocabulary_size
    with torch.no_grad():
        changed = (model(tokens, **rule) - model(other, **rule)).abs().amax(-1) > 0
    assert not torch.cat((changed[:row], changed[row + 1 :])).any()
    return changed[row]


def expected_to_move(order: Tensor, segments: Tensor, at: int) -> Tensor:
    """The rule of prefix attention in an encoder-decoder of two layers or more, for one row."""
    if segments[at] == -1:
        return torch.zeros_like(order, dtype=torch.bool)
    # The start of the decoder is a query of all of the source and sees no target.
    return (segments == segments[at]) & ((order[at] == 0) | (order >= order[at]))


# Who is told what


@every_position
def test_a_target_is_told_to_later_targets_only(tiny_pair: Build, tokens: Tensor, positions: str) -> None:
    model = tiny_pair(positions=positions).double()
    assert torch.equal(moved(model, tokens, 0, 7, attention="prefix", order=ORDER), torch.arange(12) >= 7)


@every_position
@pytest.mark.parametrize("at", [0, 3, 4])
def test_a_source_is_told_to_itself_and_to_all_targets(
    tiny_pair: Build, tokens: Tensor, positions: str, at: int
) -> None:
    assert moved(tiny_pair(positions=positions).double(), tokens, 0, at, attention="prefix", order=ORDER).all()


@every_position
@pytest.mark.parametrize("row", [0, 1, 2])
def test_in_packed_rows_news_stays_in_its_document_and_follows_the_rule(
    tiny_pair: Build, tokens: Tensor, positions: str, row: int
) -> None:
    model = tiny_pair(positions=positions).double()
    rule = {"attention": "prefix", "order": PACKED_ORDER, "segments": PACKED_SEGMENTS, "positions": PACKED_POSITIONS}
    for at in range(12):
        right = expected_to_move(PACKED_ORDER[row], PACKED_SEGMENTS[row], at)
        assert torch.equal(moved(model, tokens, row, at, **rule), right), at


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_news_travels_by_the_rule_through_any_rows_of_prefix_attention(data: st.DataObject) -> None:
    torch.manual_seed(0)
    model = EncoderDecoder(vocabulary_size=9, width=16, heads=2, init_std=0.3).double().eval()
    rows, length = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 20))
    order = torch.zeros(rows, length, dtype=torch.long)
    segments = torch.full((rows, length), -1)
    for row in range(rows):
        begin = document = 0
        while begin < length and data.draw(st.booleans()):
            end = begin + data.draw(st.integers(1, length - begin))
            source = data.draw(st.integers(0, end - begin))
            order[row, begin:end] = (torch.arange(end - begin) - source + 1).clamp(min=0)
            segments[row, begin:end] = document
            begin, document = end, document + 1
    row, at = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, length - 1))
    tokens = (torch.arange(rows * length) % 9).view(rows, length)
    news = moved(model, tokens, row, at, attention="prefix", order=order, segments=segments)
    assert torch.equal(news, expected_to_move(order[row], segments[row], at))


# What is read


@every_position
def test_gathered_rows_are_read_as_each_would_be_alone(tiny_pair: Build, tokens: Tensor, positions: str) -> None:
    model = tiny_pair(positions=positions)
    together = model(tokens, attention="prefix", order=ORDER)
    for row in range(3):
        alone = model(tokens[row : row + 1], attention="prefix", order=ORDER[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-5)


@every_position
def test_a_packed_document_is_read_as_if_it_were_alone(tiny_pair: Build, tokens: Tensor, positions: str) -> None:
    model = tiny_pair(positions=positions)
    rule = {"order": PACKED_ORDER, "segments": PACKED_SEGMENTS, "positions": PACKED_POSITIONS}
    packed = model(tokens, attention="prefix", **rule)
    for row, begin, end in [(0, 0, 4), (0, 4, 8), (0, 8, 12), (2, 0, 4), (2, 4, 10)]:
        alone = model(tokens[row, begin:end][None], attention="prefix", order=PACKED_ORDER[row, begin:end][None])
        torch.testing.assert_close(packed[row, begin:end][None], alone, atol=1e-5, rtol=1e-5)


@every_position
def test_positions_count_along_the_row_if_none_are_given(tiny_pair: Build, tokens: Tensor, positions: str) -> None:
    model = tiny_pair(positions=positions)
    rule = {"attention": "prefix", "order": PACKED_ORDER, "segments": PACKED_SEGMENTS}
    counted = model(tokens, positions=torch.arange(12).expand(3, -1), **rule)
    torch.testing.assert_close(model(tokens, **rule), counted, atol=1e-5, rtol=1e-5)


@every_position
def test_positions_that_are_given_are_obeyed(tiny_pair: Build, tokens: Tensor, positions: str) -> None:
    model = tiny_pair(positions=positions)
    rule = {"attention": "prefix", "order": ORDER}
    stretched = model(tokens, positions=3 * torch.arange(12).expand(3, -1), **rule)
    shifted = model(tokens, positions=7 + torch.arange(12).expand(3, -1), **rule)
    assert not torch.allclose(model(tokens, **rule)[0], stretched[0], atol=1e-2)
    torch.testing.assert_close(model(tokens, **rule), shifted, atol=1e-4, rtol=1e-4)


def test_one_row_of_rule_may_serve_all_rows(tiny_pair: Build, tokens: Tensor) -> None:
    model, segments = tiny_pair(), torch.tensor([[0] * 6 + [1] * 6])
    order = torch.tensor([[0, 0, 1, 2, 3, 4] * 2])
    shared = model(tokens, attention="prefix", order=order, segments=segments)
    given_each = model(tokens, attention="prefix", order=order.expand(3, -1), segments=segments.expand(3, -1))
    assert torch.equal(shared, given_each)


@every_position
def test_padding_changes_nothing_and_is_given_nothing(tiny_pair: Build, tokens: Tensor, positions: str) -> None:
    model = tiny_pair(positions=positions)
    segments = torch.where(torch.arange(12) < 10, 0, -1).expand(3, -1)
    padded = model(tokens, attention="prefix", order=ORDER * (segments + 1), segments=segments)
    alone = model(tokens[:, :10], attention="prefix", order=ORDER[:, :10])
    torch.testing.assert_close(padded[:, :10], alone, atol=1e-5, rtol=1e-5)
    assert not padded[:, 10:].any()


@every_position
@pytest.mark.parametrize(
    ("order", "segments"),
    [
        pytest.param([[0] * 12] * 3, None, id="no targets"),
        pytest.param([list(range(1, 13))] * 3, None, id="no source"),
        pytest.param([list(range(1, 13)), [0] * 12, [0] * 12], None, id="a row without a source, rows without targets"),
        pytest.param([[0] * 12] * 3, [[-1] * 12] * 3, id="nothing but padding"),
        pytest.param([[0] * 12] * 3, [[0] * 12, [-1] * 12, [0] * 6 + [-1] * 6], id="a row of nothing but padding"),
        pytest.param([[0, 1, 1, 2] + [0] * 8] * 3, [[0] * 2 + [1] * 2 + [-1] * 8] * 3, id="a document of targets"),
    ],
)
def test_whatever_a_row_lacks_its_states_and_all_gradients_are_finite(
    tiny_pair: Build, tokens: Tensor, positions: str, order: list[list[int]], segments: list[list[int]] | None
) -> None:
    model = tiny_pair(positions=positions, qk_norm=True, bias=True)
    given = None if segments is None else torch.tensor(segments)
    hidden = model(tokens, attention="prefix", order=torch.tensor(order), segments=given)
    assert hidden.isfinite().all()
    hidden.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_target_without_a_source_is_told_nothing_of_others(tiny_pair: Build, tokens: Tensor) -> None:
    segments, order = torch.tensor([[0] * 6 + [1] * 6] * 3), torch.tensor([[0, 0, 0, 0, 1, 2, 1, 2, 3, 4, 5, 6]] * 3)
    model = tiny_pair().double()
    news = moved(model, tokens, 0, 1, attention="prefix", order=order, segments=segments)
    assert torch.equal(news, torch.arange(12) < 6)


# How little is computed


def sizes(order: Tensor, segments: Tensor | None = None) -> tuple[int, int]:
    layout = lay_out(order, segments)
    return layout.encoder.read.shape[1], layout.decoder.read.shape[1]


def test_the_last_of_the_source_is_read_by_both_stacks() -> None:
    layout = lay_out(ORDER[:1])
    assert layout.encoder.read.tolist() == [[0, 1, 2, 3, 4]]
    assert layout.decoder.read.tolist() == [[4, 5, 6, 7, 8, 9, 10, 11]]


def test_rows_that_are_alike_are_not_padded_and_need_no_mask() -> None:
    layout = lay_out(ORDER[:1].expand(4, -1))
    assert (layout.encoder.read.shape[1], layout.decoder.read.shape[1]) == (5, 8)
    assert layout.seen is layout.blind is layout.encoder.segments is layout.decoder.segments is None


def test_ragged_rows_are_rounded_up_but_never_longer_than_the_row() -> None:
    source = torch.tensor([[3], [17], [20]])
    order = (torch.arange(60) - source + 1).clamp(min=0)
    assert sizes(order) == (32, 60)


def test_padding_is_read_by_neither_stack() -> None:
    segments = torch.where(torch.arange(12) < 8, 0, -1)[None]
    assert sizes(ORDER[:1], segments) == (5, 4)


def test_stacks_see_gathered_rows_only(tiny_pair: Build, tokens: Tensor) -> None:
    model, shapes = tiny_pair(), []
    for stack in (model.encoder, model.decoder):
        stack.register_forward_pre_hook(lambda module, arguments: shapes.append(tuple(arguments[0].shape)))
    model(tokens, attention="prefix", order=ORDER[:1].expand(3, -1))
    assert shapes == [(3, 5, 16), (3, 8, 16)]


def test_rules_on_the_host_serve_tokens_elsewhere(tiny_pair: Build, tokens: Tensor) -> None:
    model = tiny_pair().to("meta")
    rule = {"order": PACKED_ORDER, "segments": PACKED_SEGMENTS, "positions": PACKED_POSITIONS.to("meta")}
    hidden = model(tokens.to("meta"), attention="prefix", **rule)
    assert (hidden.device.type, hidden.shape) == ("meta", (3, 12, 16))


# Losses and training


def batch_of_targets() -> Any:
    def example(length: int, source: int) -> Example:
        tokens = np.arange(length) % 31
        order = np.maximum(np.arange(length) - source + 1, 0)
        targets = np.where(np.arange(length) >= source - 1, (tokens + 1) % 31, IGNORE)
        return Example(tokens=tokens, targets=targets, order=order)

    rows = [example(12, 5), example(9, 3), example(1, 1)]
    return collate(rows, 12, "prefix", np.ones(31, dtype=np.int64), padding_id=0)


@every_position
def test_every_parameter_gets_a_gradient_from_the_loss_of_a_batch(tiny_pair: Build, positions: str) -> None:
    model = tiny_pair(positions=positions, qk_norm=True, bias=True, norm="layernorm", tie_embeddings=False, kv_heads=2)
    target_nll(model, batch_of_targets()).nll.sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_a_batch_without_targets_gives_gradients_of_zero(tiny_pair: Build, tokens: Tensor) -> None:
    model = tiny_pair()
    hidden = model(tokens, attention="prefix", order=torch.zeros_like(tokens))
    model.token_nll(hidden.flatten(0, 1)[:0], tokens.flatten()[:0]).sum().backward()
    assert not any(parameter.grad.any() for parameter in model.parameters())


def test_the_loss_of_a_batch_is_that_of_its_rows(tiny_pair: Build) -> None:
    model, batch = tiny_pair(), batch_of_targets()
    alone = [target_nll(model, batch.select([row], "prefix")).nll for row in range(3)]
    torch.testing.assert_close(target_nll(model, batch).nll, torch.cat(alone), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_activation_checkpointing_gives_the_same_gradients(tiny_pair: Build, dropout: float) -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = tiny_pair(activation_checkpointing=checkpointing, dropout=dropout).train()
        target_nll(model, batch_of_targets()).nll.sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.filterwarnings("error")
@every_position
def test_reads_under_autocast_to_bfloat16(tiny_pair: Build, tokens: Tensor, positions: str) -> None:
    model = tiny_pair(positions=positions, qk_norm=True, kv_heads=2)
    rule = {"attention": "prefix", "order": PACKED_ORDER, "segments": PACKED_SEGMENTS}
    exact = model.logits(model(tokens, **rule))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.logits(model(tokens, **rule))
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().mean() < 0.05 * exact.abs().mean()


@every_position
@pytest.mark.parametrize("norm", ["rmsnorm", "layernorm"])
def test_trains_with_weights_of_bfloat16(tiny_pair: Build, positions: str, norm: str) -> None:
    model = tiny_pair(positions=positions, norm=norm, qk_norm=True).bfloat16()
    target_nll(model, batch_of_targets()).nll.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_it_learns_a_batch_by_heart() -> None:
    model = EncoderDecoder(vocabulary_size=31, width=32, init_std=0.1)
    batch, optimizer = batch_of_targets(), torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        target_nll(model, batch).nll.mean().backward()
        optimizer.step()
    assert target_nll(model, batch).nll.mean() < 0.05


@pytest.mark.slow
def test_compiled_in_place_it_computes_the_same_and_keeps_its_keys(tiny_pair: Build, tokens: Tensor) -> None:
    model = tiny_pair()
    keys, rules = list(model.state_dict()), [{"order": ORDER}, {"order": PACKED_ORDER, "segments": PACKED_SEGMENTS}]
    expected = [model(tokens, attention="prefix", **rule) for rule in rules]
    model.compile()
    compiled = [model(tokens, attention="prefix", **rule) for rule in rules]
    torch.testing.assert_close(compiled, expected, atol=1e-4, rtol=1e-4)
    assert list(model.state_dict()) == keys


# Options


def test_encoder_and_decoder_have_depths_of_their_own(tiny_pair: Build) -> None:
    model = tiny_pair(encoder_layers=3, decoder_layers=1)
    assert (len(model.encoder.blocks), len(model.decoder.blocks)) == (3, 1)


def test_all_blocks_of_a_stack_share_one_table_of_relative_positions(tiny_pair: Build) -> None:
    tables = [name for name in tiny_pair().state_dict() if name.endswith("relative.table.weight")]
    assert tables == ["encoder.relative.table.weight", "decoder.relative.table.weight"]


def test_encoder_and_decoder_and_head_share_token_embeddings(tiny_pair: Build) -> None:
    model = tiny_pair()
    assert model.output_weight is model.token_embedding.weight
    assert [name for name in model.state_dict() if "embedding" in name] == ["token_embedding.weight"]


def test_an_untied_head_has_weights_of_its_own(tiny_pair: Build) -> None:
    model = tiny_pair(tie_embeddings=False)
    assert model.output_weight.data_ptr() != model.token_embedding.weight.data_ptr()


def test_what_writes_to_the_residual_stream_shrinks_with_how_many_do(tiny_pair: Build) -> None:
    model = tiny_pair(width=128, encoder_layers=4, decoder_layers=3, init_std=0.02)
    for stack, writers in ((model.encoder, 8), (model.decoder, 9)):
        for block in stack.blocks:
            for projection in block.residual_projections():
                assert projection.weight.std().item() == pytest.approx(0.02 / writers**0.5, rel=0.05)


@pytest.mark.parametrize("attention", ["causal", "full", "ordered"])
def test_attention_that_it_cannot_serve_is_refused(tiny_pair: Build, tokens: Tensor, attention: str) -> None:
    with pytest.raises(ValueError, match="attention='prefix', not"):
        tiny_pair()(tokens, attention=attention)


def test_prefix_attention_without_an_order_is_refused(tiny_pair: Build, tokens: Tensor) -> None:
    with pytest.raises(ValueError, match="needs an order"):
        tiny_pair()(tokens, attention="prefix")


def test_private_positions_are_refused(tiny_pair: Build, tokens: Tensor) -> None:
    with pytest.raises(ValueError, match="takes no private"):
        tiny_pair()(tokens, attention="prefix", order=ORDER, private=tokens > 3)


def test_a_stack_that_looks_at_a_source_is_not_run_without_one(tiny_pair: Build) -> None:
    with pytest.raises(ValueError, match="need its memory"):
        tiny_pair().decoder(torch.randn(1, 3, 16))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocabulary_size": None}, r"model\.vocabulary_size: is null"),
        ({"width": 20, "heads": 3}, r"model\.heads: 3 does not divide .* is 2"),
        ({"kv_heads": 3}, r"model\.kv_heads: 3 does not divide .* is 2"),
        ({"positions": "rotary", "head_width": 3}, r"model\.head_width: .* take 4"),
        ({"positions": "rotary", "width": 12}, r"model\.heads: 4 does not divide half of .* is 3"),
        ({"positions": "learned"}, r"model\.positions: 'learned' is not one of relative, rotary"),
        ({"activation": "gleu"}, r"model\.activation: 'gleu' .* closest is gelu"),
        ({"relative_max_distance": 4}, r"model\.relative_max_distance: 4 .* at least 5"),
    ],
)
def test_values_that_do_not_fit_are_refused_with_the_closest_that_do(
    tiny_pair: Build, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_pair(**arguments)


@pytest.mark.parametrize("method", ["embed", "make_stack"])
def test_an_objective_with_layers_of_its_own_is_told_that_it_does_not_fit(tiny_pair: Build, method: str) -> None:
    with pytest.raises(ConfigError, match="EncoderDecoder"):
        getattr(tiny_pair(), method)(1)


def test_annotations_of_the_constructor_can_be_read_at_run_time() -> None:
    assert type(None) in typing.get_args(typing.get_type_hints(EncoderDecoder.__init__)["head_width"])
