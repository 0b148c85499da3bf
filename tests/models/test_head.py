import math

import pytest
import torch
import torch.nn.functional as F

from ntp.data.example import IGNORE
from ntp.models.head import logits, token_nll

SLICES = 4 * 50 * 3
"""Bytes that hold the logits of three targets over fifty tokens."""


def problem(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    hidden = torch.randn(20, 8).to(dtype).requires_grad_()
    weight = torch.randn(50, 8).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(50, (20,))


def test_nats_of_known_logits() -> None:
    torch.manual_seed(42)
    scores = torch.randn(3, 5)
    nll = token_nll(scores, torch.eye(5), torch.tensor([0, 3, 1]))
    torch.testing.assert_close(nll, torch.tensor([1.3471824, 2.1299256, 1.2115952]))


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary() -> None:
    nll = token_nll(torch.zeros(2, 4), torch.randn(50257, 4), torch.tensor([0, 50256]))
    torch.testing.assert_close(nll, torch.full((2,), 10.8249051))


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_slices_change_no_loss(dtype: torch.dtype, softcap: float | None) -> None:
    hidden, weight, targets = problem(dtype)
    plain = token_nll(hidden, weight, targets, softcap)
    torch.testing.assert_close(token_nll(hidden, weight, targets, softcap, limit=SLICES), plain, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("softcap", [None, 2.0])
def test_slices_change_no_gradient(softcap: float | None) -> None:
    hidden, weight, targets = problem()
    plain = torch.autograd.grad(token_nll(hidden, weight, targets, softcap).sum(), (hidden, weight))
    sliced = torch.autograd.grad(token_nll(hidden, weight, targets, softcap, limit=SLICES).sum(), (hidden, weight))
    torch.testing.assert_close(sliced, plain, atol=1e-5, rtol=1e-5)


def test_slices_change_bfloat16_gradients_by_no_more_than_its_rounding() -> None:
    hidden, weight, targets = problem(torch.bfloat16)
    plain = torch.autograd.grad(token_nll(hidden, weight, targets).sum(), (hidden, weight))
    sliced = torch.autograd.grad(token_nll(hidden, weight, targets, limit=SLICES).sum(), (hidden, weight))
    torch.testing.assert_close(sliced, plain, atol=6e-2, rtol=6e-2)


def test_slices_keep_no_logits_for_the_backward_pass() -> None:
    hidden, weight, targets = problem()
    kept: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        token_nll(hidden, weight, targets, limit=SLICES)
    assert max(kept, default=0) <= weight.numel()


def test_loss_of_bfloat16_inputs_is_that_of_their_float32_logits() -> None:
    hidden, weight, targets = problem(torch.bfloat16)
    nll = token_nll(hidden, weight, targets)
    assert nll.dtype == torch.float32
    expected = F.cross_entropy((hidden @ weight.T).float(), targets, reduction="none")
    torch.testing.assert_close(nll, expected)


def test_loss_under_autocast_is_float32() -> None:
    hidden, weight, targets = problem()
    with torch.autocast("cpu", torch.bfloat16):
        assert token_nll(hidden, weight, targets).dtype == torch.float32


def test_no_targets_give_an_empty_loss_with_gradients_of_zero() -> None:
    _, weight, _ = problem()
    hidden = torch.randn(0, 8, requires_grad=True)
    nll = token_nll(hidden, weight, torch.empty(0, dtype=torch.long))
    assert nll.shape == (0,)
    assert nll.sum().item() == 0.0
    nll.sum().backward()
    assert weight.grad is not None
    assert not weight.grad.any()


def test_an_ignored_target_costs_nothing() -> None:
    hidden, weight, targets = problem()
    targets[3] = IGNORE
    assert token_nll(hidden, weight, targets)[3] == 0.0


def test_softcap_bounds_the_logits() -> None:
    assert logits(1000 * torch.randn(5, 8), torch.randn(50, 8), softcap=3.0).abs().max() <= 3.0


def test_softcap_leaves_small_logits_almost_alone() -> None:
    hidden, weight = 0.01 * torch.randn(5, 8), torch.randn(50, 8)
    torch.testing.assert_close(logits(hidden, weight, softcap=30.0), logits(hidden, weight), atol=1e-6, rtol=1e-4)


def test_a_uniform_guess_over_two_tokens_costs_one_bit() -> None:
    nll = token_nll(torch.zeros(1, 4), torch.randn(2, 4), torch.tensor([1]))
    assert nll.item() / math.log(2) == pytest.approx(1.0)
