import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntp.config.errors import ConfigError
from ntp.data.example import IGNORE
from ntp.objectives.permutation import PermutationLM
from tests.objectives.making import END, MASK_ID, batch, bound, draw, letters, transformer


def made(*arguments, **named):
    return bound(PermutationLM(*arguments, **named))


def targets_of(example, length):
    """Indices of the targets, by rank."""
    queries = np.argsort(example.order[length:])
    places = np.flatnonzero(example.order[:length] > 1)
    return places[queries]


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 7), st.integers(0, 40))
@settings(deadline=None)
def test_a_row_is_all_contents_and_a_query_for_each_target(length, one_in, longest, row):
    text = letters(length)
    example = made(one_in, longest).corrupt(text, draw(row))
    count = max(1, length // one_in)
    assert len(example) == length + count
    contents, queries = np.split(example.tokens, [length])
    np.testing.assert_array_equal(contents, text.tokens)
    np.testing.assert_array_equal(made(one_in).restore(example), text.tokens)
    assert (queries == MASK_ID).all()
    assert (example.targets[:length] == IGNORE).all()
    np.testing.assert_array_equal(example.private, np.arange(length + count) >= length)
    # Each query stands where its content stands, and comes just before it.
    targets = np.flatnonzero(example.order[:length] > 1)
    np.testing.assert_array_equal(example.targets[length:], text.tokens[targets])
    np.testing.assert_array_equal(example.positions[length:], example.positions[targets])
    np.testing.assert_array_equal(example.order[length:] + 1, example.order[targets])
    assert sorted(example.order[length:]) == list(range(2, 2 * count + 2, 2))
    assert example.target_bytes.sum() == count


@given(st.integers(2, 400), st.integers(1, 9))
@settings(deadline=None)
def test_a_row_holds_as_much_text_as_fits(length, one_in):
    objective = made(one_in)
    raw = objective.raw_length(length)
    assert len(objective.corrupt(letters(raw), draw())) <= length
    assert len(objective.corrupt(letters(raw + 1), draw())) > length


def test_with_one_in_one_every_token_is_a_target():
    example = made(1).corrupt(letters(20), draw())
    assert made(1).raw_length(41) == 20
    assert sorted(targets_of(example, 20)) == list(range(20))


def test_any_token_is_a_target_equally_often_and_has_any_rank():
    draws, length = 4000, 30
    times, first = np.zeros(length), np.zeros(length)
    for row in range(draws):
        targets = targets_of(made(6).corrupt(letters(length), draw(row)), length)
        times[targets] += 1
        first[targets[0]] += 1
    assert times.sum() == draws * 5
    assert abs(times / draws - 1 / 6).max() < 5 * math.sqrt(1 / 6 * 5 / 6 / draws)
    assert abs(first / draws - 1 / 30).max() < 5 * math.sqrt(1 / 30 * 29 / 30 / draws)


def runs(chosen, length):
    """Lengths of the runs of targets on the ring of a row."""
    is_target = np.isin(np.arange(length), chosen)
    start = int(np.flatnonzero(~is_target)[0])
    edges = np.flatnonzero(np.diff(np.concatenate(([False], np.roll(is_target, -start), [False])).astype(int)))
    return np.diff(edges)[::2]


def test_spans_are_as_long_as_the_inverse_law_says_and_stand_apart():
    length, lengths = 6000, []
    for row in range(20):
        example = made(6, 5).corrupt(letters(length), draw(row))
        lengths += list(runs(targets_of(example, length), length))
    frequencies = np.bincount(lengths, minlength=6)[1:] / len(lengths)
    odds = 1 / np.arange(1, 6)
    expected = odds / odds.sum()
    # At most the last span of a row is cut, one in 450.
    assert len(frequencies) == 5
    assert (abs(frequencies - expected) < 5 * np.sqrt(expected * (1 - expected) / len(lengths)) + 1 / 450).all()


def test_spans_of_one_token_are_possible():
    assert set(runs(targets_of(made(6, 1).corrupt(letters(600), draw()), 600), 600)) == {1}


def states(model, made_batch, tokens=None):
    with torch.inference_mode():
        return model(
            made_batch.tokens if tokens is None else tokens,
            attention="ordered",
            order=made_batch.order,
            private=made_batch.private,
            positions=made_batch.positions,
            segments=made_batch.segments,
        )[0]


@pytest.mark.parametrize(("one_in", "documents"), [(2, [12]), (1, [10]), (2, [5, 7])])
def test_later_targets_see_earlier_ones_and_nobody_sees_itself(one_in, documents):
    model, objective, length = transformer(), made(one_in), sum(documents)
    segments = np.repeat(np.arange(len(documents)), documents)
    example = objective.corrupt(letters(length, segments), draw(1))
    made_batch = batch(objective, [example])
    before = states(model, made_batch)
    rank = (example.order[:length] - 1) // 2  # 0 for the context
    places = np.flatnonzero(rank)  # of the queries, in their order in the row
    for changed in range(length):
        tokens = made_batch.tokens.clone()
        tokens[0, changed] = 300
        moved = ((states(model, made_batch, tokens) - before).abs().amax(1) > 1e-6).numpy()
        same = segments == segments[changed]
        np.testing.assert_array_equal(moved[:length], same & (rank >= rank[changed]))
        np.testing.assert_array_equal(moved[length:], (same & (rank > rank[changed]))[places])
    for query in range(len(places)):
        tokens = made_batch.tokens.clone()
        tokens[0, length + query] = 300
        moved = (states(model, made_batch, tokens) - before).abs().amax(1) > 1e-6
        assert np.flatnonzero(moved.numpy()).tolist() == [length + query]


def test_a_target_is_predicted_as_if_later_ones_were_not_there():
    model, text, objective = transformer(), letters(12), made(2)
    example = objective.corrupt(text, draw(3))
    predicted = states(model, batch(objective, [example]))
    places = np.flatnonzero(example.order[:12] > 1)
    for query, place in enumerate(places):
        order = int(example.order[12 + query])
        kept = np.append(np.flatnonzero(example.order[:12] < order), 12 + query)
        with torch.inference_mode():
            alone = model(
                torch.tensor(example.tokens[kept])[None],
                attention="ordered",
                order=torch.tensor(example.order[kept])[None],
                private=torch.tensor(example.private[kept])[None],
                positions=torch.tensor(example.positions[kept])[None],
            )[0, -1]
        torch.testing.assert_close(alone, predicted[12 + query], msg=f"target at {place}")


def test_its_loss_is_the_sum_of_the_conditional_likelihoods():
    model, objective = transformer(), made(3)
    example = objective.corrupt(letters(15), draw())
    made_batch = batch(objective, [example])
    with torch.inference_mode():
        terms = objective.loss(model, made_batch)
        probabilities = model.logits(states(model, made_batch)[15:]).log_softmax(-1)
    expected = -probabilities[torch.arange(5), torch.tensor(example.targets[15:])].sum()
    assert (terms.count, terms.bytes) == (5, 5)
    torch.testing.assert_close(terms.sum, expected)


def test_what_it_reads_when_it_writes_is_what_it_read_in_training():
    """The first target of the order is predicted from the context alone, and so is an unknown token."""
    model, text, objective = transformer(), letters(12), made(3)
    example = objective.corrupt(text, draw(5))
    first = targets_of(example, 12)[0]
    query = 12 + int(np.argmin(example.order[12:]))
    known = torch.tensor(example.order[:12] == 1)[None]
    tokens = torch.where(known, torch.tensor(text.tokens), MASK_ID)
    with torch.inference_mode():
        read = objective.query(text.tokens, None, 1).read(model, tokens, known)
    torch.testing.assert_close(read[0, first], states(model, batch(objective, [example]))[query])


def test_an_unknown_token_is_read_from_all_known_ones_and_from_no_unknown_one():
    model = transformer()
    question = made().query(np.array([END, 20, 21]), np.array([22, 23]), 3)
    assert question.tokens.tolist() == [END, 20, 21, MASK_ID, MASK_ID, MASK_ID, 22, 23]
    assert question.block == 1
    tokens, known = torch.tensor(question.tokens)[None], ~torch.tensor(question.unknown)[None]
    before = question.read(model, tokens, known)
    for changed in range(8):
        other = tokens.clone()
        other[0, changed] = 300
        moved = (question.read(model, other, known) - before).abs().amax(2)[0] > 1e-6
        expected = torch.ones(8, dtype=torch.bool) if known[0, changed] else torch.arange(8) == changed
        torch.testing.assert_close(moved, expected)


def test_a_row_without_room_for_a_query_is_refused():
    with pytest.raises(ConfigError, match=r"data.sequence_length: .* at least 2"):
        bound(PermutationLM(), sequence_length=1)
