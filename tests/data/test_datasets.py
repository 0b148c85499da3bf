"""Batches do not depend on who makes them, when, or beside what."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from ntp.data.corpora import Files
from ntp.data.datasets import BatchMaker, FixedRows, TrainingRows
from ntp.data.prepare import prepare
from ntp.data.sampling import DataOrder
from ntp.data.tokenizers import Characters
from ntp.data.windows import Windows
from ntp.objectives.causal import Causal
from ntp.testing.corpus import MemoryStore


@pytest.fixture(scope="module")
def prepared(text_file, tmp_path_factory):
    return prepare(Files(str(text_file)), Characters(), cache_dir=tmp_path_factory.mktemp("cache"))


def rows_of(prepared, documents="concatenate", seed=0):
    windows = Windows(prepared.train, stride=16, lookahead=1, documents=documents, wrap=True)
    order = DataOrder(len(windows), 16, batch_size=4, seed=seed)
    maker = BatchMaker(Causal(), 16, prepared.tokenizer.token_bytes, prepared.tokenizer.padding)
    return TrainingRows(windows, order, maker)


def test_an_example_does_not_depend_on_its_batch(prepared):
    rows = rows_of(prepared)
    together = rows.__getitems__([3, 1000, 7])
    for line, example in enumerate([3, 1000, 7]):
        assert torch.equal(rows.__getitems__([example]).tokens[0], together.tokens[line])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_an_example_does_not_depend_on_the_process(prepared, workers):
    def batches(count):
        loader = DataLoader(
            rows_of(prepared), batch_sampler=[[1, 2], [3, 4], [900, 901]], collate_fn=lambda one: one, num_workers=count
        )
        return [batch.tokens for batch in loader]

    assert all(torch.equal(one, other) for one, other in zip(batches(0), batches(workers), strict=True))


def test_an_epoch_trains_every_token_but_the_rest_of_the_last_row(prepared):
    rows = rows_of(prepared)
    count = len(rows.windows)
    seen = np.concatenate([rows.__getitems__([one]).targets[0].numpy() for one in range(count)])
    tokens = np.asarray(prepared.train.tokens)
    assert len(seen) == count * 16 > len(tokens) - 16
    assert np.array_equal(np.sort(seen), np.sort(np.roll(tokens, -1)[: len(seen)]))


def test_a_batch_counts_the_bytes_it_predicts(prepared):
    batch = rows_of(prepared).__getitems__([0, 1])
    expected = prepared.tokenizer.token_bytes[batch.targets.numpy()].sum()
    assert batch.target_bytes == expected > 0


def test_fixed_rows_are_spread_over_the_text_and_always_the_same(prepared):
    windows = Windows(prepared.train, stride=16, lookahead=1, documents="concatenate", wrap=False)
    maker = BatchMaker(Causal(), 16, prepared.tokenizer.token_bytes, prepared.tokenizer.padding)
    some = FixedRows(windows, 5, 0, 4, maker)
    assert some.rows[0] == 0
    assert some.rows[-1] == windows.whole - 1 >= len(windows) - 2
    assert len(set(some.rows.tolist())) == len(some) == 5
    assert torch.equal(some.__getitems__([1, 2]).tokens, some.__getitems__([1, 2]).tokens)
    assert len(FixedRows(windows, 10**6, 0, 4, maker)) == len(FixedRows(windows, None, 0, 4, maker)) == len(windows)


@pytest.mark.parametrize("total", [159, 160, 161, 162, 163, 175, 176])
@pytest.mark.parametrize("count", [1, 3, 8, 9])
def test_a_choice_of_fixed_rows_does_not_depend_on_how_far_an_objective_looks_ahead(total, count):
    store = MemoryStore(np.arange(total), np.ones(total, dtype=np.int64), np.array([0, total]))
    chosen = [
        FixedRows(Windows(store, 16, lookahead, "concatenate", wrap=False), count, 0, 4, None).rows.tolist()
        for lookahead in (0, 1, 2, 3)
    ]
    assert chosen == [chosen[0]] * 4
    assert len(set(chosen[0])) == count
