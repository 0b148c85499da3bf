import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ntp.config.errors import ConfigError
from ntp.models.positions import Alibi, LearnedPositions, alibi_slopes, rotary, rotate, sinusoidal

CPU = torch.device("cpu")


def turned(vector: torch.Tensor, position: int) -> torch.Tensor:
    return rotate(vector, rotary(torch.tensor([[position]]), vector.shape[-1], 10000.0))


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
def test_rotary_scores_depend_on_relative_position_only(query_at: int, key_at: int, shift: int) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 8, generator=generator)
    score = (turned(query, query_at) * turned(key, key_at)).sum()
    shifted = (turned(query, query_at + shift) * turned(key, key_at + shift)).sum()
    torch.testing.assert_close(score, shifted, atol=2e-3, rtol=0)


def test_rotary_keeps_lengths() -> None:
    vector = torch.randn(1, 1, 3, 8)
    torch.testing.assert_close(turned(vector, 77).norm(dim=-1), vector.norm(dim=-1))


def test_rotary_at_position_zero_is_the_identity() -> None:
    vector = torch.randn(1, 1, 3, 8)
    assert torch.equal(turned(vector, 0), vector)


def test_rotary_pairs_channels_half_a_head_apart() -> None:
    vector = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(1, 1, 1, 4)
    angle = torch.tensor(3.0)
    expected = torch.tensor([angle.cos(), 0.0, angle.sin(), 0.0]).view(1, 1, 1, 4)
    torch.testing.assert_close(turned(vector, 3), expected)


def test_rotary_angles_stay_float32_for_a_bfloat16_model() -> None:
    rotation = rotary(torch.tensor([[1000, 1001]]), 8, 10000.0)
    turned_heads = rotate(torch.ones(1, 2, 1, 8, dtype=torch.bfloat16), rotation)
    assert rotation.cos.dtype == torch.float32
    assert turned_heads.dtype == torch.bfloat16
    assert not torch.equal(turned_heads[0, 0], turned_heads[0, 1])


def test_sinusoids_match_the_formula_of_the_paper() -> None:
    table = sinusoidal(torch.arange(50)[None], 6)[0]
    frequency = 10000 ** (-2 / 6)
    torch.testing.assert_close(table[7, 1], torch.tensor(7 * frequency).sin())
    torch.testing.assert_close(table[7, 4], torch.tensor(7 * frequency).cos())


def test_sinusoids_fill_an_odd_width() -> None:
    assert sinusoidal(torch.arange(5)[None], 7).shape == (1, 5, 7)


def test_alibi_slopes_of_eight_heads_are_those_of_the_paper() -> None:
    assert alibi_slopes(8, CPU).tolist() == [2.0**-k for k in range(1, 9)]


def test_alibi_slopes_of_twelve_heads_interleave_those_of_sixteen() -> None:
    expected = [2.0**-k for k in range(1, 9)] + [2.0**-k for k in (0.5, 1.5, 2.5, 3.5)]
    torch.testing.assert_close(alibi_slopes(12, CPU), torch.tensor(expected))


def test_alibi_treats_past_and_future_alike() -> None:
    positions = torch.arange(4)[None]
    bias = Alibi(alibi_slopes(2, CPU), positions, positions).bias()
    assert torch.equal(bias, bias.mT)


def test_a_row_longer_than_the_table_is_refused_with_the_largest_right_value() -> None:
    with pytest.raises(ConfigError, match=r"data\.sequence_length: .*largest right value is 8"):
        LearnedPositions(8, 4).check_length(9)


def test_a_row_as_long_as_the_table_is_accepted() -> None:
    LearnedPositions(8, 4).check_length(8)
