"""Estimates of an answer: how they share strata, and whether their error is what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntp.evaluation.drawing import groups, stratum, variance_of_mean
from ntp.evaluation.examinee import TextQuestion
from ntp.objectives.masked_diffusion import MaskedDiffusion
from tests.objectives.answering import answering


@given(st.integers(1, 40))
def test_every_stratum_of_a_group_is_drawn_once_and_there_are_two_groups_at_least(draws):
    sizes = groups(draws)
    assert sum(sizes) == draws
    assert len(sizes) >= min(2, draws)
    assert max(sizes) <= 3
    places = [stratum(one, draws) for one in range(draws)]
    assert places == [(place, size) for size in sizes for place in range(size)]


def test_one_draw_tells_nothing_of_its_error():
    assert np.isnan(variance_of_mean(np.ones((3, 1)))).all()
    assert (variance_of_mean(np.ones((3, 5))) == 0).all()


@pytest.mark.parametrize("draws", [2, 4, 6, 8])
def test_the_variance_is_that_of_the_mean_where_strata_differ_much(draws):
    rng = np.random.default_rng(0)
    places = np.array([stratum(one, draws) for one in range(draws)])
    uniform = (places[:, 0] + rng.random((20_000, draws))) / places[:, 1]
    estimates = 10 * uniform + rng.normal(0, 1, uniform.shape)
    assert variance_of_mean(estimates).mean() == pytest.approx(estimates.mean(1).var(), rel=0.04)


@pytest.mark.parametrize("draws", [2, 4])
def test_the_error_of_an_answer_is_as_large_as_answers_differ(draws):
    questions = [TextQuestion("any_order", "", "a few words of text, and more")] * 1200
    scores = answering(MaskedDiffusion(), draws=draws, batch_size=256).score(questions)
    assert scores.variances.mean() == pytest.approx(scores.nats.var(ddof=1), rel=0.2)


def test_equal_rows_are_read_once():
    candidate, read = answering(MaskedDiffusion(), draws=8), []
    look = candidate._look

    def noted(part, examples, how):
        read.extend(examples)
        return look(part, examples, how)

    candidate._look = noted
    one, other = (TextQuestion("cloze", "so ", target, " it", ends=False) for target in "xy")
    scores = candidate.score([one, other, one])
    assert len(read) == 2
    assert scores.nats[0] == scores.nats[2] != scores.nats[1]
    assert (scores.variances == 0).all()
