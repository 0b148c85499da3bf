"""Calibration errors and temperatures, against other code and against plain resampling."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error

from ntp.evaluation.predictions import COLDEST, HOTTEST, Predictions, predict
from ntp.evaluation.reliability import best_temperature, measure, reliability, temperature_measure
from ntp.objectives.question import Question
from tests.evaluation.tables import SIZE, Bigrams, candidate, letters_bigrams, spoken
from tests.objectives.making import END, TOKENIZER


def predictions(table: np.ndarray, texts: list[str]) -> Predictions:
    examinee = candidate(Bigrams(table))
    questions = [Question("continue", np.array([END]), TOKENIZER.encode(text), np.array([])) for text in texts]
    return predict(examinee, examinee.objective, questions, 1)


@pytest.fixture(scope="module")
def language():
    table = letters_bigrams()
    return table, [spoken(table, 60, seed) for seed in range(60)]


def random_predictions(count: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    confidence = rng.random(count)
    return confidence, rng.random(count) < confidence**2


def test_the_error_is_that_of_torchmetrics():
    confidence, right = random_predictions()
    ours = reliability(confidence, right, np.ones(len(right))).error
    theirs = binary_calibration_error(torch.tensor(confidence), torch.tensor(right).long(), n_bins=15)
    assert ours == pytest.approx(float(theirs), abs=1e-6)


def test_the_error_by_hand():
    # Two bins: 0.9 sure and right half of the time, 0.3 sure and always right.
    found = reliability(np.array([0.9, 0.9, 0.3, 0.3]), np.array([1, 0, 1, 1]), np.array([1.0, 1.0, 2.0, 2.0]))
    assert found.error == pytest.approx((2 * 0.4 + 4 * 0.7) / 6)
    assert [(one["accuracy"], one["tokens"]) for one in found.curve] == [(1.0, 4.0), (0.5, 2.0)]


def test_a_weight_of_two_is_two_predictions():
    confidence, right = random_predictions(50)
    weight = np.random.default_rng(1).integers(1, 4, 50)
    for spacing in ("width", "mass"):
        weighted = reliability(confidence, right, weight.astype(float), spacing)
        repeated = reliability(np.repeat(confidence, weight), np.repeat(right, weight), np.ones(weight.sum()), spacing)
        assert weighted.error == pytest.approx(repeated.error)


def test_bins_of_equal_mass_hold_about_as_much_and_keep_equal_confidences_together():
    confidence, right = random_predictions(1500)
    curve = reliability(confidence**4, right, np.ones(1500), "mass").curve
    assert len(curve) == 15
    assert {round(one["tokens"] / 100) for one in curve} == {1}
    assert len(reliability(np.full(30, 0.25), np.ones(30), np.ones(30), "mass").curve) == 1


def test_the_uniform_predictor_is_as_sure_as_it_should_be_by_chance():
    found = predictions(np.zeros((SIZE, SIZE)), ["abc", "hello there"])
    np.testing.assert_allclose(found.confidence(), 1 / SIZE, rtol=1e-6)
    assert not found.right.any()
    assert reliability(found.confidence(), found.right, found.weight).error == pytest.approx(1 / SIZE)
    assert best_temperature(found) == 1.0
    assert temperature_measure(found, 2, 1.0).value == pytest.approx(1.0)


def test_the_model_that_a_text_is_from_is_calibrated(language):
    table, texts = language
    found = predictions(table, texts)
    assert reliability(found.confidence(), found.right, found.weight).error < 0.04
    assert best_temperature(found) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("factor", [0.4, 1.9, 3.0])
def test_the_temperature_is_the_factor_by_which_logits_were_scaled(language, factor):
    table, texts = language
    scaled, plain = (best_temperature(predictions(one * table, texts)) for one in (factor, 1))
    assert scaled == pytest.approx(factor * plain, rel=5e-3)


def test_the_temperature_has_the_least_loss(language):
    table, texts = language
    found = predictions(1.7 * table, texts)
    best = best_temperature(found)
    losses = [float(found.weight @ found.nll(best * change)) for change in (0.97, 1, 1.03)]
    assert losses[1] < min(losses[0], losses[2])


def test_a_temperature_beyond_the_range_is_its_end(language):
    table, texts = language
    for factor, end in ((20, HOTTEST), (0.05, COLDEST)):
        found = predictions(factor * table, texts)
        assert best_temperature(found) == pytest.approx(end)
        assert temperature_measure(found, len(texts), end).value == pytest.approx(end)


def test_measures_have_the_value_of_what_they_stand_for_and_its_spread_over_resamples(language):
    table, texts = language
    found = predictions(1.8 * table, texts)
    whole = reliability(found.confidence(), found.right, found.weight)
    best = best_temperature(found)
    measures = measure(whole.terms, found, len(texts)), temperature_measure(found, len(texts), best)
    assert measures[0].value == pytest.approx(whole.error)
    assert measures[1].value == pytest.approx(best)
    rng, resampled, linear = np.random.default_rng(0), [], []
    for _ in range(150):
        chosen = rng.integers(len(texts), size=len(texts))
        again = found.chosen(np.concatenate([np.flatnonzero(found.question == one) for one in chosen]))
        one = reliability(again.confidence(), again.right, again.weight)
        resampled.append((one.error, best_temperature(again)))
        linear.append([one.sums[chosen].sum() / one.weights[chosen].sum() for one in measures])
    spread = np.std(resampled, axis=0)
    np.testing.assert_allclose(np.std(linear, axis=0), spread, rtol=0.15)
    low, high = whole.interval(found.question)
    assert high - low == pytest.approx(4 * spread[0], rel=0.3)
    assert low < whole.error < high


def test_the_error_of_a_drawn_number_is_as_large_as_draws_differ():
    rng = np.random.default_rng(0)
    draws, questions = 400, 3
    question, draw = np.repeat(np.arange(questions), 2 * draws), np.tile(np.repeat(np.arange(draws), 2), questions)
    count = len(question)
    nothing = np.zeros((count, 1))
    found = Predictions(
        *(np.zeros(count, int), np.zeros(count, int), np.full(count, 1 / draws), np.zeros(count, bool)),
        *(np.zeros(count), nothing, nothing),
        question=question,
        draw=draw,
        draws=draws,
        unanswered=(),
        shortened=0,
    )
    one = measure(rng.normal(5, 2, count) / draws, found, questions)
    # Each question is the mean of 400 draws, each a sum of two terms of deviation 2, over a weight of 2.
    assert one.value == pytest.approx(5, abs=0.2)
    assert one.standard_error == pytest.approx(2 / np.sqrt(questions * 2 * draws), rel=0.1)
