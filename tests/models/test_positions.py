import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ntp.config.errors import ConfigError
from ntp.models.positions import Alibi, LearnedPositions, RelativePositions, alibi_slopes, rotary, rotate, sinusoidal

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


def test_near_distances_have_a_bucket_each_and_far_ones_share() -> None:
    past = RelativePositions(1, 32, 128, bidirectional=False).bucket(-torch.arange(200))
    assert past[:17].tolist() == list(range(17))
    assert past[127] == past[128] == past[199] == 31
    assert (past.diff() >= 0).all()


def test_without_a_future_every_later_key_counts_as_distance_zero() -> None:
    relative = RelativePositions(1, 32, 128, bidirectional=False)
    assert not relative.bucket(torch.arange(1, 50)).any()


def test_past_and_future_have_buckets_of_their_own_for_equal_distances() -> None:
    relative = RelativePositions(1, 32, 128, bidirectional=True)
    distance = torch.arange(1, 300)
    assert torch.equal(relative.bucket(distance), relative.bucket(-distance) + 16)
    assert relative.bucket(torch.tensor(0)) == 0


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "max_distance"), [(32, 128), (8, 20), (64, 1000)])
def test_buckets_are_those_of_t5(bidirectional: bool, buckets: int, max_distance: int) -> None:
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5").T5Attention
    distance = torch.arange(-1500, 1500)
    ours = RelativePositions(1, buckets, max_distance, bidirectional).bucket(distance)
    assert torch.equal(ours, t5._relative_position_bucket(distance, bidirectional, buckets, max_distance))


@given(st.lists(st.integers(-50, 300), min_size=1, max_size=5), st.lists(st.integers(-50, 300), min_size=1, max_size=5))
def test_relative_bias_is_that_of_the_distance_for_any_positions(queries: list[int], keys: list[int]) -> None:
    relative = RelativePositions(3, 8, 20, bidirectional=True)
    bias = relative(torch.tensor([queries]), torch.tensor([keys]))
    assert bias.shape == (1, 3, len(queries), len(keys))
    for i, query in enumerate(queries):
        for j, key in enumerate(keys):
            assert torch.equal(bias[0, :, i, j], relative.table.weight[relative.bucket(torch.tensor(key - query))])


@pytest.mark.parametrize(("buckets", "right"), [(2, 4), (5, 6)])
def test_buckets_that_cannot_be_halved_are_refused_with_the_closest_that_can(buckets: int, right: int) -> None:
    with pytest.raises(ConfigError, match=rf"model\.relative_buckets: {buckets} .* take {right}"):
        RelativePositions(1, buckets, 128, bidirectional=True)


def test_a_last_bucket_that_begins_among_single_distances_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.relative_max_distance: 16 .* at least 17"):
        RelativePositions(1, 32, 16, bidirectional=False)
