"""The exam of calibration: what it asks whom, and what its tables add up to."""

from types import MappingProxyType

import numpy as np
import pytest

from ntp.evaluation.examinee import Examinee
from ntp.evaluation.exams.calibration import Calibration
from ntp.evaluation.exams.likelihood import AnyOrder, text_question
from ntp.evaluation.exams.result import read_results
from ntp.objectives.base import target_nll
from ntp.objectives.causal import Causal
from ntp.objectives.masked_diffusion import MaskedDiffusion
from ntp.objectives.question import Way
from tests.evaluation.tables import SIZE, Bigrams, candidate, letters_bigrams, spoken
from tests.objectives.making import transformer

TEXTS = [f"def f{number}(x):\n    return x + {number}\n\n" * (1 + number % 5) for number in range(12)]
TABLES = ("by_frequency", "by_position", "by_document_length")


def graded(model=None, objective=None, texts=TEXTS, **changes):
    recipe = Calibration(window_bytes=64)
    return recipe.grade(recipe.make("calibration", texts), candidate(model or transformer(), objective, **changes))


@pytest.fixture(scope="module")
def causal():
    return graded()


@pytest.fixture(scope="module")
def diffusion():
    return graded(objective=MaskedDiffusion(), draws=6)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kind", ["causal", "diffusion"])
def test_the_losses_of_a_table_sum_to_the_whole(table, kind, request):
    result = request.getfixturevalue(kind)
    rows, nll = result.details[table], result.measures["nll"]
    assert len(rows) > 1
    assert sum(row["nats"] for row in rows) == pytest.approx(nll.sums.sum())
    assert sum(row["tokens"] for row in rows) == pytest.approx(nll.weights.sum())


def test_text_is_counted_byte_by_byte(causal):
    exam = Calibration(window_bytes=64).make("calibration", TEXTS)
    asked = sum(item["window"][1] - item["window"][0] for item in exam.items)
    for table in TABLES:
        assert sum(row["bytes"] for row in causal.details[table]) == asked
        assert all(row["bits_per_byte"] is None for row in causal.details[table] if not row["bytes"])
    [special] = [row for row in causal.details["by_frequency"] if row["frequency"] == "special"]
    assert special["bytes"] == 0


def test_what_predicts_from_left_to_right_is_asked_to(causal):
    assert causal.details["asked"] == "continue"
    assert causal.given == ("left",)
    assert causal.likelihood == "none"
    assert causal.primary == "ece"
    assert all(one.standard_error is None for one in causal.measures.values())


def test_what_fills_in_is_asked_for_hidden_tokens(diffusion):
    assert diffusion.details["asked"] == "any_order"
    assert diffusion.given == ("length",)
    assert "a bound" in diffusion.notes[0]
    drawn = {name: one.standard_error for name, one in diffusion.measures.items()}
    assert min(drawn[name] for name in ("ece", "scaled/ece", "temperature", "nll", "brier", "rare/nll")) > 0


def test_its_loss_is_that_of_the_likelihood_exams(causal):
    examinee = candidate(transformer())
    recipe = AnyOrder(windows=1, window_bytes=64)
    exam = recipe.make("any_order", TEXTS)
    scores = examinee.score([text_question(exam, item, "continue") for item in exam.items])
    np.testing.assert_allclose(causal.measures["nll"].sums, scores.nats, rtol=1e-5)


def test_what_only_fills_gaps_is_asked_for_words():
    class Cloze(MaskedDiffusion):
        ways = MappingProxyType({"cloze": Way("pseudo", ("left", "right"), drawn=True)})

    result = graded(objective=Cloze(), draws=2)
    assert result.details["asked"] == "cloze"
    assert result.given == ("left", "right")
    words = sum(min(len(one), 64) for one in TEXTS)
    assert 0 < result.measures["nll"].weights.sum() < words
    assert len(result.documents) == len(result.measures["nll"].sums) == len(TEXTS)


def test_the_uniform_predictor_by_hand():
    result = graded(Bigrams(np.zeros((SIZE, SIZE))))
    # Of equal logits the first is the largest, which is that of the end of a text: right where a text ends.
    exam = Calibration(window_bytes=64).make("calibration", TEXTS)
    ends = sum(item["window"][1] == len(exam.documents[item["document"]].content) for item in exam.items)
    ends /= result.measures["nll"].weights.sum()
    assert 0 < result.measures["accuracy"].value == pytest.approx(ends)
    assert result.measures["ece"].value == pytest.approx(ends - 1 / SIZE)
    assert result.measures["equal_mass/ece"].value == pytest.approx(ends - 1 / SIZE)
    assert result.measures["nll"].value == pytest.approx(np.log(SIZE))
    assert result.measures["brier"].value == pytest.approx(1 - 1 / SIZE, abs=1e-5)
    assert result.measures["temperature"].value == pytest.approx(1)
    [only] = result.details["reliability"]["before"]["curve"]
    assert only["confidence"] == pytest.approx(1 / SIZE)


def test_a_temperature_from_other_documents_mends_a_model_that_is_too_sure():
    table = letters_bigrams()
    # None is asked for its end, of which this language knows nothing.
    texts = [spoken(table, 90, seed) for seed in range(40)]
    result = graded(Bigrams(2.5 * table), texts=texts)
    measures = {name: one.value for name, one in result.measures.items()}
    assert measures["temperature"] > 2
    assert measures["ece"] > 0.1 > measures["scaled/ece"]
    assert measures["scaled/nll"] < measures["nll"]
    assert measures["scaled/brier"] < measures["brier"]
    for name, measure in (("before", "ece"), ("after", "scaled/ece")):
        curve = result.details["reliability"][name]
        assert curve["ece"] == pytest.approx(measures[measure])
        assert curve["interval"][0] <= curve["ece"] <= curve["interval"][1]


def test_about_one_document_no_temperature_is_tried():
    result = graded(texts=TEXTS[:1])
    assert "scaled/ece" not in result.measures
    assert any("one document" in note for note in result.notes)


def test_the_rarest_tokens_are_a_tenth_of_the_text_at_most(causal):
    rare, nll = causal.measures["rare/nll"], causal.measures["nll"]
    assert 0 < rare.weights.sum() <= 0.2 * nll.weights.sum()
    assert any("held-out text itself" in note for note in causal.notes)


def test_the_same_at_any_batch_size(causal):
    again = graded(batch_size=3)
    for name, one in causal.measures.items():
        np.testing.assert_allclose(one.sums, again.measures[name].sums, rtol=1e-4, atol=1e-4)


def test_those_without_logits_of_their_own_say_so():
    class Other(Causal):
        def nll(self, model, batch):
            return target_nll(model, batch)

    assert "own head" in graded(objective=Other()).refusal

    class Mute(Causal):
        ways = MappingProxyType({})

    assert "no native means" in graded(objective=Mute()).refusal

    class Baseline(Examinee):
        def way(self, kind):
            return Way("exact")

        def score(self, questions):
            raise AssertionError

    recipe = Calibration()
    assert "not of each token" in recipe.grade(recipe.make("calibration", TEXTS), Baseline()).refusal


def test_words_are_where_the_text_has_them():
    text = "été = naïve + 1\n" * 3
    recipe = Calibration(words=4)
    exam = recipe.make("calibration", [text])
    [item] = exam.items
    words = [exam.text(item["document"], *place) for place in item["words"]]
    assert len(words) == 4
    assert set(words) <= {"été", "naïve", "1"}


def test_a_trained_run_knows_how_frequent_its_tokens_were(trained, ntp):
    outcome = ntp("evaluate", f"run={trained}", "evaluation/exams=[calibration]", "batch_size=4")
    assert outcome.status == 0, outcome.stderr
    [stored] = [one for one in read_results(trained) if one.result.exam == "calibration"]
    assert "of the training text" in stored.result.details["frequencies"]
    assert "ece" in outcome.stdout
