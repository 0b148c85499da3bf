import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ntp.comparison.matrix import sample_of
from ntp.comparison.statistics import Sample, adjusted, compare, estimate, holm, plus_minus, verdict
from ntp.evaluation.exams.result import Measure
from tests.comparison.simulation import World


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def first_seeds(sample: Sample, count: int) -> Sample:
    return replace(
        sample, sums=sample.sums[:count], weights=sample.weights[:count], seeds=sample.seeds[:count], variances=None
    )


def test_arms_that_differ_by_nothing_but_seed_are_not_resolved():
    a, b = World().pair(generator(), 3)
    difference = compare(a, b)
    assert not difference.resolved
    assert difference.low < 0 < difference.high
    assert verdict(difference, ("A", "B"), "bits per byte").startswith("not resolved: would need ")


def test_a_truly_better_arm_is_found_and_by_how_much():
    a, b = World().pair(generator(), 5, better=0.2)
    difference = compare(a, b)
    assert difference.resolved
    assert difference.low < 0.2 < difference.high
    said = verdict(difference, ("A", "B"), "bits per byte")
    assert said == f"B better than A by {plus_minus(difference.value, difference.half_width)} bits per byte"


def test_the_worse_of_two_loses_whichever_stands_first():
    a, b = World().pair(generator(), 5, better=0.2)
    there, back = compare(a, b), compare(b, a)
    assert back.value == pytest.approx(-there.value)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert verdict(back, ("B", "A")).startswith("B better than A by ")


def test_where_more_is_better_the_larger_wins():
    a, b = World().pair(generator(), 5, better=0.2)
    assert compare(a, b, better="higher").value == pytest.approx(-compare(a, b).value)


def test_one_seed_resolves_nothing_about_objectives():
    a, b = World(seeds=0, shared=0, documents=0, inside=1e-3).pair(generator(), 1, better=1.0)
    difference = compare(a, b)
    assert not difference.resolved
    assert difference.p_value == 1.0
    assert difference.seeds_needed is None
    said = verdict(difference, ("A", "B"), "bits per byte")
    assert re.fullmatch(r"not resolved: one seed each \(these runs differ by \d\.\d+ ± 0\.\d+ bits per byte\)", said)
    assert any("one seed" in caveat for caveat in difference.caveats)


def test_one_seed_of_one_of_them_is_named():
    a, b = World().pair(generator(), 3, better=1.0)
    difference = compare(a, first_seeds(b, 1))
    assert not difference.resolved
    assert "one seed of B" in verdict(difference, ("A", "B"))


def test_what_has_no_seed_is_compared_by_documents_and_the_others_seeds():
    a, b = World().pair(generator(), 4, better=0.3)
    compressor = replace(first_seeds(a, 1), seeds=())
    difference = compare(compressor, b)
    assert difference.resolved
    assert not difference.paired_seeds
    other = replace(first_seeds(b, 1), seeds=())
    assert compare(compressor, other).resolved


def test_documents_alone_can_be_what_is_missing():
    a, b = World(count=12).pair(generator(3), 1)
    difference = compare(replace(a, seeds=()), replace(b, seeds=()))
    assert not difference.resolved
    assert "more documents than 12" in verdict(difference, ("A", "B"))


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_equal_arms_are_seldom_told_apart(seeds):
    rng, trials = generator(1), 150
    wrong = sum(compare(*World().pair(rng, seeds), resamples=300).resolved for _ in range(trials))
    assert wrong <= stats.binom.ppf(0.999, trials, 0.05)


WORLDS = {
    "all at once": World(),
    "seeds alone": World(documents=0.001, inside=0.001),
    "documents alone": World(seeds=1e-6, shared=0, documents=0.2, inside=1e-6),
    "noise alone": World(seeds=1e-6, shared=0, documents=1e-6, inside=0.5),
    "few documents": World(count=10),
}


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("same_seeds", [True, False])
@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_intervals_of_differences_hold_the_truth_as_often_as_they_say(world, same_seeds, seeds):
    rng, trials = generator(2), 1000
    held = 0
    for _ in range(trials):
        difference = compare(*world.pair(rng, seeds, better=0.1, same_seeds=same_seeds), resamples=500)
        held += difference.low <= 0.1 <= difference.high
    assert held / trials > 0.92


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_intervals_of_numbers_hold_the_truth_as_often_as_they_say(seeds):
    rng, trials, held = generator(4), 1000, 0
    world = World(seeds=0.0 if seeds == 1 else 0.1, shared=0, both=0.2)
    for _ in range(trials):
        number = estimate(world.pair(rng, seeds)[0], resamples=500)
        held += number.low <= 3.0 + 2 * world.both <= number.high
    assert held / trials > 0.92


def test_equal_seeds_are_compared_with_each_other_in_whatever_order_they_come():
    a, b = World(shared=0.5).pair(generator(), 4, better=0.1)
    turned = replace(b, sums=b.sums[::-1], weights=b.weights[::-1], seeds=b.seeds[::-1])
    assert compare(a, turned) == compare(a, b)


def test_what_a_seed_does_to_both_arms_cancels():
    a, b = World(shared=0.5).pair(generator(), 4, better=0.1)
    paired, apart = compare(a, b), compare(a, b, pair_seeds=False)
    assert paired.paired_seeds
    assert not apart.paired_seeds
    assert paired.half_width < apart.half_width / 2


def test_arms_of_other_seeds_are_independent_samples():
    a, b = World().pair(generator(), 4, same_seeds=False)
    assert not compare(a, b).paired_seeds


def test_without_documents_the_interval_is_that_of_the_t_test():
    """A single document: nothing but seeds is left, and Student's interval is exact."""
    a, b = World(count=1).pair(generator(), 5, better=0.2)
    difference, level = compare(a, b), 0.95
    by_scipy = stats.ttest_rel(a.values, b.values).confidence_interval(level)
    assert (difference.low, difference.high) == pytest.approx((by_scipy.low, by_scipy.high))
    assert difference.p_value == pytest.approx(stats.ttest_rel(a.values, b.values).pvalue)
    welch = stats.ttest_ind(a.values, b.values, equal_var=False)
    apart = compare(a, b, pair_seeds=False)
    assert (apart.low, apart.high) == pytest.approx(tuple(welch.confidence_interval(level)))
    assert apart.p_value == pytest.approx(welch.pvalue)


def test_with_one_seed_the_interval_is_over_documents():
    values = generator().normal(2.0, 0.5, 400)
    sample = Sample(values[None], np.ones((1, 400)), None, np.arange(400), (0,))
    number = estimate(sample)
    half = 1.96 * values.std(ddof=1) / math.sqrt(400)
    assert number.standard_deviation is None
    assert number.high - number.low == pytest.approx(2 * half, rel=0.1)
    assert any("one seed" in caveat for caveat in number.caveats)


def test_the_number_is_the_ratio_of_the_sums_and_the_deviation_that_of_the_seeds():
    sample = World().pair(generator(), 3)[0]
    number = estimate(sample)
    assert number.value == pytest.approx(sample.sums.sum() / sample.weights.sum())
    assert number.standard_deviation == pytest.approx(np.std(sample.values, ddof=1))
    assert number.low < number.value < number.high


@given(st.lists(st.integers(1, 5), min_size=3, max_size=12), st.integers(1, 4))
def test_a_document_counts_once_however_many_questions_it_has(parts, seeds):
    """Questions of a document are resampled together: cut into more of them, nothing changes."""
    rng, count = generator(len(parts)), len(parts)
    sums, weights = rng.gamma(2.0, 1.0, (seeds, count)), rng.gamma(2.0, 1.0, count) + np.zeros((seeds, 1))
    whole = Sample(sums, weights, None, np.arange(count), tuple(range(seeds)))
    cut = Sample(
        np.repeat(sums / parts, parts, axis=1),
        np.repeat(weights / parts, parts, axis=1),
        None,
        np.repeat(np.arange(count), parts),
        whole.seeds,
    )
    one, other = estimate(whole, resamples=50), estimate(cut, resamples=50)
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))
    assert one.documents == other.documents == count


def test_documents_that_weigh_nothing_change_nothing():
    a, b = World().pair(generator(), 3, better=0.1)
    more = [
        replace(
            one,
            sums=np.pad(one.sums, ((0, 0), (0, 9))),
            weights=np.pad(one.weights, ((0, 0), (0, 9))),
            documents=np.arange(len(one.documents) + 9),
        )
        for one in (a, b)
    ]
    assert compare(*more) == compare(a, b)


def test_the_same_comparison_twice_is_the_same():
    a, b = World().pair(generator(), 3)
    assert compare(a, b) == compare(a, b)
    assert compare(a, b, seed=1).low != compare(a, b).low


def test_the_noise_of_estimates_is_what_is_left_of_one_run_on_one_document():
    sample = Sample(np.array([[200.0]]), np.array([[100.0]]), np.array([[16.0]]), np.array([0]), (0,))
    number = estimate(sample)
    assert number.noise == pytest.approx(0.04)
    assert (number.low, number.high) == pytest.approx((2 - 1.96 * 0.04, 2 + 1.96 * 0.04), rel=1e-4)
    difference = compare(sample, replace(sample, sums=np.array([[300.0]])))
    assert difference.half_width == pytest.approx(1.96 * 0.04 * math.sqrt(2), rel=1e-4)


def test_nothing_answered_is_no_number():
    empty = Sample(np.zeros((2, 3)), np.zeros((2, 3)), None, np.arange(3), (0, 1))
    assert math.isnan(estimate(empty).value)
    difference = compare(empty, empty)
    assert not difference.resolved
    assert verdict(difference, ("A", "B")) == "not resolved: nothing was answered by both"


def test_an_arm_is_not_better_than_itself():
    a, _ = World().pair(generator(), 3)
    difference = compare(a, a)
    assert (difference.value, difference.p_value, difference.resolved) == (0.0, 1.0, False)


def test_other_questions_are_refused():
    a, b = World().pair(generator(), 2)
    with pytest.raises(ValueError, match="not about the same questions"):
        compare(a, replace(b, documents=b.documents[::-1].copy()))


def test_counts_that_are_equal_by_chance_make_nothing_sure():
    # Each seed of the second arm has two right answers more, each on other questions.
    wrong = np.zeros((2, 40))
    right = wrong.copy()
    right[0, :2] = right[1, 2:4] = 1.0
    a, b = (Sample(one, np.ones((2, 40)), None, np.arange(40), (0, 1)) for one in (wrong, right))
    difference = compare(a, b, better="higher")
    assert not difference.resolved
    assert difference.low < 0 < difference.high


def test_equal_answers_are_said_to_be_equal():
    a, _ = World().pair(generator(), 3)
    assert verdict(compare(a, a), ("A", "B")) == "not resolved: the same number on every document"


def test_a_sample_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match="weights has shape"):
        Sample(np.zeros((2, 3)), np.zeros((1, 3)), None, np.arange(3), (0, 1))


def test_a_sample_is_made_of_the_measures_of_runs():
    measures = [Measure(np.array([1.0, 2.0]), np.array([3.0, 3.0])), Measure(np.ones(2), np.ones(2), np.ones(2))]
    questions = [("a", "", 0), ("b", "", 0)]
    sample = sample_of([(one, questions[::-1]) for one in measures], questions, (5, 6))
    assert sample.documents.tolist() == [0, 1]
    assert sample.sums.tolist() == [[2.0, 1.0], [1.0, 1.0]]
    assert sample.variances is not None
    assert sample.variances.tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert sample.seeds == (5, 6)


def test_holm_multiplies_by_how_many_are_left():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=10))
def test_holm_keeps_the_order_and_never_lowers_a_p_value(chances):
    corrected = holm(chances)
    assert all(before <= after <= 1 for before, after in zip(chances, corrected, strict=True))
    order = np.argsort(chances, kind="stable")
    assert np.all(np.diff(np.array(corrected)[order]) >= 0)


def test_what_is_barely_resolved_is_not_among_many():
    pairs = [World().pair(generator(seed), 3, better=0.06) for seed in range(12)]
    alone = [compare(a, b) for a, b in pairs]
    together = adjusted(alone)
    assert sum(one.resolved for one in together) < sum(one.resolved for one in alone)
    assert [one.value for one in together] == [one.value for one in alone]


def test_one_seed_takes_no_part_in_the_correction():
    a, b = World().pair(generator(), 5, better=0.2)
    single = compare(first_seeds(a, 1), first_seeds(b, 1))
    several = compare(a, b)
    assert adjusted([single, several, single]) == [single, several, single]


@pytest.mark.parametrize(
    ("value", "half_width", "said"),
    [
        (0.0213, 0.0061, "0.021 ± 0.006"),
        (0.0213, 0.0143, "0.021 ± 0.014"),
        (1.23456, 0.000321, "1.2346 ± 0.0003"),
        (123.4, 31.0, "123 ± 31"),
        (2.5, 0.0, "2.5"),
        (2.5, math.nan, "2.5"),
    ],
)
def test_a_number_has_the_digits_that_its_interval_leaves_it(value, half_width, said):
    assert plus_minus(value, half_width) == said
