import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntp.config.errors import ConfigError
from ntp.data.example import IGNORE
from ntp.objectives.block_diffusion import BlockDiffusion
from ntp.objectives.masked_diffusion import MaskedDiffusion
from tests.objectives.making import (
    END,
    MASK_ID,
    Table,
    agrees,
    batch,
    bound,
    draw,
    letters,
    nats_by_batch,
    transformer,
)


def made(block_size=4, **arguments):
    return bound(BlockDiffusion(block_size, **arguments))


def segments(lengths):
    return np.repeat(np.arange(len(lengths)), lengths)


DOCUMENTS = st.lists(st.integers(1, 9), min_size=1, max_size=5)


@given(DOCUMENTS, st.integers(1, 12), st.integers(0, 40), st.booleans())
@settings(deadline=None)
def test_a_row_is_a_clean_copy_and_a_noisy_one_at_the_same_places(lengths, block_size, row, evaluation):
    text = letters(sum(lengths), segments(lengths))
    objective = made(block_size)
    example = objective.corrupt(text, draw(row, row % 4, 4, evaluation=evaluation))
    (clean, noisy), length = np.split(example.tokens, 2), len(text)
    np.testing.assert_array_equal(clean, text.tokens)
    np.testing.assert_array_equal(objective.restore(example), text.tokens)
    is_hidden = noisy == MASK_ID
    np.testing.assert_array_equal(np.where(is_hidden, text.tokens, noisy), text.tokens)
    np.testing.assert_array_equal(example.targets, [IGNORE] * length + list(np.where(is_hidden, text.tokens, IGNORE)))
    for field in (example.positions, example.segments):
        np.testing.assert_array_equal(*np.split(field, 2))
    np.testing.assert_array_equal(example.private, [False] * length + [True] * length)
    assert example.count == example.target_bytes.sum() == length


@given(DOCUMENTS, st.integers(1, 12))
@settings(deadline=None)
def test_blocks_are_counted_in_each_document_and_the_last_may_be_short(lengths, block_size):
    text = letters(sum(lengths), segments(lengths))
    clean, noisy = np.split(made(block_size).corrupt(text, draw()).order, 2)
    expected = np.concatenate([np.arange(length) // block_size for length in lengths])
    np.testing.assert_array_equal(clean, 2 * expected + 1)
    np.testing.assert_array_equal(noisy, 2 * expected)


def test_an_example_depends_on_its_draw_and_not_on_what_was_made_before_or_in_which_process():
    here, there = made(), pickle.loads(pickle.dumps(made()))
    rows = [(letters(20), draw(row, row, 6)) for row in range(6)]
    forwards = [here.corrupt(*one) for one in rows]
    backwards = [there.corrupt(*one) for one in reversed(rows)][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        np.testing.assert_array_equal(one.tokens, other.tokens)
        np.testing.assert_array_equal(one.weights, other.weights)


@given(st.integers(2, 300))
@settings(deadline=None)
def test_half_of_a_row_is_text(length):
    objective = made()
    example = objective.corrupt(letters(objective.raw_length(length)), draw())
    assert length - 1 <= len(example) <= length


def test_each_block_has_a_rate_of_its_own_and_a_batch_has_one_in_each_stratum():
    objective, text, size = made(64), letters(256), 8
    rates: list[float] = []
    for place in range(size):
        weights = objective.corrupt(text, draw(place, place, size)).weights[256:].reshape(4, 64)
        rates += [1 / block.max() for block in weights if block.max() > 0]
    strata = ((np.array(rates) - 0.001) / 0.999 * 32).astype(int)
    assert len(set(strata)) == len(strata)
    assert len(strata) >= 30  # a block with a low rate may hide nothing


def test_rates_of_a_clipped_schedule_stay_in_it():
    objective = made(4, lowest_rate=0.45, highest_rate=0.95)
    weights = np.concatenate([objective.corrupt(letters(32), draw(row)).weights for row in range(50)])
    assert 1 / 0.95 <= weights[weights > 0].min() < 1.1
    assert 2.1 < weights.max() <= 1 / 0.45


def test_a_clipped_schedule_does_not_change_what_is_measured():
    clipped, whole = made(4, lowest_rate=0.45, highest_rate=0.95), made(4)
    this = draw(evaluation=True)
    np.testing.assert_array_equal(clipped.corrupt(letters(32), this).weights, whole.corrupt(letters(32), this).weights)


@pytest.mark.parametrize("evaluation", [False, True])
def test_its_loss_has_the_mean_that_enumeration_gives_for_each_block(evaluation):
    # Nats that depend on what is hidden in the block of a token, and on nothing else.
    first, second = Table.random(3, seed=1), Table.random(2, seed=2)
    nats = np.array([[*first.nats[one % 8], *second.nats[one // 8]] for one in range(32)])
    expected = first.bound() + second.bound()
    table = TwoCopies(nats)
    assert agrees(
        nats_by_batch(made(3), table, letters(5), 200 if evaluation else 500, 8, evaluation=evaluation), expected
    )


class TwoCopies(Table):
    """A table of the noisy copy; nothing is asked at the clean one."""

    def __call__(self, tokens, **rule):
        noisy = super().__call__(tokens, **rule)
        return torch.cat((torch.zeros_like(noisy), noisy), dim=1)


def loss(objective, model, text, this):
    with torch.inference_mode():
        return objective.loss(model, batch(objective, [objective.corrupt(text, this)]))


@pytest.mark.parametrize("lengths", [[12], [5, 1, 6]])
def test_blocks_of_one_token_have_the_likelihood_of_a_causal_model_that_reads_a_mask_last(lengths):
    model, text = transformer(), letters(sum(lengths), segments(lengths))
    expected = 0.0
    with torch.inference_mode():
        for document in np.split(text.tokens, np.cumsum(lengths)[:-1]):
            for place, token in enumerate(document):
                read = torch.tensor([*document[:place], MASK_ID])[None]
                state = model(read, attention="causal")[0, -1:]
                expected += float(model.token_nll(state, torch.tensor([token]), excluded=MASK_ID))
    measured = {float(loss(made(1), model, text, draw(row, evaluation=True)).sum) for row in range(3)}
    assert list(measured) == pytest.approx([expected] * len(measured), rel=1e-5)
    always = made(1, lowest_rate=1.0)
    assert float(loss(always, model, text, draw()).sum) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("evaluation", [False, True])
@pytest.mark.parametrize("block_size", [13, 100])
def test_one_block_is_masked_diffusion(block_size, evaluation):
    model, text = transformer(), letters(13)
    masked = bound(MaskedDiffusion(random_length_rate=0.0))
    for row in range(5):
        this = draw(row, row, 5, evaluation=evaluation)
        ours, theirs = loss(made(block_size), model, text, this), loss(masked, model, text, this)
        assert float(ours.sum) == pytest.approx(float(theirs.sum), rel=1e-5)
        assert (ours.count, ours.bytes) == (theirs.count, theirs.bytes)


def states(model, made_batch, tokens):
    with torch.inference_mode():
        return model(
            tokens,
            attention="ordered",
            order=made_batch.order,
            private=made_batch.private,
            positions=made_batch.positions,
            segments=made_batch.segments,
        )[0]


def test_who_sees_whom_through_the_model():
    model, objective, block = transformer(), made(3), np.arange(9) // 3
    made_batch = batch(objective, [objective.corrupt(letters(9), draw())])
    before = states(model, made_batch, made_batch.tokens)
    for changed in range(18):
        tokens = made_batch.tokens.clone()
        tokens[0, changed] = 300
        moved = ((states(model, made_batch, tokens) - before).abs().amax(1) > 1e-6).numpy()
        clean, noisy = np.split(moved, 2)
        if changed < 9:
            np.testing.assert_array_equal(clean, block >= block[changed])
            np.testing.assert_array_equal(noisy, block > block[changed])
        else:
            assert not clean.any()
            np.testing.assert_array_equal(noisy, block == block[changed - 9])


def test_what_it_reads_when_it_writes_is_what_it_read_in_training():
    model, text, objective = transformer(), letters(9), made(3)
    example = objective.corrupt(text, draw(2))
    made_batch = batch(objective, [example])
    trained = states(model, made_batch, made_batch.tokens)[9:]
    noisy = example.tokens[9:]
    question = objective.query(text.tokens, None, 3)
    assert question.block == 3
    for begin in (0, 3, 6):
        tokens = np.concatenate((text.tokens[:begin], noisy[begin : begin + 3], np.full(9 - begin, MASK_ID)))
        read = question.read(model, torch.tensor(tokens)[None], torch.tensor(tokens != MASK_ID)[None])
        torch.testing.assert_close(read[0, begin : begin + 3], trained[begin : begin + 3])


def test_a_question_is_a_prefix_and_masks():
    question = made().query(np.array([END, 20]), None, 3)
    assert question.tokens.tolist() == [END, 20, MASK_ID, MASK_ID, MASK_ID]
    assert question.unknown.tolist() == [False, False, True, True, True]


@pytest.mark.parametrize(("block_size", "likelihood"), [(1, "exact"), (2, "bound")])
def test_only_blocks_of_one_token_have_an_exact_likelihood(block_size, likelihood):
    assert BlockDiffusion(block_size).likelihood == likelihood


def test_rates_in_the_wrong_order_are_refused():
    with pytest.raises(ConfigError, match=r"objective.lowest_rate: 0.9 is above objective.highest_rate, 0.5"):
        BlockDiffusion(lowest_rate=0.9, highest_rate=0.5)


def test_a_row_without_room_for_two_copies_is_refused():
    with pytest.raises(ConfigError, match=r"data.sequence_length: .* at least 2"):
        bound(BlockDiffusion(), sequence_length=1)
