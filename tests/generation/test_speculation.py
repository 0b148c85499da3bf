"""Speculative decoding: the same text, with fewer readings of the model."""

import itertools

import numpy as np
import pytest
import torch

from ntp.data.collate import collate
from ntp.data.example import Draw, Row
from ntp.data.tokenizers import Bytes
from ntp.generation.continuation import Guesses, continue_tokens, speculate_tokens
from ntp.generation.sampling import Sampling
from ntp.models.transformer import Transformer
from ntp.objectives.base import Context
from ntp.objectives.multi_token import MultiTokenPrediction

V, LENGTH = 13, 24
KINDS = ["sequential", "parallel"]
GREEDY = Sampling(greedy=True)


def pair(kind="sequential", depth=2, **options):
    torch.manual_seed(5)
    model = Transformer(vocabulary_size=V, width=16, layers=2, heads=2, init_std=0.3, **options).eval()
    objective = MultiTokenPrediction(kind=kind, depth=depth)
    objective.bind(Context(LENGTH, Bytes().train(), width=16, make_stack=model.make_stack))
    return model, objective.eval()


def plain(model, prompt, **options):
    return [int(one) for one in continue_tokens(model, torch.tensor(prompt), **options)]


def speculated(model, objective, prompt, **options):
    guesses = Guesses()
    written = [int(one) for one in speculate_tokens(model, objective, torch.tensor(prompt), guesses, **options)]
    assert guesses.written == len(written)
    return written, guesses


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("positions", ["rotary", "learned", "alibi"])
def test_greedy_text_is_the_same_token_for_token(kind, depth, positions):
    model, objective = pair(kind, depth, positions=positions, context_length=64)
    for prompt in ([1], [1, 2, 3], list(range(12))):
        options = {"tokens": 25, "sampling": GREEDY, "context": model.context_length}
        assert speculated(model, objective, prompt, **options)[0] == plain(model, prompt, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("context", [5, 8, 9])
def test_it_is_the_same_beyond_the_end_of_the_context(kind, depth, context):
    model, objective = pair(kind, depth, positions="learned", context_length=context)
    for prompt in ([1, 2], list(range(12))):
        options = {"tokens": 40, "sampling": GREEDY, "context": context}
        assert speculated(model, objective, prompt, **options)[0] == plain(model, prompt, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_the_same_for_the_same_seed(kind):
    model, objective = pair(kind)
    sampling = Sampling(temperature=0.7, top_k=8, repetition_penalty=1.2)
    for seed in range(3):
        options = {"tokens": 25, "sampling": sampling, "seed": seed, "forbidden": torch.tensor([0, 3])}
        assert speculated(model, objective, [1, 2], **options)[0] == plain(model, [1, 2], **options)


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_no_more_is_written_than_was_asked_for(tokens):
    model, objective = pair(depth=3)
    assert len(speculated(model, objective, [1], tokens=tokens, sampling=GREEDY)[0]) == tokens


PERIOD = [3, 1, 4, 9, 2, 5]
TEXT = list(itertools.islice(itertools.cycle(PERIOD), 400))


def trained(kind, depth):
    """Overfitted on a text that repeats itself, which every head can then predict."""
    model, objective = pair(kind, depth)
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], lr=0.01)
    tokens = np.array(TEXT)
    for step in range(40):
        rows = [tokens[start : start + objective.raw_length(LENGTH)] for start in range(step, step + 6)]
        examples = [
            objective.corrupt(Row(row, np.zeros_like(row), np.ones_like(row)), Draw(0, 0, 0, (0, 1), progress=0.0))
            for row in rows
        ]
        terms = objective.loss(model, collate(examples, LENGTH, "causal", np.ones(V, dtype=np.int64), 0))
        optimizer.zero_grad()
        (terms.sum / terms.count).backward()
        optimizer.step()
    return model, objective


@pytest.fixture(scope="module", params=itertools.product(KINDS, [1, 2, 3]), ids=lambda one: f"{one[0]}-{one[1]}")
def expert(request):
    return (*trained(*request.param), request.param[1])


def test_heads_that_know_the_text_save_readings(expert):
    model, objective, depth = expert
    options = {"tokens": 18, "sampling": GREEDY}
    written, guesses = speculated(model, objective, TEXT[:6], **options)
    assert written == plain(model, TEXT[:6], **options) == TEXT[6:LENGTH]
    assert guesses.accepted == guesses.made
    assert guesses.calls == 1 + -(-17 // (depth + 1))


@pytest.mark.parametrize("stop", [[9], [2, 4]])
def test_nothing_is_written_behind_a_token_that_stops(expert, stop):
    model, objective, _ = expert
    options = {"tokens": 18, "sampling": GREEDY, "stop": stop}
    written = speculated(model, objective, TEXT[:6], **options)[0]
    assert written == plain(model, TEXT[:6], **options)
    assert written[-1] in stop


def test_readings_are_counted_where_no_guess_is_right():
    class Wrong:
        depth = 2

        def draft(self, model, tokens_BT, hidden_BTD, caches, choose):
            assert tokens_BT.shape[1] == hidden_BTD.shape[1] + 1
            return torch.tensor([[V - 1, V - 1]])

    model, _ = pair()
    options = {"tokens": 10, "sampling": GREEDY, "forbidden": torch.tensor([V - 1])}
    written, guesses = speculated(model, Wrong(), [1, 2], **options)
    assert written == plain(model, [1, 2], **options)
    assert (guesses.calls, guesses.accepted, guesses.made) == (10, 0, 8)
