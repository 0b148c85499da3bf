from collections.abc import Callable

import pytest
import torch

from ntp.config.errors import ConfigError
from ntp.models.cache import KVCache
from ntp.models.transformer import Transformer

Build = Callable[..., Transformer]
POSITIONS = ["learned", "sinusoidal", "rotary", "alibi", "none"]


@torch.no_grad()
def read(model: Transformer, tokens: torch.Tensor, cache: KVCache, *steps: int) -> torch.Tensor:
    """The logits of all tokens, read in steps of so many tokens."""
    return torch.cat([model.logits(model(part, cache=cache)) for part in tokens.split(steps, dim=1)], dim=1)


def assert_cached_equals_uncached(model: Transformer, tokens: torch.Tensor, *steps: int, capacity: int = 64) -> None:
    with torch.no_grad():
        expected = model.logits(model(tokens))
    torch.testing.assert_close(read(model, tokens, KVCache(capacity), *steps), expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("positions", POSITIONS)
def test_one_token_at_a_time_after_a_prompt_gives_the_uncached_logits(
    tiny: Build, tokens: torch.Tensor, positions: str
) -> None:
    assert_cached_equals_uncached(tiny(positions=positions), tokens, 5, *[1] * 7)


@pytest.mark.parametrize("positions", POSITIONS)
def test_many_tokens_after_a_prompt_give_the_uncached_logits(tiny: Build, tokens: torch.Tensor, positions: str) -> None:
    assert_cached_equals_uncached(tiny(positions=positions), tokens, 4, 3, 1, 4)


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_grouped_heads_give_the_uncached_logits(tiny: Build, tokens: torch.Tensor, kv_heads: int) -> None:
    assert_cached_equals_uncached(tiny(kv_heads=kv_heads), tokens, 5, 1, 1, 5)


def test_normalised_queries_and_keys_give_the_uncached_logits(tiny: Build, tokens: torch.Tensor) -> None:
    assert_cached_equals_uncached(tiny(qk_norm=True), tokens, 5, 1, 1, 5)


def test_a_cache_that_has_to_grow_gives_the_uncached_logits(tiny: Build, tokens: torch.Tensor) -> None:
    assert_cached_equals_uncached(tiny(), tokens, 2, *[1] * 10, capacity=2)


def test_only_key_and_value_heads_are_held(tiny: Build, tokens: torch.Tensor) -> None:
    cache = KVCache()
    read(tiny(kv_heads=1), tokens, cache, 12)
    key, value = torch.randn(2, 3, 1, 1, 4)
    assert cache.append(0, key, value)[0].shape == (3, 1, 13, 4)


def test_truncating_takes_back_what_was_read(tiny: Build, tokens: torch.Tensor) -> None:
    model, cache = tiny(), KVCache()
    first = read(model, tokens, cache, 6, 6)
    cache.truncate(4)
    assert cache.length == 4
    torch.testing.assert_close(read(model, tokens[:, 4:], cache, 8), first[:, 4:], atol=2e-5, rtol=2e-5)


def test_a_cache_cannot_be_truncated_to_more_than_it_holds() -> None:
    with pytest.raises(ValueError, match="cannot be cut to 1"):
        KVCache().truncate(1)


def test_a_failed_forward_leaves_no_trace(tiny: Build, tokens: torch.Tensor) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("out of memory")

    model, cache = tiny(), KVCache()
    expected = read(model, tokens, cache, 12)
    cache.truncate(8)
    failing = model.stack.blocks[1].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError):
        read(model, tokens[:, :4], cache, 4)
    failing.remove()
    torch.testing.assert_close(read(model, tokens[:, 8:], cache, 4), expected[:, 8:], atol=2e-5, rtol=2e-5)


def test_other_rows_than_those_held_are_refused(tiny: Build, tokens: torch.Tensor) -> None:
    model, cache = tiny(), KVCache()
    read(model, tokens, cache, 12)
    with pytest.raises(ValueError, match="holds 3 rows"):
        read(model, tokens[:2, :1], cache, 1)


@pytest.mark.parametrize("argument", ["order", "segments", "private", "positions"])
def test_a_cache_takes_no_other_rule_than_causal(tiny: Build, tokens: torch.Tensor, argument: str) -> None:
    with pytest.raises(ValueError, match="with a cache"):
        tiny()(tokens, cache=KVCache(), **{argument: torch.zeros_like(tokens)})


def test_a_cache_takes_no_bidirectional_attention(tiny: Build, tokens: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="with a cache"):
        tiny()(tokens, attention="full", cache=KVCache())


def test_generating_past_the_learned_positions_is_refused(tiny: Build, tokens: torch.Tensor) -> None:
    model, cache = tiny(positions="learned", context_length=12), KVCache()
    read(model, tokens, cache, 12)
    with pytest.raises(ConfigError, match="13 positions"):
        read(model, tokens[:, :1], cache, 1)


def test_what_is_held_carries_no_gradient(tiny: Build, tokens: torch.Tensor) -> None:
    model, cache = tiny(), KVCache()
    model(tokens, cache=cache)
    key, value = torch.randn(2, 3, 4, 1, 4)
    assert not cache.append(0, key, value)[0].requires_grad
