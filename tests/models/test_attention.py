from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ntp.data.example import Attention
from ntp.models.attention import Pattern, attend, make_pattern, visible
from ntp.models.positions import Alibi, alibi_slopes

ROWS, LENGTH, HEADS, HEAD_WIDTH = 3, 12, 4, 16
CPU = torch.device("cpu")


class Case(NamedTuple):
    """What a kernel is told, and the dense rule that it must obey."""

    attention: Attention
    seen: Tensor
    order: Tensor | None = None
    segments: Tensor | None = None
    private: Tensor | None = None


def cases() -> dict[str, Case]:
    index = torch.arange(LENGTH).expand(ROWS, -1)
    equal = torch.zeros_like(index)
    padded = torch.tensor([[0] * 5 + [1] * 7, [0] * 3 + [1] * 4 + [2] * 3 + [-1] * 2, [0] * 4 + [-1] * 8])
    prefix = (index - torch.tensor([[2], [5], [0]]) + 1).clamp(min=0)
    block = torch.arange(LENGTH // 2) // 2
    two_copies = torch.cat((2 * block + 1, 2 * block)).expand(ROWS, -1)
    noisy = (torch.arange(LENGTH) >= LENGTH // 2).expand(ROWS, -1)
    rank = torch.stack([torch.randperm(LENGTH // 2, generator=torch.Generator().manual_seed(b)) for b in range(ROWS)])
    permuted = torch.cat((2 * rank + 1, 2 * rank), dim=1)
    return {
        "causal": Case("causal", visible(index)),
        "causal as ordered": Case("ordered", visible(index), index),
        "full": Case("full", visible(equal)),
        "full as ordered": Case("ordered", visible(equal), equal),
        "causal, isolated and padded": Case("causal", visible(index, padded), None, padded),
        "causal, isolated, as ordered": Case("ordered", visible(index, padded), index, padded),
        "full, isolated and padded": Case("full", visible(equal, padded), None, padded),
        "prefix": Case("ordered", visible(prefix), prefix),
        "prefix, isolated and padded": Case("ordered", visible(prefix, padded), prefix, padded),
        "blocks": Case("ordered", visible(two_copies, None, noisy), two_copies, None, noisy),
        "permutation": Case("ordered", visible(permuted, padded, noisy), permuted, padded, noisy),
    }


CASES = cases()
every_case = pytest.mark.parametrize("name", CASES)


def pattern_of(case: Case, alibi: Alibi | None = None, flex: bool = False, device: torch.device = CPU) -> Pattern:
    order, segments, private = (
        tensor if tensor is None else tensor.to(device) for tensor in (case.order, case.segments, case.private)
    )
    return make_pattern(
        case.attention, LENGTH, device, order=order, segments=segments, private=private, alibi=alibi, flex=flex
    )


def heads(kv_heads: int = HEADS, device: torch.device = CPU) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    shapes = [(ROWS, count, LENGTH, HEAD_WIDTH) for count in (HEADS, kv_heads, kv_heads)]
    return [torch.randn(shape, generator=generator).to(device).requires_grad_() for shape in shapes]


def dense(query: Tensor, key: Tensor, value: Tensor, seen: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention by its definition, in float64."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.double().repeat_interleave(groups, 1), value.double().repeat_interleave(groups, 1)
    scores = query.double() @ key.mT / HEAD_WIDTH**0.5
    if bias is not None:
        scores = scores + bias
    return scores.masked_fill(~seen[:, None], -torch.inf).softmax(-1) @ value


def assert_same(case: Case, pattern: Pattern, kv_heads: int = HEADS, bias: Tensor | None = None) -> None:
    """Compare a kernel with the definition, in what it computes and in all gradients."""
    results = []
    for compute in (
        lambda q, k, v: attend(q, k, v, pattern).double(),
        lambda q, k, v: dense(q, k, v, case.seen, bias),
    ):
        inputs = heads(kv_heads)
        output = compute(*inputs)
        (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
        results.append([output.detach(), *(tensor.grad.double() for tensor in inputs if tensor.grad is not None)])
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference, atol=2e-6, rtol=1e-5)


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_visible_is_the_rule_word_for_word(data: st.DataObject) -> None:
    length = data.draw(st.integers(1, 6))
    whole = st.lists(st.integers(-1, 3), min_size=length, max_size=length)
    order, segments = data.draw(whole), data.draw(whole)
    private = data.draw(st.lists(st.booleans(), min_size=length, max_size=length))
    seen = visible(torch.tensor([order]), torch.tensor([segments]), torch.tensor([private]))[0].tolist()
    for i in range(length):
        for j in range(length):
            allowed = order[j] == order[i] or (order[j] < order[i] and not private[j])
            assert seen[i][j] == (segments[i] == segments[j] and allowed)


def test_every_position_sees_itself_so_no_softmax_is_empty() -> None:
    assert all(case.seen.diagonal(dim1=1, dim2=2).all() for case in CASES.values())


@every_case
def test_kernel_equals_the_dense_rule_forward_and_backward(name: str) -> None:
    assert_same(CASES[name], pattern_of(CASES[name]))


@every_case
def test_kernel_with_grouped_queries_equals_the_dense_rule(name: str) -> None:
    assert_same(CASES[name], pattern_of(CASES[name]), kv_heads=2)


@every_case
@pytest.mark.parametrize("shared", [True, False])
def test_kernel_with_alibi_equals_the_dense_rule_with_a_bias(name: str, shared: bool) -> None:
    positions = torch.arange(LENGTH)[None] if shared else torch.arange(ROWS * LENGTH).view(ROWS, LENGTH) % 5
    alibi = Alibi(alibi_slopes(HEADS, CPU), positions, positions)
    bias = -alibi.slopes[:, None, None] * (positions[:, None, :, None] - positions[:, None, None, :]).abs()
    assert_same(CASES[name], pattern_of(CASES[name], alibi), bias=bias)


@every_case
@pytest.mark.parametrize("rows", [1, ROWS])
@pytest.mark.parametrize("kv_heads", [2, HEADS])
def test_kernel_with_a_learned_bias_equals_the_dense_rule_also_in_the_gradient_of_the_bias(
    name: str, rows: int, kv_heads: int
) -> None:
    case = CASES[name]
    ours = torch.randn(rows, HEADS, LENGTH, LENGTH, requires_grad=True)
    reference = ours.detach().double().requires_grad_()
    pattern = make_pattern(
        case.attention, LENGTH, CPU, order=case.order, segments=case.segments, private=case.private, bias=ours
    )
    assert_same(case, pattern, kv_heads, bias=reference)
    torch.testing.assert_close(ours.grad.double(), reference.grad, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("flex", [False, True])
def test_a_learned_bias_goes_through_a_mask_wherever_flex_attention_would_be_used(flex: bool) -> None:
    bias = torch.zeros(1, HEADS, LENGTH, LENGTH)
    pattern = make_pattern("causal", LENGTH, CPU, bias=bias, flex=flex)
    assert pattern.flex is None
    assert pattern.mask is not None


@every_case
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("with_alibi", [False, True])
@torch.no_grad()
def test_flex_attention_equals_the_dense_rule_in_its_forward(name: str, with_alibi: bool) -> None:
    positions = torch.arange(LENGTH)[None]
    alibi = Alibi(alibi_slopes(HEADS, CPU), positions, positions) if with_alibi else None
    pattern = pattern_of(CASES[name], alibi, flex=True)
    query, key, value = (tensor.detach() for tensor in heads(kv_heads=2))
    expected = dense(query, key, value, CASES[name].seen, alibi.bias() if alibi else None)
    torch.testing.assert_close(attend(query, key, value, pattern).double(), expected, atol=2e-6, rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_case
def test_flex_attention_on_a_gpu_equals_the_dense_rule_forward_and_backward(name: str) -> None:
    device = torch.device("cuda")
    positions = torch.arange(LENGTH, device=device)[None]
    alibi = Alibi(alibi_slopes(HEADS, device), positions, positions)
    for bias in (None, alibi):
        pattern = pattern_of(CASES[name], bias, flex=True, device=device)
        ours, reference = heads(2, device), heads(2, device)
        output = attend(ours[0], ours[1], ours[2], pattern)
        expected = dense(
            reference[0], reference[1], reference[2], CASES[name].seen.to(device), None if bias is None else bias.bias()
        )
        torch.testing.assert_close(output.double(), expected, atol=1e-2, rtol=1e-2)
        gradients = torch.autograd.grad(output.square().sum(), ours)
        for gradient, right in zip(gradients, torch.autograd.grad(expected.square().sum(), reference), strict=True):
            torch.testing.assert_close(gradient, right, atol=5e-2, rtol=5e-2)


def test_causal_and_full_need_no_mask() -> None:
    assert pattern_of(CASES["causal"]) == Pattern(causal=True)
    assert pattern_of(CASES["full"]) == Pattern()


def test_newest_token_after_a_cache_needs_no_mask() -> None:
    assert make_pattern("causal", 1, CPU, past=5) == Pattern()


def test_tokens_after_a_cache_see_the_past_and_each_other_causally() -> None:
    mask = make_pattern("causal", 3, CPU, past=2).mask
    assert mask is not None
    assert torch.equal(mask[0, 0], torch.ones(3, 5, dtype=torch.bool).tril(2))


def test_ordered_without_an_order_is_refused() -> None:
    with pytest.raises(ValueError, match="needs an order"):
        make_pattern("ordered", 4, CPU)


def test_an_order_is_refused_where_the_attention_would_ignore_it() -> None:
    with pytest.raises(ValueError, match="takes no order"):
        make_pattern("causal", 4, CPU, order=torch.zeros(1, 4))


def test_bidirectional_attention_cannot_continue_from_a_cache() -> None:
    with pytest.raises(ValueError, match="only causal"):
        make_pattern("full", 4, CPU, past=2)
