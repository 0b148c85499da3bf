import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntp.data.example import IGNORE
from ntp.objectives.masked_diffusion import MaskedDiffusion
from tests.objectives.making import (
    END,
    MASK_ID,
    TOKENIZER,
    Table,
    agrees,
    batch,
    bound,
    draw,
    letters,
    nats_by_batch,
    transformer,
)


def made(**arguments):
    return bound(MaskedDiffusion(**({"random_length_rate": 0.0} | arguments)))


@given(st.integers(1, 64), st.integers(0, 40), st.booleans(), st.sampled_from([0.0, 0.5]))
@settings(deadline=None)
def test_what_is_hidden_is_the_target_and_all_else_is_read(length, row, evaluation, cut):
    objective, this = made(random_length_rate=cut), draw(row, row % 4, 4, evaluation=evaluation)
    text = letters(length)
    example = objective.corrupt(text, this)
    hidden = example.tokens == MASK_ID
    np.testing.assert_array_equal(hidden, example.targets != IGNORE)
    restored = objective.restore(example)
    np.testing.assert_array_equal(restored, text.tokens[: len(restored)])
    assert 1 <= len(example) <= length
    assert example.count == len(example)
    assert example.target_bytes.sum() == example.read_bytes == len(example)
    assert (example.weights <= 1000).all()


def test_the_end_of_a_text_is_hidden_like_any_other_token():
    text = letters(8)
    text.tokens[:] = END
    hidden = [(made().corrupt(text, draw(row, row % 8, 8)).tokens == MASK_ID).mean() for row in range(400)]
    assert np.mean(hidden) == pytest.approx(0.5, abs=0.05)


def test_the_same_draw_gives_the_same_example_and_another_row_another():
    text = letters(64)
    first, second, other = (made().corrupt(text, draw(row)).tokens for row in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


@pytest.mark.parametrize("evaluation", [False, True])
def test_its_loss_has_the_mean_that_enumeration_gives(evaluation):
    table, objective = Table.random(4), made()
    nats = nats_by_batch(objective, table, letters(4), 60 if evaluation else 400, 16, evaluation=evaluation)
    assert agrees(nats, table.bound())


@pytest.mark.parametrize("evaluation", [False, True])
def test_the_bound_of_two_tokens_by_hand(evaluation):
    table = Table(np.array([[0, 0], [1, 0], [0, 2], [5, 7]]))
    assert agrees(nats_by_batch(made(), table, letters(2), 60 if evaluation else 600, 16, evaluation=evaluation), 7.5)


def test_rows_of_one_token_are_measured_exactly():
    nats = nats_by_batch(made(), Table(np.array([[0.0], [3.5]])), letters(1), 10, 3, evaluation=True)
    np.testing.assert_allclose(nats, 3.5)


def test_counts_have_less_variance_than_rates():
    table, text = Table.random(8), letters(8)
    by_rate, by_count = (nats_by_batch(made(), table, text, 200, 8, evaluation=one).std() for one in (False, True))
    assert by_count < 0.5 * by_rate


def test_all_tokens_divide_the_loss_and_not_the_hidden_ones():
    objective, text = made(subs=False), letters(16)
    model = transformer()
    model.token_embedding.weight.data.zero_()  # every token has the same probability
    sums, counts = 0.0, 0
    for number in range(40):
        draws = [draw(number * 16 + place, place, 16) for place in range(16)]
        terms = objective.loss(model, batch(objective, [objective.corrupt(text, one) for one in draws]))
        sums, counts = sums + terms.sum.item(), counts + terms.count
        assert terms.bytes == 16 * 16
    assert counts == 40 * 16 * 16
    # The weights 1/p have a relative error of 0.65 for one row of 16 tokens; strata take some of it away.
    assert sums / counts == pytest.approx(math.log(TOKENIZER.vocabulary_size), rel=5 * 0.65 / math.sqrt(40 * 16))


@pytest.mark.parametrize(
    ("subs", "choices"), [(False, TOKENIZER.vocabulary_size), (True, TOKENIZER.vocabulary_size - 1)]
)
def test_a_model_that_knows_nothing_loses_the_logarithm_of_its_choices(subs, choices):
    objective, model = made(subs=subs), transformer()
    model.token_embedding.weight.data.zero_()
    made_batch = batch(objective, [objective.corrupt(letters(24), draw(row, evaluation=True)) for row in range(5)])
    terms = objective.loss(model, made_batch)
    assert terms.sum.item() / terms.count == pytest.approx(math.log(choices), rel=1e-5)


def test_without_the_mask_token_the_others_share_all_probability():
    model, text = transformer(), letters(24)
    made_batch = batch(made(), [made().corrupt(text, draw(evaluation=True))])
    hidden = model(made_batch.tokens, attention="full")[0, made_batch.target_index]
    logits = model.logits(hidden)
    logits[:, MASK_ID] = -torch.inf
    nats = -logits.log_softmax(-1)[torch.arange(len(logits)), made_batch.targets[0, made_batch.target_index]]
    expected = (nats * made_batch.weights[0, made_batch.target_index]).sum()
    torch.testing.assert_close(made().loss(model, made_batch).sum, expected)
    assert float(made(subs=False).loss(model, made_batch).sum) > float(expected)


def test_packed_documents_each_get_their_own_bound():
    """A row of two documents has the sum of the bounds of the two alone, though it draws one count for both."""
    model = transformer()
    text = letters(4, segments=[0, 0, 1, 1])
    alone = [letters(4).part(0, 2), letters(4).part(2, 4)]
    expected = 0.0
    with torch.inference_mode():
        for document in alone:
            nats = np.zeros((4, 2))
            for hidden in range(1, 4):
                is_hidden = np.array([hidden & 1, hidden & 2]) > 0
                tokens = torch.tensor(np.where(is_hidden, MASK_ID, document.tokens))[None]
                states = model(tokens, attention="full")[0]
                targets = torch.tensor(document.tokens)
                nats[hidden] = model.token_nll(states, targets, excluded=MASK_ID).numpy()
            expected += Table(nats).bound()
        packed = nats_by_batch(made(), model, text, 300, 8, evaluation=True)
    assert agrees(packed, expected)


def test_rows_are_cut_as_often_as_asked_and_never_when_they_measure():
    objective, text = made(random_length_rate=0.25), letters(64)
    lengths = np.array([len(objective.corrupt(text, draw(row))) for row in range(2000)])
    cut = lengths < 64
    # One cut in 64 leaves the row whole.
    assert cut.mean() == pytest.approx(0.25 * 63 / 64, abs=5 * math.sqrt(0.25 * 0.75 / 2000))
    assert lengths[cut].mean() == pytest.approx(32, abs=5 * 18.2 / math.sqrt(cut.sum()))
    assert {len(objective.corrupt(text, draw(row, evaluation=True))) for row in range(200)} == {64}


def test_a_question_has_masks_where_the_answer_is_to_be():
    continued = made().query(np.array([END, 20]), None, 3)
    assert continued.tokens.tolist() == [END, 20, MASK_ID, MASK_ID, MASK_ID]
    assert continued.unknown.tolist() == [False, False, True, True, True]
    infilled = made().query(np.array([END, 20]), np.array([21, 22]), 1)
    assert infilled.tokens.tolist() == [END, 20, MASK_ID, 21, 22]
    assert infilled.unknown.tolist() == [False, False, True, False, False]
    assert infilled.mask == MASK_ID
