from collections.abc import Callable
from typing import Any

import pytest
import torch

from ntp.config.errors import ConfigError
from ntp.models.base import LanguageModel
from ntp.models.cache import KVCache
from ntp.models.transformer import Transformer

Build = Callable[..., Any]
POSITIONS = ["learned", "sinusoidal", "rotary", "alibi", "relative", "none"]
every_position = pytest.mark.parametrize("positions", POSITIONS)


@torch.no_grad()
def read(model: Transformer, tokens: torch.Tensor, cache: KVCache, *steps: int) -> torch.Tensor:
    """The logits of all tokens, read in steps of so many tokens."""
    return torch.cat([model.logits(model(part, cache=cache)) for part in tokens.split(steps, dim=1)], dim=1)


@torch.no_grad()
def answer(model: LanguageModel, tokens: torch.Tensor, cache: KVCache, prompt: int, *steps: int) -> torch.Tensor:
    """The logits of all tokens, of which a prompt is read as a whole and the others in steps of so many tokens."""
    asked, *written = tokens.split((prompt, *steps), dim=1)
    hidden = [model(asked, attention="full", cache=cache)]
    hidden += [model(part, attention="causal", cache=cache) for part in written]
    return model.logits(torch.cat(hidden, dim=1))


@torch.no_grad()
def at_once(model: LanguageModel, tokens: torch.Tensor, prompt: int) -> torch.Tensor:
    """The same logits by one forward."""
    order = (torch.arange(tokens.shape[1]) - prompt + 1).clamp(min=0).expand_as(tokens)
    return model.logits(model(tokens, attention="prefix", order=order))


def assert_answer_is_that_of_one_forward(model: LanguageModel, tokens: torch.Tensor) -> None:
    for prompt, *steps in [(5, *[1] * 7), (1, 4, 3, 4), (12,)]:
        cache = KVCache(capacity=2)
        expected = at_once(model, tokens, prompt)
        torch.testing.assert_close(answer(model, tokens, cache, prompt, *steps), expected, atol=2e-5, rtol=2e-5)
        assert cache.length == 12


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
def test_a_cache_takes_no_other_rule_than_its_own(
    tiny: Build, tiny_pair: Build, tokens: torch.Tensor, argument: str
) -> None:
    for model in (tiny(), tiny_pair()):
        with pytest.raises(ValueError, match="with a cache"):
            model(tokens, attention="full", cache=KVCache(), **{argument: torch.zeros_like(tokens)})


@pytest.mark.parametrize("attention", ["prefix", "ordered"])
def test_a_cache_takes_no_order(tiny: Build, tokens: torch.Tensor, attention: str) -> None:
    with pytest.raises(ValueError, match="causal or full, not"):
        tiny()(tokens, attention=attention, cache=KVCache())


# A prompt that is read as a whole


@every_position
@pytest.mark.parametrize("kv_heads", [2, 4])
def test_a_decoder_answers_a_prompt_step_by_step_as_in_one_forward(
    tiny: Build, tokens: torch.Tensor, positions: str, kv_heads: int
) -> None:
    assert_answer_is_that_of_one_forward(tiny(positions=positions, kv_heads=kv_heads), tokens)


@pytest.mark.parametrize("positions", ["relative", "rotary"])
@pytest.mark.parametrize("kv_heads", [2, 4])
def test_an_encoder_decoder_answers_a_source_step_by_step_as_in_one_forward(
    tiny_pair: Build, tokens: torch.Tensor, positions: str, kv_heads: int
) -> None:
    model = tiny_pair(positions=positions, kv_heads=kv_heads, head_width=6, qk_norm=True)
    assert_answer_is_that_of_one_forward(model, tokens)


@pytest.mark.parametrize("pair", [False, True])
def test_guesses_behind_a_prompt_can_be_taken_back(
    tiny: Build, tiny_pair: Build, tokens: torch.Tensor, pair: bool
) -> None:
    model = tiny_pair() if pair else tiny(positions="relative")
    cache = KVCache()
    answer(model, tokens.flip(1), cache, 5, 7)
    cache.truncate(0)
    answer(model, torch.cat([tokens[:, :7], tokens[:, 2:5]], dim=1), cache, 5, 5)
    cache.truncate(7)
    written = read(model, tokens[:, 7:], cache, 5)
    torch.testing.assert_close(written, at_once(model, tokens, 5)[:, 7:], atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("pair", [False, True])
def test_a_part_of_a_prompt_cannot_be_taken_back(
    tiny: Build, tiny_pair: Build, tokens: torch.Tensor, pair: bool
) -> None:
    cache = KVCache()
    answer(tiny_pair() if pair else tiny(), tokens, cache, 5, 7)
    with pytest.raises(ValueError, match="prompt of 5 positions"):
        cache.truncate(4)
    cache.truncate(5)
    assert cache.length == 5


@pytest.mark.parametrize("pair", [False, True])
def test_only_an_empty_cache_is_given_a_prompt(tiny: Build, tiny_pair: Build, tokens: torch.Tensor, pair: bool) -> None:
    model, cache = tiny_pair() if pair else tiny(), KVCache()
    answer(model, tokens, cache, 12)
    with pytest.raises(ValueError, match="full attention begins a cache, and this one holds 12"):
        model(tokens, attention="full", cache=cache)


def test_an_encoder_decoder_cannot_begin_without_a_source(tiny_pair: Build, tokens: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="begins with its source"):
        tiny_pair()(tokens, attention="causal", cache=KVCache())


def test_a_failed_forward_leaves_no_trace_of_a_source(tiny_pair: Build, tokens: torch.Tensor) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("out of memory")

    model, cache = tiny_pair(), KVCache()
    failing = model.decoder.blocks[1].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError):
        answer(model, tokens.flip(1), cache, 12)
    failing.remove()
    assert cache.length == 0
    torch.testing.assert_close(answer(model, tokens, cache, 5, 7), at_once(model, tokens, 5), atol=2e-5, rtol=2e-5)


def test_a_source_is_held_by_no_more_than_its_key_and_value_heads(tiny_pair: Build, tokens: torch.Tensor) -> None:
    cache = KVCache()
    answer(tiny_pair(kv_heads=1), tokens, cache, 12)
    assert [tensor.shape for tensor in cache.memory(1)] == [(3, 1, 12, 4)] * 2
    assert cache.held == 1


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
