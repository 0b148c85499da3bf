"""The rows that are explained are those that a run reads."""

import numpy as np
import pytest

from ntp.config.errors import ConfigError
from ntp.config.schema import DataConfig
from ntp.data.corpora import Files
from ntp.data.datasets import BatchMaker, FixedRows, TrainingRows
from ntp.data.prepare import prepare
from ntp.data.rows import text_windows, training_windows
from ntp.data.sampling import DataOrder
from ntp.data.tokenizers import Bytes
from ntp.explain import text_source, training_source, validation_source
from ntp.objectives.causal import Causal

DATA = DataConfig.model_construct(sequence_length=32, documents="isolate", batch_size=4)


@pytest.fixture(scope="module")
def prepared(text_file, cache):
    return prepare(Files(str(text_file)), Bytes(), cache_dir=cache)


def make_batch(prepared):
    return BatchMaker(Causal(), 32, prepared.tokenizer.token_bytes, prepared.tokenizer.padding)


def test_training_rows_and_draws_are_those_of_the_run(prepared, monkeypatch):
    source = training_source(prepared, Causal(), DATA, seed=5, progress=None)
    windows = training_windows(prepared, Causal(), DATA)
    seen = []
    rows = TrainingRows(windows, DataOrder(len(windows), windows.stride, 4, seed=5), seen.extend)
    rows.__getitems__([0, 3, len(windows) + 2])
    ours = [source.take(0, 0), source.take(1, 2), source.take(2, len(windows))]
    for (row, draw), (their_row, their_draw) in zip(ours, seen, strict=True):
        np.testing.assert_array_equal(row.tokens, their_row.tokens)
        assert draw == their_draw


def test_validation_rows_and_draws_are_those_of_the_run(prepared):
    source = validation_source(prepared, Causal(), DATA, seed=5)
    seen = []
    FixedRows(text_windows(prepared.validation, Causal(), DATA), None, 5, 4, seen.extend).__getitems__([0, 5])
    for (row, draw), (their_row, their_draw) in zip([source.take(0, 0), source.take(5, 0)], seen, strict=True):
        np.testing.assert_array_equal(row.tokens, their_row.tokens)
        assert draw == their_draw
    assert source.take(0, source.rows)[1].epoch == 1


def test_a_long_text_has_several_rows(tokenizer):
    source = text_source("a" * 100, tokenizer, Causal(), DATA, seed=0)
    assert source.rows == 4
    assert len(source.take(0, 0)[0]) == 33
    assert [source.number(2, 9), source.sample] == [2, "draws"]


def test_draws_of_a_text_differ_and_its_row_does_not(tokenizer):
    source = text_source("abc", tokenizer, Causal(), DATA, seed=0, progress=0.5)
    (first, draw), (second, other) = source.take(0, 0), source.take(0, 1)
    np.testing.assert_array_equal(first.tokens, second.tokens)
    assert draw.rng.random() != other.rng.random()
    assert (draw.progress, draw.evaluation) == (0.5, False)


def test_a_text_can_be_corrupted_as_in_evaluation(tokenizer):
    draw = text_source("abc", tokenizer, Causal(), DATA, seed=0, progress=0.5, evaluation=True).take(0, 0)[1]
    assert (draw.progress, draw.evaluation) == (None, True)


@pytest.mark.parametrize("text", ["", "<|endoftext|>"])
def test_a_text_without_text_is_refused(tokenizer, text):
    with pytest.raises(ConfigError, match="text: there is nothing in it"):
        text_source(text, tokenizer, Causal(), DATA, seed=0)


def test_a_text_too_short_for_the_lookahead_is_refused(tokenizer):
    class Far(Causal):
        lookahead = 5

    with pytest.raises(ConfigError, match=r"text: has 3 tokens, too few .* needs 6"):
        text_source("ab", tokenizer, Far(), DATA, seed=0)
