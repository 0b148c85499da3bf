"""Answers to questions are the likelihoods that they are said to be: each is computed again by hand."""

import re
from functools import partial
from pathlib import Path
from threading import Barrier, Thread
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntp.data.example import Draw
from ntp.evaluation.examinee import TextQuestion
from ntp.objectives.block_diffusion import BlockDiffusion
from ntp.objectives.causal import Causal
from ntp.objectives.fim import FillInTheMiddle
from ntp.objectives.masked_diffusion import MaskedDiffusion
from ntp.objectives.mixture import Mixture
from ntp.objectives.mlm import MaskedLanguageModel
from ntp.objectives.multi_token import MultiTokenPrediction
from ntp.objectives.permutation import PermutationLM
from ntp.objectives.prefix_lm import PrefixLM
from ntp.objectives.question import Question, QuestionKind
from ntp.objectives.replaced_token import ReplacedTokenDetection
from ntp.objectives.span_corruption import SpanCorruption
from tests.objectives.answering import (
    MAKE,
    MID,
    MODE,
    PRE,
    S0,
    S1,
    SPECIAL,
    SUF,
    answering,
    blocks_in,
    causal_chain,
    ids,
    mean_over_orders,
    nats,
    prefix_chain,
    queried_in,
    unmasked_in,
)
from tests.objectives.making import END, LETTERS, batch
from tests.testing.test_objectives import OBJECTIVES, composed

KINDS: tuple[QuestionKind, ...] = get_args(QuestionKind)
near = partial(pytest.approx, rel=1e-5)


# -- from left to right --


@pytest.mark.parametrize("make", [Causal, MultiTokenPrediction, FillInTheMiddle], ids=lambda one: one.__name__)
def test_to_continue_costs_what_a_plain_forward_says(make):
    candidate = answering(make())
    expected = causal_chain(candidate.model, ids("a text"), [*ids(" that ends"), END])
    assert nats(candidate, "continue", "a text", " that ends") == near(expected)


def test_a_whole_text_stands_behind_the_end_of_another():
    for isolated in (True, False):
        candidate = answering(Causal(), isolated=isolated)
        expected = causal_chain(candidate.model, [END], [*ids("whole"), END])
        assert nats(candidate, "continue", "", "whole") == near(expected)


def test_where_documents_are_read_behind_each_other_so_is_the_text_of_a_question():
    candidate = answering(Causal(), isolated=False)
    assert nats(candidate, "continue", "ab", "cd", ends=False) == near(
        causal_chain(candidate.model, [END, *ids("ab")], ids("cd"))
    )
    assert nats(candidate, "continue", "ab", "cd", starts=False, ends=False) == near(
        causal_chain(candidate.model, ids("ab"), ids("cd"))
    )


@pytest.mark.parametrize("kind", ["infill", "cloze"])
def test_what_sees_one_side_fills_a_gap_as_if_it_went_on(kind):
    for make in (Causal, MultiTokenPrediction, lambda: FillInTheMiddle(rate=0.0)):
        candidate = answering(make())
        expected = causal_chain(candidate.model, ids("left"), ids("gap"))
        assert nats(candidate, kind, "left", "gap", "right") == near(expected)


# -- with signs --


@pytest.mark.parametrize("kind", ["infill", "cloze"])
@pytest.mark.parametrize("ends", [True, False])
def test_a_middle_is_written_behind_prefix_and_suffix_and_pays_for_its_end(kind, ends):
    candidate = answering(FillInTheMiddle())
    prompt = [PRE, *ids("left"), SUF, *ids("right"), MID]
    expected = causal_chain(candidate.model, prompt, [*ids("gap"), END])
    assert nats(candidate, kind, "left", "gap", "right", ends=ends) == near(expected)


def test_a_middle_is_asked_for_in_the_first_form():
    candidate = answering(FillInTheMiddle(spm_rate=1.0), isolated=False)
    prompt = [END, PRE, SUF, *ids("right"), MID, *ids("left")]
    expected = causal_chain(candidate.model, prompt, [*ids("gap"), END])
    assert nats(candidate, "infill", "left", "gap", "right") == near(expected)


@pytest.mark.parametrize("encoder_decoder", [False, True])
def test_a_span_is_written_behind_its_sentinel_and_pays_for_the_next_one(encoder_decoder):
    candidate = answering(SpanCorruption(), encoder_decoder=encoder_decoder)
    source = [*ids("left"), S0, *ids("right"), S1, END]
    expected = prefix_chain(candidate.model, source, [S0], [*ids("gap"), S1])
    assert nats(candidate, "infill", "left", "gap", "right", ends=False) == near(expected)
    # The end of a document is always removed, so that no source has it.
    assert nats(candidate, "infill", "left", "gap", "right", ends=True) == near(expected)


def test_a_span_at_the_end_of_a_text_pays_for_the_end():
    candidate = answering(SpanCorruption())
    expected = prefix_chain(candidate.model, [*ids("left"), S0, END], [S0], [*ids("rest"), END])
    assert nats(candidate, "infill", "left", "rest", "") == near(expected)
    assert nats(candidate, "continue", "left", "rest", ends=False) == near(expected)
    expected = prefix_chain(candidate.model, [*ids("left"), S0, END], [S0], [*ids("rest"), END, END])
    assert nats(candidate, "continue", "left", "rest") == near(expected)


def test_where_spans_are_rolled_the_source_ends_as_the_document_does():
    candidate = answering(SpanCorruption(random_roll=True, mode_token=MODE))
    source = [SPECIAL[MODE], *ids("left"), S0, *ids("right"), END, END]
    expected = prefix_chain(candidate.model, source, [S0], [*ids("gap"), END])
    assert nats(candidate, "infill", "left", "gap", "right") == near(expected)


@pytest.mark.parametrize("encoder_decoder", [False, True])
@pytest.mark.parametrize("mode", [None, MODE])
def test_a_prefix_is_read_in_both_directions(mode, encoder_decoder):
    candidate = answering(PrefixLM(mode_token=mode), encoder_decoder=encoder_decoder)
    source = [*([SPECIAL[mode]] if mode else []), *ids("left")]
    expected = prefix_chain(candidate.model, source, [], [*ids("gap"), END])
    assert nats(candidate, "continue", "left", "gap") == near(expected)
    expected = prefix_chain(candidate.model, source, [], ids("gap"))
    assert nats(candidate, "infill", "left", "gap", "right") == near(expected)


# -- in other orders --


def test_queries_continue_from_left_to_right():
    candidate = answering(PermutationLM())
    expected = queried_in(candidate.model, [*ids("lefttext"), END], [4, 5, 6, 7, 8])
    assert nats(candidate, "continue", "left", "text") == near(expected)


def test_queries_fill_a_gap_from_left_to_right_knowing_both_sides():
    candidate = answering(PermutationLM())
    expected = queried_in(candidate.model, [*ids("leftgapright"), END], [4, 5, 6])
    assert nats(candidate, "infill", "left", "gap", "right") == near(expected)


def estimated(candidate, kind, *texts, **ends):
    """The mean of the draws, and its standard error."""
    scores = candidate.score([TextQuestion(kind, *texts, **ends)])
    return float(scores.nats[0]), float(np.sqrt(scores.variances[0]))


def agree(estimate, expected):
    """Within four standard errors, which are small; strata make them smaller than is said."""
    mean, error = estimate
    assert error < 0.02 * expected, "too few draws to tell"
    return abs(mean - expected) < 4 * error + 1e-5 * expected


@pytest.mark.parametrize("text", ["xyz", "wxyz"])
def test_a_code_in_a_random_order_is_the_mean_over_all_orders_of_queries(text):
    candidate = answering(PermutationLM(), draws=800)
    places = range(1, 1 + len(text))
    expected = mean_over_orders(lambda order: queried_in(candidate.model, [END, *ids(text)], order), places)
    assert agree(estimated(candidate, "any_order", "", text, ends=False), expected)


@pytest.mark.parametrize("make", [MaskedDiffusion, lambda: MaskedDiffusion(subs=False), MaskedLanguageModel])
@pytest.mark.parametrize("texts", [("", "xyz", ""), ("ab", "vwxyz", ""), ("ab", "xyz", "cd")])
def test_hidden_tokens_cost_the_mean_over_all_orders_of_revealing_them(make, texts):
    candidate = answering(make(), draws=480)
    before, target, after = map(ids, texts)
    before = before or [END]
    places = range(len(before), len(before) + len(target))
    excluded = candidate.objective.excluded
    expected = mean_over_orders(
        lambda order: unmasked_in(candidate.model, [*before, *target, *after], order, excluded), places
    )
    kind = "infill" if after else "continue" if texts[0] else "any_order"
    assert agree(estimated(candidate, kind, *texts, ends=False), expected)


def drawn_rows(candidate, question, count):
    """[count] the loss of every row that is drawn, under what of it is drawn: which are targets, and in what order."""
    objective, found = candidate.objective, {}
    for place in range(count):
        row = objective.score(question, Draw(0, 0, place, (place, count), evaluation=True))
        order = () if row.order is None else tuple(row.order.tolist())
        made = batch(objective, [row])
        with torch.no_grad():
            found.setdefault((tuple(row.targets.tolist()), order), []).append(
                float(objective.nll(candidate.model, made).weighted.sum())
            )
    return found


@pytest.mark.parametrize("make", [MaskedDiffusion, MaskedLanguageModel])
def test_all_sets_of_hidden_tokens_are_drawn_and_their_mean_is_that_over_all_orders(make):
    candidate, text = answering(make()), "abwxyzcd"
    question = Question("infill", *(np.array(ids(part)) for part in ("ab", "wxyz", "cd")))
    rows = drawn_rows(candidate, question, 480)
    assert len(rows) == 2**4 - 1
    by_size = {size: [] for size in range(1, 5)}
    for (targets, _), losses in rows.items():
        assert np.ptp(losses) == 0
        by_size[sum(one >= 0 for one in targets)].append(losses)
    # Each number is drawn equally often, and all sets of a number have the same chance.
    assert [sum(map(len, losses)) for losses in by_size.values()] == [120] * 4
    enumerated = np.mean([np.mean([loss[0] for loss in losses]) for losses in by_size.values()])
    excluded = candidate.objective.excluded
    expected = mean_over_orders(lambda order: unmasked_in(candidate.model, ids(text), order, excluded), range(2, 6))
    assert enumerated == near(expected)


def test_all_orders_of_queries_are_drawn_and_their_mean_is_that_over_all_orders():
    candidate = answering(PermutationLM())
    question = Question("any_order", np.array([END]), np.array(ids("xyz")), np.array([], dtype=np.int64))
    rows = drawn_rows(candidate, question, 120)
    assert len(rows) == 6
    expected = mean_over_orders(lambda order: queried_in(candidate.model, [END, *ids("xyz")], order), [1, 2, 3])
    assert np.mean([losses[0] for losses in rows.values()]) == near(expected)


def test_a_single_hidden_token_is_no_estimate():
    candidate = answering(MaskedLanguageModel())
    expected = unmasked_in(candidate.model, ids("abc"), [1], None)
    mean, error = estimated(candidate, "cloze", "a", "b", "c", ends=False)
    assert mean == near(expected)
    assert error == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", ["continue", "any_order", "infill", "cloze"])
def test_blocks_of_one_token_are_a_chain_and_exact(kind):
    candidate = answering(BlockDiffusion(block_size=1))
    expected = blocks_in(candidate.objective, candidate.model, ids("abcdef"), 3, candidate.objective.excluded)
    behind = "right" if kind in ("infill", "cloze") else ""
    assert estimated(candidate, kind, "abc", "def", behind, ends=False) == (near(expected), 0.0)


@pytest.mark.parametrize("known", [1, 2, 3, 4])
def test_blocks_are_counted_from_the_beginning_of_the_text(known):
    candidate = answering(BlockDiffusion(block_size=3), draws=480)
    text = "abcdefgh"
    expected = blocks_in(candidate.objective, candidate.model, ids(text), known, candidate.objective.excluded)
    assert agree(estimated(candidate, "continue", text[:known], text[known:], ends=False), expected)


def test_blocks_see_nothing_of_what_stands_behind_a_gap():
    candidate = answering(BlockDiffusion(block_size=3))
    like = TextQuestion("continue", "abcd", "efgh")  # the same draws for all
    one, other = (nats(candidate, "infill", "abcd", "efgh", behind, like=like) for behind in ("right", "wrong"))
    assert one == other == nats(candidate, "continue", "abcd", "efgh", ends=False, like=like)


# -- who answers for a mixture --


def test_a_mixture_lets_that_component_answer_which_it_would_ask():
    fim, mlm, causal = FillInTheMiddle(), MaskedLanguageModel(), Causal()
    mixture = Mixture({"causal": causal, "mlm": mlm, "fim": fim}, {"causal": 1, "mlm": 3, "fim": 2})
    chosen = {kind: mixture.respondent(kind) for kind in KINDS}
    # The heaviest that continues; the heaviest that infills; and in any order the only one that can.
    assert chosen == {"continue": fim, "infill": mlm, "cloze": mlm, "any_order": mlm}


def test_a_mixture_can_be_told_which_component_answers():
    fim, mlm = FillInTheMiddle(), MaskedLanguageModel()
    mixture = Mixture({"mlm": mlm, "fim": fim}, answers={"infill": "fim"})
    assert [mixture.respondent(kind) for kind in KINDS] == [fim, fim, fim, mlm]


def test_what_only_writes_on_fills_gaps_where_nothing_else_can():
    causal, detection = Causal(), ReplacedTokenDetection()
    mixture = Mixture({"detection": detection, "causal": causal})
    assert [mixture.respondent(kind) for kind in KINDS] == [causal, causal, causal, mixture]
    assert "any_order" not in mixture.ways


def test_a_mixture_of_mixtures_is_answered_by_its_innermost_component():
    span, prefix = SpanCorruption(mode_token=MODE), PrefixLM()
    inner = Mixture({"span": span, "diffusion": MaskedDiffusion()}, {"span": 2, "diffusion": 1})
    mixture = Mixture({"inner": inner, "prefix": prefix}, answers={"continue": "prefix", "infill": "inner"})
    assert mixture.respondent("continue") is prefix
    assert mixture.respondent("infill") is span
    assert isinstance(mixture.respondent("any_order"), MaskedDiffusion)


def test_the_rows_of_a_component_cost_what_they_would_without_the_mixture():
    alone = answering(MaskedLanguageModel())
    mixed = answering(Mixture({"causal": Causal(), "mlm": MaskedLanguageModel()}, answers={"infill": "mlm"}))
    assert nats(mixed, "infill", "left", "gap", "right") == nats(alone, "infill", "left", "gap", "right")
    expected = causal_chain(mixed.model, ids("left"), [*ids("rest"), END])
    assert nats(mixed, "continue", "left", "rest") == near(expected)


def test_an_objective_without_a_likelihood_answers_nothing():
    candidate = answering(Causal())
    candidate.objective = ReplacedTokenDetection()
    assert all(candidate.way(kind) is None for kind in KINDS)
    with pytest.raises(ValueError, match="answers no question of the kind any_order"):
        candidate.score([TextQuestion("any_order", "", "text")])


# -- how they are run --

TEXT = "the quick brown fox jumps over the lazy dog and runs away from it"
QUESTIONS = [
    TextQuestion("continue", "", TEXT),
    TextQuestion("continue", "one", " two", ends=False),
    TextQuestion("infill", TEXT[:9], TEXT[9:30], TEXT[30:]),
    TextQuestion("infill", "left", "gap", "right"),
    TextQuestion("cloze", "left", "w", "right"),
    TextQuestion("any_order", "", "short"),
    TextQuestion("any_order", "", TEXT),
]


def asked_of(candidate):
    return [one for one in QUESTIONS if candidate.way(one.kind)]


@pytest.mark.parametrize("name", MAKE)
def test_every_question_is_answered_and_the_same_twice(name):
    candidate = answering(MAKE[name](), draws=3)
    questions = asked_of(candidate)
    first, second = (candidate.score(questions) for _ in range(2))
    assert len(questions) >= 5
    assert np.isfinite(first.nats).all()
    assert (first.nats > 0).all()
    np.testing.assert_array_equal(first.nats, second.nats)
    np.testing.assert_array_equal(first.variances, second.variances)


@pytest.mark.parametrize("name", MAKE)
def test_the_size_of_a_batch_changes_no_answer(name):
    candidate = answering(MAKE[name](), draws=3)
    questions = asked_of(candidate)
    answers = []
    for size in (1, 3, 16):
        candidate.batch_size = size
        answers.append(candidate.score(questions).nats)
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-6)
    np.testing.assert_allclose(answers[2], answers[0], rtol=1e-6)


def by_two(name, questions):
    """The answers of two that share the work, each in a thread of its own."""
    barrier, held, scores = Barrier(2), [None, None], [None, None]

    def gather(process, value):
        held[process] = value
        barrier.wait(timeout=60)
        everything = list(held)
        barrier.wait(timeout=60)
        return everything

    def answer(process):
        options = {"batch_size": 2, "process": process, "processes": 2, "gather": partial(gather, process)}
        scores[process] = answering(MAKE[name](), draws=3, **options).score(questions)

    threads = [Thread(target=answer, args=(process,)) for process in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return scores


@pytest.mark.parametrize("name", ["fim", "span_corruption", "block_diffusion", "permutation", "mixture"])
def test_two_processes_answer_as_one_to_the_last_bit(name):
    alone = answering(MAKE[name](), draws=3, batch_size=2)
    expected = alone.score(asked_of(alone))
    for scores in by_two(name, asked_of(alone)):
        np.testing.assert_array_equal(scores.nats, expected.nats)
        np.testing.assert_array_equal(scores.variances, expected.variances)


# -- what rows take --

SIZES = st.integers(0, 12)


def question_of(kind, before, target, after):
    behind = np.append(LETTERS[:after], END) if kind in ("infill", "cloze") else LETTERS[:0]
    return Question(kind, LETTERS[: 1 + before], LETTERS[: 1 + target], behind)


@pytest.mark.parametrize("name", MAKE)
@settings(max_examples=30, deadline=None)
@given(kind=st.sampled_from(KINDS), before=SIZES, target=SIZES, after=SIZES, more=st.integers(0, 2))
def test_no_row_is_longer_than_is_said_and_a_longer_question_takes_no_less(name, kind, before, target, after, more):
    objective = answering(MAKE[name]()).objective.respondent(kind)
    if kind not in objective.ways:
        return
    sizes = [before, target, after]
    question = question_of(kind, *sizes)
    length = objective.score_length(question)
    row = objective.score(question, Draw(0, 0, 0, (0, 4), evaluation=True))
    assert len(row) <= length
    assert row.positions is None or row.positions.max() < length
    sizes[more] += 3
    assert objective.score_length(question_of(kind, *sizes)) >= length


@pytest.mark.parametrize("name", ["block_diffusion", "block_diffusion, blocks of one", "permutation"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_row_reads_text_at_positions_that_training_never_had(name, kind):
    objective = answering(MAKE[name]()).objective
    longest = objective.raw_length(64)
    for before in range(64):
        for after in (0, 5, 20):
            question = Question(kind, np.resize(LETTERS, 1 + before), LETTERS[:1], np.resize(LETTERS, after))
            if objective.score_length(question) <= 64:
                row = objective.score(question, Draw(0, 0, 0, (0, 1), evaluation=True))
                assert row.positions.max() < longest


# -- what is said of it --

SIGNS = {"exact": "exact", "bound": "≤", "pseudo": "~"}
LETTER = {"left": "L", "right": "R", "length": "N"}


def said(objective, kind):
    way = objective.respondent(kind).ways.get(kind)
    return "" if way is None else f"{SIGNS[way.likelihood]}, {' '.join(LETTER[one] for one in way.given)}"


def test_the_page_about_objectives_says_how_each_answers():
    page = Path(__file__).parents[2] / "docs" / "objectives.md"
    table = (
        page.read_text(encoding="utf-8").split("\n## Questions\n")[1].split("|---|---|---|---|\n")[1].split("\n\n")[0]
    )
    written = {}
    for line in table.splitlines():
        names, *ways = (cell.strip() for cell in line.strip("|").split("|"))
        if "blocks of one" not in names and "mixture" not in names:
            written |= dict.fromkeys(re.findall(r"`(\w+)`", names), ways)
    made = {name: composed(name)() for name in OBJECTIVES if name != "mixture"}
    for name, objective in made.items():
        assert said(objective, "infill") == said(objective, "cloze")
        assert written[name] == [said(objective, kind) for kind in ("continue", "infill", "any_order")], name
    assert written.keys() == made.keys()
