"""What a model says at every target is what a plain forward pass says."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ntp.evaluation import predictions as module
from ntp.evaluation.examinee import TextQuestion
from ntp.evaluation.predictions import COLDEST, HOTTEST, Predictions, predict
from ntp.objectives.causal import Causal
from ntp.objectives.masked_diffusion import MaskedDiffusion
from ntp.objectives.question import Question
from tests.evaluation.tables import candidate
from tests.objectives.making import END, MASK_ID, TOKENIZER, transformer

TEXTS = ["the quick brown fox jumps over the lazy dog", "a much shorter one", "x"]


def said(objective=None, kind="continue", draws=1, **changes) -> Predictions:
    examinee = candidate(transformer(), objective, **changes)
    questions = [examinee.encode(TextQuestion(kind, "", text)) for text in TEXTS]
    return predict(examinee, examinee.objective.respondent(kind), questions, draws)


def plain_logits(text: str) -> torch.Tensor:
    """[N, V] for each token of a text and its end."""
    tokens = torch.tensor([[END, *TOKENIZER.encode(text)]])
    with torch.inference_mode():
        model = transformer()
        return model.logits(model(tokens, attention="causal")[0]).double()


@pytest.mark.parametrize("temperature", [1.0, 0.5, 1.37, 0.71, 4.4, COLDEST, HOTTEST])
def test_probabilities_at_a_temperature_are_those_of_logits_divided_by_it(temperature):
    found = said()
    for number, text in enumerate(TEXTS):
        own = found.chosen(found.question == number)
        chances = torch.softmax(plain_logits(text) / temperature, -1).numpy()
        targets = np.array([*TOKENIZER.encode(text), END])
        truth = np.eye(TOKENIZER.vocabulary_size)[targets]
        np.testing.assert_array_equal(own.token, targets)
        tolerance = {"atol": 2e-3, "rtol": 2e-3}
        np.testing.assert_allclose(own.nll(temperature), -np.log((chances * truth).sum(1)), **tolerance)
        np.testing.assert_allclose(own.confidence(temperature), chances.max(1), **tolerance)
        np.testing.assert_allclose(own.brier(temperature), ((chances - truth) ** 2).sum(1), **tolerance)


def test_without_a_temperature_they_are_exact():
    found = said()
    logits = plain_logits(TEXTS[0])
    own = found.chosen(found.question == 0)
    chances = torch.log_softmax(logits, -1).numpy()
    np.testing.assert_allclose(own.nll(), -chances[np.arange(len(own)), own.token], atol=1e-5)
    np.testing.assert_allclose(own.entropy, -(np.exp(chances) * chances).sum(1), atol=1e-5)
    np.testing.assert_array_equal(own.right, chances.argmax(1) == own.token)


@pytest.mark.parametrize(("objective", "kind", "draws"), [(Causal, "continue", 1), (MaskedDiffusion, "any_order", 4)])
def test_weighted_losses_sum_to_the_answers_of_the_run(objective, kind, draws):
    examinee = candidate(transformer(), objective(), draws=draws)
    scores = examinee.score([TextQuestion(kind, "", text) for text in TEXTS])
    found = said(objective(), kind, draws)
    sums = np.bincount(found.question, weights=found.weight * found.nll())
    np.testing.assert_allclose(sums, scores.nats, rtol=1e-5)


def test_an_excluded_token_has_no_probability():
    model = transformer()
    with torch.no_grad():  # of all tokens the mask would be the likeliest one everywhere
        model.token_embedding.weight[MASK_ID] *= 40
    examinee = candidate(model, MaskedDiffusion(subs=True))
    question = examinee.encode(TextQuestion("any_order", "", TEXTS[0]))
    found = predict(examinee, examinee.objective, [question], 8)
    assert np.isfinite(found.normalizers).all()
    assert np.isfinite(found.slopes).all()
    assert (found.entropy <= np.log(TOKENIZER.vocabulary_size - 1) + 1e-6).all()
    sums = np.bincount(found.question, weights=found.weight * found.nll())
    examinee.draws = 8
    np.testing.assert_allclose(sums, examinee.score([TextQuestion("any_order", "", TEXTS[0])]).nats, rtol=1e-5)


def test_nothing_depends_on_how_much_is_computed_at_once(monkeypatch):
    whole = said(MaskedDiffusion(), "any_order", 3)
    monkeypatch.setattr(module, "_LOGITS_AT_ONCE", 1)
    sliced = said(MaskedDiffusion(), "any_order", 3, batch_size=2)
    np.testing.assert_array_equal(whole.token, sliced.token)
    np.testing.assert_array_equal(whole.question, sliced.question)
    np.testing.assert_allclose(whole.nll(), sliced.nll(), rtol=1e-5)


def test_processes_share_the_rows():
    alone, shares = said(MaskedDiffusion(), "any_order", 3, batch_size=2), []

    class Kept(Exception):
        pass

    def keep(own):
        shares.append(own)
        raise Kept

    with pytest.raises(Kept):
        said(MaskedDiffusion(), "any_order", 3, batch_size=2, process=1, processes=2, gather=keep)
    together = said(MaskedDiffusion(), "any_order", 3, batch_size=2, processes=2, gather=lambda own: [own, *shares])
    assert shares[0]
    np.testing.assert_array_equal(alone.question, together.question)
    np.testing.assert_array_equal(alone.nll(), together.nll())


def test_positions_are_places_in_the_row():
    found = said()
    own = found.chosen(found.question == 1)
    np.testing.assert_array_equal(own.position, np.arange(len(TEXTS[1]) + 1))
    hidden = said(MaskedDiffusion(), "any_order", 6)
    own = hidden.chosen(hidden.question == 1)
    text = np.array([END, *TOKENIZER.encode(TEXTS[1]), END])
    np.testing.assert_array_equal(text[own.position], own.token)


def test_a_long_text_is_asked_for_piece_by_piece_once():
    found = said(room=16)
    own = found.chosen(found.question == 0)
    np.testing.assert_array_equal(own.token, [*TOKENIZER.encode(TEXTS[0]), END])
    assert own.position.max() < 16
    assert found.shortened == 2


def test_a_gap_that_is_longer_than_a_row_is_named():
    examinee = candidate(transformer(), MaskedDiffusion(), room=16)
    cloze = [Question("cloze", np.array([END]), TOKENIZER.encode("a" * length), np.array([END])) for length in (3, 30)]
    found = predict(examinee, examinee.objective, cloze, 2)
    assert found.unanswered == (1,)
    assert set(found.question) == {0}
    assert not len(predict(examinee, examinee.objective, cloze[1:], 2))


@given(st.floats(COLDEST, HOTTEST), st.integers(0, 2**32 - 1))
def test_a_few_temperatures_tell_all_between_them(temperature, seed):
    logits = torch.tensor(np.random.default_rng(seed).normal(0, 5, (4, 30)), dtype=torch.float32)
    targets = torch.tensor([0, 5, 7, 29])
    right, gap, normalizers, slopes = (
        one.double().numpy() for one in module._summary(logits, targets, module._INVERSE.tolist(), None)
    )
    assert (np.diff(normalizers, axis=1) <= 1e-6).all()
    value = module.interpolated(normalizers, slopes, temperature)
    expected = torch.logsumexp(logits.double() / temperature, -1) - logits.double().max(-1).values / temperature
    np.testing.assert_allclose(value, expected.numpy(), atol=5e-3)
    assert set(right) <= {0.0, 1.0}
    assert (gap >= 0).all()
