"""Filling in unknown positions: schedules, order, and the distribution of what is written."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntp.generation.sampling import Sampling
from ntp.generation.unmasking import unmask
from ntp.models.transformer import Transformer
from ntp.objectives.query import Unmask

MASK = 4
FORBIDDEN = torch.tensor([MASK])


class Table(torch.nn.Module):
    """A model whose logits are a function of the text, with a count of how often it is asked."""

    vocabulary_size = MASK + 1

    def __init__(self, logits):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.table, self.calls = logits, 0

    def forward(self, tokens, *, attention):
        assert attention == "full"
        self.calls += 1
        return self.table(tokens)

    def logits(self, hidden):
        return hidden


def constant(probabilities):
    """The same independent distributions [T, 4] whatever is known."""
    logits = torch.tensor(probabilities).log()
    logits = torch.cat([logits, torch.full((len(logits), 1), 3.0)], dim=1)  # the mask token would be likely
    return Table(lambda tokens: logits.expand(len(tokens), -1, -1))


def masked(length, known=(), **options):
    """A text of masks, but for the known positions, which hold token 0."""
    unknown = np.array([position not in known for position in range(length)])
    return Unmask(np.where(unknown, MASK, 0), unknown, MASK, **options)


def run(model, query, **options):
    options = {"sampling": Sampling(), "forbidden": FORBIDDEN} | options
    return torch.stack(list(unmask(model, query, **options)))  # [steps, B, T]


EVEN = [[0.25] * 4]


@given(unknown=st.integers(1, 30), steps=st.none() | st.integers(1, 40), samples=st.integers(1, 3))
@settings(max_examples=40)
def test_by_confidence_the_number_of_known_positions_follows_the_schedule_exactly(unknown, steps, samples):
    model = constant(EVEN * (unknown + 2))
    query = masked(unknown + 2, known=(0, unknown + 1), method="confidence")
    states = run(model, query, steps=steps, samples=samples)
    steps = unknown if steps is None else steps
    assert len(states) == steps
    for step, state in enumerate(states, start=1):
        assert ((state != MASK).sum(1) == 2 + unknown * step // steps).all()
    assert model.calls == min(steps, unknown)  # a step in which nothing becomes known costs nothing


def test_ancestral_steps_make_equally_many_positions_known_on_average():
    length, steps, samples = 24, 6, 400
    known = (run(constant(EVEN * length), masked(length), steps=steps, samples=samples) != MASK).double().sum(2)
    for step, counts in enumerate(known[:-1], start=1):
        share = step / steps
        error = (length * share * (1 - share) / samples) ** 0.5
        assert counts.mean().item() == pytest.approx(length * share, abs=5 * error)
        # Each position by itself: the number is binomial, and not the same in every sample.
        assert counts.var().item() == pytest.approx(length * share * (1 - share), rel=0.35)
    assert (known[-1] == length).all()


def test_a_step_in_which_nothing_becomes_known_asks_nothing_of_the_model():
    model = constant(EVEN * 2)
    states = run(model, masked(2), steps=200)
    assert len(states) == 200
    assert model.calls <= 2


# Not by confidence, which keeps what was likely and draws the rest again: it favours likely texts.
@pytest.mark.parametrize(("method", "steps"), [("ancestral", None), ("ancestral", 1), ("confidence", 1)])
def test_independent_tokens_get_their_joint_distribution(method, steps):
    first, second = [0.5, 0.3, 0.15, 0.05], [0.1, 0.2, 0.3, 0.4]
    samples = 20_000
    filled = run(constant([first, second]), masked(2, method=method), steps=steps, samples=samples)[-1]
    pairs = (filled[:, 0] * 4 + filled[:, 1]).bincount(minlength=16) / samples
    for (one, two), frequency in zip(itertools.product(range(4), range(4)), pairs.tolist(), strict=True):
        expected = first[one] * second[two]
        assert frequency == pytest.approx(expected, abs=5 * (expected * (1 - expected) / samples) ** 0.5)


def test_dependent_tokens_get_their_joint_distribution_but_for_steps_in_which_both_become_known():
    """With n steps two positions share one with probability 1/n; only then are they drawn independently."""
    joint = torch.tensor([[0.45, 0.05], [0.1, 0.4]], dtype=torch.float64)

    def conditionals(tokens):
        probabilities = torch.zeros(len(tokens), 2, MASK + 1, dtype=torch.float64)
        for position in range(2):
            pairs = joint if position == 0 else joint.T
            other = tokens[:, 1 - position]
            given_other = pairs / pairs.sum(0)
            probabilities[:, position, :2] = torch.where(
                (other == MASK)[:, None], pairs.sum(1), given_other[:, other.clamp(max=1)].T
            )
        return probabilities.log()

    steps, samples = 3, 40_000
    filled = run(Table(conditionals), masked(2), steps=steps, samples=samples)[-1]
    frequency = (filled[:, 0] * 2 + filled[:, 1]).bincount(minlength=4) / samples
    independent = joint.sum(1)[:, None] * joint.sum(0)
    expected = ((1 - 1 / steps) * joint + independent / steps).flatten()
    for one, two in zip(frequency.tolist(), expected.tolist(), strict=True):
        assert one == pytest.approx(two, abs=5 * (two * (1 - two) / samples) ** 0.5)


def test_the_surest_position_is_filled_first():
    sure = [[0.4, 0.3, 0.2, 0.1], [0.9, 0.1, 0.0, 0.0], [0.3, 0.3, 0.2, 0.2], [0.0, 0.7, 0.3, 0.0]]
    states = run(constant(sure), masked(4, method="confidence"), sampling=Sampling(greedy=True))
    assert [state[0].tolist() for state in states[:3]] == [
        [MASK, 0, MASK, MASK],
        [MASK, 0, MASK, 1],
        [0, 0, MASK, 1],
    ]


@settings(max_examples=30)
@given(
    unknown=st.lists(st.booleans(), min_size=1, max_size=20).filter(any),
    block=st.none() | st.integers(1, 8),
    steps=st.none() | st.integers(1, 25),
    method=st.sampled_from(["ancestral", "confidence"]),
    own=st.booleans(),
    seed=st.integers(0, 100),
)
def test_known_tokens_never_change_and_blocks_are_filled_from_left_to_right(unknown, block, steps, method, own, seed):
    unknown = np.array(unknown)
    tokens = np.where(unknown, MASK, np.random.default_rng(seed).integers(4, size=len(unknown)))
    query = Unmask(tokens, unknown, MASK, block=block if own else None)
    given_block = None if own else block
    states = run(
        constant(EVEN * len(unknown)), query, block=given_block, steps=steps, method=method, samples=3, seed=seed
    )
    before = torch.from_numpy(tokens).expand(3, -1)
    blocks = torch.arange(len(unknown)) // (block or len(unknown))
    for state in states:
        known = before != MASK
        assert (state[known] == before[known]).all()
        for sample in range(3):
            still, new = state[sample] == MASK, (state[sample] != MASK) & ~known[sample]
            if still.any() and new.any():
                assert blocks[new].max() <= blocks[still].min()
        before = state
    assert (states[-1] != MASK).all()


def test_blocks_share_the_steps_by_their_unknown_positions():
    query = masked(10, known=(0, 1, 2, 3), block=5)  # one unknown position in the first block, five in the second
    assert len(run(constant(EVEN * 10), query)) == 6
    assert len(run(constant(EVEN * 10), query, steps=12)) == 12
    assert len(run(constant(EVEN * 10), query, steps=1)) == 2  # at least one for each block


@pytest.mark.parametrize("method", ["ancestral", "confidence"])
def test_greedy_filling_of_one_position_is_the_likeliest_token_given_all_others(method):
    torch.manual_seed(0)
    model = Transformer(vocabulary_size=MASK + 1, width=16, layers=2, heads=2, init_std=0.3).eval()
    tokens = np.array([0, 1, MASK, 3, 2])
    states = run(model, Unmask(tokens, tokens == MASK, MASK), sampling=Sampling(greedy=True), method=method, samples=2)
    logits = model.logits(model(torch.from_numpy(tokens)[None], attention="full")[0, 2])
    assert states.shape == (1, 2, 5)
    assert states[0].tolist() == [[0, 1, int(logits[:MASK].argmax()), 3, 2]] * 2


def test_the_query_says_how_the_text_is_read():
    seen = []

    def read(model, tokens_BT, known_BT):
        seen.append((tokens_BT.clone(), known_BT.clone()))
        hidden = torch.zeros(*tokens_BT.shape, MASK + 1)
        hidden[..., 3] = 50.0
        return hidden

    states = run(constant(EVEN), masked(4, known=(1,), read=read, block=2), samples=2)
    assert states[-1].tolist() == [[3, 0, 3, 3]] * 2
    for tokens, known in seen:
        assert ((tokens == MASK) == ~known).all()


def test_forbidden_tokens_are_never_written():
    states = run(constant(EVEN * 6), masked(6), samples=50, forbidden=torch.tensor([0, 2, MASK]))
    assert set(states[-1].flatten().tolist()) == {1, 3}


def test_options_of_sampling_apply():
    states = run(constant([[0.4, 0.3, 0.2, 0.1]] * 6), masked(6), samples=50, sampling=Sampling(top_k=2))
    assert set(states[-1].flatten().tolist()) == {0, 1}


def test_tokens_are_drawn_in_double_precision():
    precisions = []

    class Watched(Sampling):
        def choose(self, logits_BV, text_BT, generator):
            precisions.append(logits_BV.dtype)
            return super().choose(logits_BV, text_BT, generator)

    run(constant(EVEN * 3), masked(3), sampling=Watched())
    assert set(precisions) == {torch.float64}
    even = torch.zeros(1, 3, dtype=torch.float64)
    assert Sampling(temperature=0.9, top_p=0.9, top_k=2).probabilities(even).dtype == torch.float64


def test_the_seed_decides_and_samples_differ():
    model, query = constant(EVEN * 12), masked(12)
    first = run(model, query, samples=3, seed=1)[-1]
    assert torch.equal(first, run(model, query, samples=3, seed=1)[-1])
    assert not torch.equal(first, run(model, query, samples=3, seed=2)[-1])
    assert len({tuple(sample) for sample in first.tolist()}) == 3


def test_the_mode_of_the_model_is_left_as_it_was():
    model = constant(EVEN * 3).train()
    run(model, masked(3))
    assert model.training
