"""The loss of a text over several passes: what the mean estimates, and what its error means."""

import math

import numpy as np
import pytest
import torch

from ntp.config.schema import DataConfig
from ntp.data.corpora import Files
from ntp.data.prepare import prepare_text
from ntp.data.rows import text_windows
from ntp.evaluation.likelihood import evaluate_rows, mean_and_error
from ntp.objectives.causal import Causal
from ntp.objectives.masked_diffusion import MaskedDiffusion
from tests.objectives.making import MASK_ID, TOKENIZER, Table, bound, transformer

DATA = DataConfig.model_construct(sequence_length=3, batch_size=4, micro_batch_size=None, documents="concatenate")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    directory = tmp_path_factory.mktemp("text")
    (directory / "text.txt").write_text("a text of seventeen")
    corpus = Files(str(directory / "text.txt"))
    return prepare_text(corpus, TOKENIZER, split="all", validation="tail", validation_fraction=0.5, cache_dir=directory)


def evaluated(store, objective, **changes):
    arguments = {"rows": None, "batch_size": None, "seed": 0, "precision": "32-true", "device": torch.device("cpu")}
    return evaluate_rows(transformer(), objective, TOKENIZER, store, DATA, **(arguments | changes))


def exact_bound(model, row):
    """By enumeration of what may be hidden."""
    length = len(row)
    hidden = (np.arange(2**length)[:, None] >> np.arange(length)) & 1
    tokens = torch.tensor(np.where(hidden, MASK_ID, row.tokens))
    with torch.inference_mode():
        states = model(tokens, attention="full")
        targets = torch.tensor(row.tokens).repeat(len(tokens))
        nats = model.token_nll(states.flatten(0, 1), targets, excluded=MASK_ID)
    return Table(nats.reshape(-1, length).numpy()).bound()


def test_the_mean_over_passes_is_that_of_the_bound(store):
    objective = bound(MaskedDiffusion(), 3)
    rows = text_windows(store, objective, DATA)
    assert len(rows) % DATA.batch_size  # the last batch is not full, and the last row is short
    assert len(rows.row(len(rows) - 1)) < 3
    expected = sum(exact_bound(transformer(), rows.row(index)) for index in range(len(rows))) / len(store)
    measured = evaluated(store, objective, draws=300)
    assert measured["loss_stderr"] < 0.01 * expected
    assert abs(measured["loss"] - expected) < 5 * measured["loss_stderr"]


def test_the_error_is_as_large_as_means_of_other_passes_differ(store):
    objective = bound(MaskedDiffusion(), 3)
    several = [evaluated(store, objective, draws=8, seed=seed) for seed in range(40)]
    spread = np.std([one["loss"] for one in several], ddof=1)
    said = math.sqrt(np.mean([one["loss_stderr"] ** 2 for one in several]))
    # The spread of 40 values is known to 11%.
    assert said == pytest.approx(spread, rel=0.45)


def test_an_objective_that_draws_nothing_has_no_error(store):
    once, thrice = evaluated(store, Causal()), evaluated(store, Causal(), draws=3)
    for name in ("loss", "perplexity", "bits_per_token", "bits_per_byte"):
        assert thrice[name] == pytest.approx(once[name], rel=1e-12)
        assert thrice[f"{name}_stderr"] == 0
        assert f"{name}_stderr" not in once


def test_targets_and_bytes_are_those_of_a_pass(store):
    once, twice = evaluated(store, Causal()), evaluated(store, Causal(), draws=2)
    for name in ("targets", "bytes", "rows"):
        assert twice[name] == once[name]


def test_mean_and_error_of_four_passes():
    passes = [
        {"loss": value, "bits_per_token": value / math.log(2), "perplexity": math.exp(value)} for value in (1, 2, 3, 6)
    ]
    named = mean_and_error(passes)
    assert named["loss"] == 3
    assert named["loss_stderr"] == pytest.approx(math.sqrt(14 / 3 / 4))
    assert named["perplexity"] == pytest.approx(math.exp(3))
    assert named["perplexity_stderr"] == pytest.approx(math.exp(3) * named["loss_stderr"])


def test_a_number_that_a_pass_lacks_has_no_mean():
    assert mean_and_error([{"loss": 1.0, "rare": 2.0}, {"loss": 1.0}]) == {"loss": 1.0, "loss_stderr": 0.0}
