"""The logistic regression: a distribution, and the one that scikit-learn has fitted."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntp.baselines.baseline import TrainingText, Unsuitable
from ntp.baselines.maxent import MaxEnt, columns, histories_of, incidence
from ntp.baselines.sequences import Sequences
from ntp.baselines.token_models import words_of
from ntp.config.errors import ConfigError
from ntp.data.corpora import Files
from ntp.data.prepare import prepare
from ntp.data.tokenizers import BytePair, Characters
from ntp.evaluation.examinee import TextQuestion

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def prepared(text_file: Path, cache: Path):
    return prepare(Files(str(text_file)), Characters(), cache_dir=cache)


@pytest.fixture(scope="module")
def fitted(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("maxent")
    fit = MaxEnt(order=4, features=300, examples=3000, iterations=60).fit(TrainingText(prepared, list), folder)
    return fit, folder


def nats(fitted, prepared, *texts):
    questions = [TextQuestion("continue", "", one, ends=False) for one in texts]
    return MaxEnt(order=4).open(fitted[1], prepared).score(questions).nats


@given(text=st.text("def x(1)\n:z", min_size=1, max_size=9))
def test_probabilities_are_positive_and_sum_to_one_after_any_text(fitted, prepared, text):
    size, words = prepared.tokenizer.vocabulary_size, words_of(prepared.tokenizer)
    sequences = Sequences.of([np.append(prepared.tokenizer.end_of_text, prepared.tokenizer.encode(text))])
    regression = MaxEnt(order=4).load(fitted[1], prepared)
    distributions = regression.distributions(histories_of(sequences, size, 4))
    assert (distributions[:, words] > 0).all()
    np.testing.assert_allclose(distributions.sum(1), 1)
    expected = -np.log(distributions[np.arange(len(text) + 1), sequences.tokens])
    np.testing.assert_allclose(regression.nats(sequences), expected)
    assert nats(fitted, prepared, text)[0] == pytest.approx(expected[1:].sum())


def test_what_always_follows_is_expected(fitted, prepared):
    likely, unlikely = nats(fitted, prepared, "    return x", "    return 7") / np.log(2)
    assert likely + 3 < unlikely


def test_it_is_the_regression_of_scikit_learn_mixed_with_one_more_of_each(fitted, prepared):
    from sklearn.linear_model import LogisticRegression

    size, store = prepared.tokenizer.vocabulary_size, prepared.train
    sequences = Sequences.of_store(store, prepared.tokenizer.end_of_text)
    features = np.load(fitted[1] / "features.npy")
    places = np.flatnonzero(sequences.depth > 0)
    chosen = places[np.unique(np.linspace(0, len(places) - 1, 3000).astype(int))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = incidence(histories_of(sequences, size, 4)[chosen], features)
        theirs = LogisticRegression(max_iter=60).fit(x, sequences.tokens[chosen])
    text = prepared.tokenizer.encode("def f9(x):\n")
    asked = Sequences.of([np.concatenate([[prepared.tokenizer.end_of_text], text])])
    probabilities = np.zeros((len(text), size))
    probabilities[:, theirs.classes_] = theirs.predict_proba(incidence(histories_of(asked, size, 4)[1:], features))
    words = words_of(prepared.tokenizer)
    expected = (len(chosen) * probabilities[np.arange(len(text)), text] + 1) / (len(chosen) + len(words))
    assert nats(fitted, prepared, "def f9(x):\n")[0] == pytest.approx(-np.log(expected).sum(), rel=1e-4)


def test_histories_of_any_length_have_numbers_of_their_own():
    sequences = Sequences.of([np.array([0, 0, 1, 0]), np.array([1, 0])])
    histories = histories_of(sequences, 2, 3)
    # Digits to the base of 3: 0 is written 1, 1 is written 2; what stands nearest comes last.
    np.testing.assert_array_equal(histories, [[-1, -1], [1, -1], [1, 4], [2, 5], [-1, -1], [2, -1]])
    np.testing.assert_array_equal(
        columns(histories, np.array([1, 5])), [[2, 2], [0, 2], [0, 2], [2, 1], [2, 2], [2, 2]]
    )
    np.testing.assert_array_equal(incidence(histories, np.array([1, 5])).toarray()[1:4], [[1, 0], [1, 0], [0, 1]])


def test_a_large_vocabulary_is_refused_with_advice(text_file, cache, tmp_path):
    large = prepare(Files(str(text_file)), BytePair(vocabulary_size=600), cache_dir=cache)
    with pytest.raises(ConfigError, match=r"too many classes.*data/tokenizer=char or bytes"):
        MaxEnt(most_classes=100).check(TrainingText(large, list))


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (ModuleNotFoundError("No module named 'sklearn'", name="sklearn"), "scikit-learn is not installed; pip "),
        (ModuleNotFoundError("No module named 'joblib'", name="joblib"), "can't be imported (No module named 'jo"),
        (ImportError("libgomp.so.1: cannot open"), "is installed but can't be imported (libgomp.so.1: cannot open)"),
    ],
    ids=["missing", "without what it needs", "broken"],
)
def test_a_missing_scikit_learn_and_a_broken_one_are_told_apart(prepared, monkeypatch, broken, problem):
    def fails(name):
        raise broken

    monkeypatch.setattr("ntp.evaluation.extras.importlib.import_module", fails)
    with pytest.raises(Unsuitable) as caught:
        MaxEnt().check(TrainingText(prepared, list))
    assert caught.value.key == "baseline"
    assert problem in caught.value.problem


def test_a_fit_that_was_cut_short_says_so(prepared, tmp_path):
    fit = MaxEnt(features=50, examples=500, iterations=2).fit(TrainingText(prepared, list), tmp_path)
    assert "not yet converged" in fit.notes[0]
