"""Modified Kneser-Ney: the definition, written again as slowly as it reads, is what the arrays compute."""

from collections import Counter, defaultdict
from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntp.baselines.kneser_ney import FALLBACK, KneserNey, discounts_of, fit
from ntp.baselines.sequences import Sequences

END, VOCABULARY = 0, 5  # 0 ends a text, 1 to 3 are its words, 4 is reserved and never occurs
WORDS = np.array([0, 1, 2, 3])

documents = st.lists(st.lists(st.integers(1, 3), max_size=12), min_size=1, max_size=6)
histories = st.lists(st.integers(0, 3), min_size=1, max_size=6)


def sequences_of(texts):
    return Sequences.of([np.array([END, *text, END]) for text in texts])


def distribution_of(model, history):
    """[V], of the word after a history, asked one word at a time."""
    words = np.arange(VOCABULARY)
    asked = Sequences.of([np.array([*history, word]) for word in words])
    with np.errstate(divide="ignore"):  # of the word that never occurs
        nats = model.nats(asked)
    return np.exp(-nats[asked.depth == len(history)])


def by_the_book(texts, order):
    """p(w | h), by dictionaries and recursion."""
    raw = [Counter() for _ in range(order + 1)]
    for text in texts:
        text = (END, *text, END)
        for end in range(2, len(text) + 1):
            for length in range(1, min(order, end) + 1):
                raw[length][text[end - length : end]] += 1
    order = max(length for length in range(1, order + 1) if raw[length])
    counts = [Counter() for _ in range(order + 1)]
    for length in range(1, order + 1):
        before = defaultdict(set)
        if length < order:
            for gram in raw[length + 1]:
                before[gram[1:]].add(gram[0])
        counts[length] = Counter({gram: len(before[gram]) or count for gram, count in raw[length].items()})
    discounts = [(0, 0, 0), *(discounts_of(np.array(list(one.values()))) for one in counts[1:])]

    @cache
    def probability(word, history):
        if history is None:
            return 1 / len(WORDS)
        length = len(history) + 1
        after = {gram[-1]: count for gram, count in counts[length].items() if gram[:-1] == history}
        shorter = history[1:] if history else None
        if not after:
            return probability(word, shorter)
        taken = {one: discounts[length][min(count, 3) - 1] for one, count in after.items()}
        kept = after.get(word, 0) - taken.get(word, 0)
        return (kept + sum(taken.values()) * probability(word, shorter)) / sum(after.values())

    return lambda word, history: probability(word, tuple(history)[-(order - 1) :] if order > 1 else ())


@given(documents, st.integers(1, 5), histories)
def test_probabilities_are_those_of_the_definition(texts, order, history):
    model, expected = fit(sequences_of(texts), order, VOCABULARY, WORDS), by_the_book(texts, order)
    np.testing.assert_allclose(
        distribution_of(model, np.array(history))[WORDS], [expected(word, history) for word in WORDS], rtol=1e-5
    )


@given(documents, st.integers(1, 5), histories)
def test_probabilities_are_positive_and_sum_to_one_after_every_history(texts, order, history):
    distribution = distribution_of(fit(sequences_of(texts), order, VOCABULARY, WORDS), np.array(history))
    assert distribution[WORDS].min() > 0
    assert distribution[4] == 0
    assert distribution.sum() == pytest.approx(1, abs=1e-5)


@given(documents, documents, st.integers(1, 5))
def test_a_text_costs_what_its_tokens_cost_one_by_one(texts, asked, order):
    model, sequences = fit(sequences_of(texts), order, VOCABULARY, WORDS), sequences_of(asked)
    nats = model.nats(sequences)
    for place in np.flatnonzero(sequences.depth > 0):
        history = sequences.tokens[place - sequences.depth[place] : place]
        assert nats[place] == pytest.approx(-np.log(distribution_of(model, history)[sequences.tokens[place]]), rel=1e-5)


def test_a_text_of_three_words_gives_what_is_computed_by_hand():
    model = fit(sequences_of([[1, 2, 1]]), 2, VOCABULARY, np.array([0, 1, 2]))
    # One, two, one different words stand before 0, 1, 2: of 4, discounts take 0.5, 1 and 0.5 for the uniform.
    np.testing.assert_allclose(model.unigrams[:3], [0.5 / 4 + 0.5 / 3, 1 / 4 + 0.5 / 3, 0.5 / 4 + 0.5 / 3])
    # 1 is followed by 2 and by the end, once each, of which half is taken.
    after = distribution_of(model, np.array([1]))
    np.testing.assert_allclose(after[:3], [0.25 + 0.5 * 7 / 24, 0.5 * 10 / 24, 0.25 + 0.5 * 7 / 24], rtol=1e-6)
    # 2 is always followed by 1.
    assert distribution_of(model, np.array([2]))[1] == pytest.approx(0.5 + 0.5 * 10 / 24)


def test_discounts_are_those_of_chen_and_goodman():
    # n1 = 4, n2 = 2, n3 = n4 = 1; Y = 4 / 8
    assert discounts_of(np.array([1, 1, 1, 1, 2, 2, 3, 4, 0, 9])) == pytest.approx((0.5, 1.25, 1.0))


@pytest.mark.parametrize("counts", [[], [1, 2, 3], [1, 1, 2, 3, 3, 3, 4], [1, 1, 2, 3, 4, 4, 4, 4]])
def test_discounts_that_the_counts_do_not_give_are_taken_from_elsewhere(counts):
    assert discounts_of(np.array(counts, int)) == FALLBACK


@pytest.mark.parametrize("order", [2, 3])
def test_with_a_single_discount_it_is_the_kneser_ney_of_nltk(order):
    lm = pytest.importorskip("nltk.lm")
    rng = np.random.default_rng(0)
    texts = [rng.choice([1, 1, 1, 2, 2, 3], size=30).tolist() for _ in range(4)]
    padded = [[END, *text, END] for text in texts]
    grams = [
        [
            tuple(map(str, text[end - length : end]))
            for end in range(2, len(text) + 1)
            for length in range(1, order + 1)
            if length <= end
        ]
        for text in padded
    ]
    theirs = lm.KneserNeyInterpolated(order, discount=0.3)
    theirs.fit(grams, list("0123"))
    # nltk discounts no unigrams, and knows no uniform distribution below them.
    ours = fit(sequences_of(texts), order, VOCABULARY, WORDS, discounts=[(0, 0, 0), *[(0.3, 0.3, 0.3)] * (order - 1)])
    for *history, word in product((1, 2, 3), repeat=order):
        expected = theirs.score(str(word), tuple(map(str, history)))
        assert distribution_of(ours, np.array(history))[word] == pytest.approx(expected, rel=1e-5)


def test_contexts_do_not_cross_the_end_of_a_document():
    model = fit(sequences_of([[1, 2], [3, 3]]), 4, VOCABULARY, WORDS)
    after_all = distribution_of(model, np.array([END, 1, 2, END]))
    np.testing.assert_array_equal(after_all, distribution_of(model, np.array([END])))


def test_a_saved_model_is_the_same(tmp_path):
    model = fit(sequences_of([[1, 2, 1, 3, 2], [3, 3]]), 3, VOCABULARY, WORDS)
    model.save(tmp_path)
    loaded = KneserNey.load(tmp_path)
    assert (loaded.order, loaded.ngrams) == (model.order, model.ngrams)
    sequences = sequences_of([[2, 1, 3, 3, 1]])
    np.testing.assert_array_equal(loaded.nats(sequences), model.nats(sequences))


def test_orders_that_no_document_is_long_enough_for_are_left_out():
    assert fit(sequences_of([[1], [2]]), 9, VOCABULARY, WORDS).order == 3
