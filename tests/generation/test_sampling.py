import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ntp.config.errors import ConfigError
from ntp.generation.sampling import Sampling

LOGITS = torch.tensor([[0.5, 0.4, 0.06, 0.04]]).log()


def probabilities(text=None, **options):
    return Sampling(**options).probabilities(LOGITS, text)[0].tolist()


def test_without_options_the_distribution_is_the_models():
    assert probabilities() == pytest.approx([0.5, 0.4, 0.06, 0.04])


def test_top_k_keeps_k():
    assert probabilities(top_k=2) == pytest.approx([5 / 9, 4 / 9, 0, 0])


@pytest.mark.parametrize(("top_p", "kept"), [(0.4, 1), (0.49, 1), (0.51, 2), (0.95, 3), (1.0, 4)])
def test_top_p_keeps_the_fewest_that_reach_it(top_p, kept):
    assert sum(one > 0 for one in probabilities(top_p=top_p)) == kept


def test_min_p_is_relative_to_the_likeliest():
    assert probabilities(min_p=0.1) == pytest.approx([0.5 / 0.96, 0.4 / 0.96, 0.06 / 0.96, 0])


def test_temperature_sharpens():
    assert probabilities(temperature=0.5)[0] == pytest.approx(0.25 / (0.25 + 0.16 + 0.0036 + 0.0016))


def test_the_repetition_penalty_weakens_seen_tokens_whatever_their_sign():
    logits = torch.tensor([[2.0, -2.0, 1.0]])
    seen = torch.tensor([[0, 1, 0]])
    expected = torch.tensor([[1.0, -4.0, 1.0]]).softmax(1)
    assert torch.allclose(Sampling(repetition_penalty=2.0).probabilities(logits, seen), expected)


@given(
    logits=st.lists(st.floats(-20, 20), min_size=2, max_size=8),
    temperature=st.floats(0.1, 3),
    top_k=st.none() | st.integers(1, 10),
    top_p=st.none() | st.floats(0.01, 1),
    min_p=st.none() | st.floats(0, 1),
)
def test_every_combination_is_a_distribution_that_keeps_the_likeliest(logits, temperature, top_k, top_p, min_p):
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    result = sampling.probabilities(torch.tensor([logits]))[0]
    assert result.sum().item() == pytest.approx(1, abs=1e-5)
    # Logits that differ by less than a float32 probability shows are equally likely.
    kept = torch.tensor(logits)[result > 0]
    assert kept.max().item() == pytest.approx(max(logits), abs=1e-5)


def test_samples_follow_the_distribution():
    generator = torch.Generator().manual_seed(0)
    drawn = Sampling().choose(LOGITS.expand(20_000, -1), None, generator)
    frequency = drawn.bincount(minlength=4) / len(drawn)
    assert frequency.tolist() == pytest.approx([0.5, 0.4, 0.06, 0.04], abs=0.015)


def test_a_diverged_model_is_told_in_words():
    with pytest.raises(ConfigError, match="diverged"):
        Sampling().choose(torch.tensor([[0.0, float("nan")]]), None, None)
