"""An explanation says what is in the batch that the model would get."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ntp.data.collate import collate
from ntp.data.example import IGNORE, Example
from ntp.data.special_tokens import END_OF_TEXT
from ntp.explain.explaining import visibility
from ntp.models.attention import make_pattern
from ntp.objectives.causal import Causal
from tests.explain.conftest import TWO_DOCUMENTS, Chosen, Masked, TwoCopies


def reads(row):
    return [one.reads.plain for one in row.used]


def predicts(row):
    return [one.predicts.plain if one.predicts else None for one in row.used]


def test_targets_stand_at_the_positions_that_must_predict_them(explained):
    (row,) = explained(Masked(), "abcde").rows
    assert reads(row) == ["⟨mask⟩", "b", "c", "⟨mask⟩", "e", "⟨end⟩"]
    assert predicts(row) == ["a", None, None, "d", None, None]


def test_targets_of_causal_prediction_are_the_next_tokens(explained):
    (row,) = explained(Causal(), "abc").rows
    assert (reads(row), predicts(row)) == (["a", "b", "c"], ["b", "c", "⟨end⟩"])


@pytest.mark.parametrize("documents", ["isolate", "concatenate"])
def test_documents_are_told_apart_in_either_regime(explained, documents):
    (row,) = explained(Masked(), documents=documents).rows
    assert [(one.text, one.ends) for one in row.documents] == [
        (text, True) for text in TWO_DOCUMENTS.split(END_OF_TEXT)
    ]
    assert len({one.segment for one in row.used}) == (2 if documents == "isolate" else 1)


def test_padding_is_known_as_such_whatever_its_id(explained):
    (row,) = explained(Masked(), "ab", length=8).rows
    assert [one.is_padding for one in row.positions] == [False] * 3 + [True] * 5
    assert not row.sees[:3, 3:].any()
    assert not row.sees[3:, :3].any()
    assert (row.counts.positions, row.counts.padding) == (3, 5)


@given(seed=st.integers(0, 50), text=st.text("ab é\n", min_size=1, max_size=60), ahead=st.booleans())
def test_who_sees_whom_is_the_rule(explained, seed, text, ahead):
    (row,) = explained(Causal() if ahead else TwoCopies(), text, length=32, seed=seed, sampled=1).rows
    for i in row.positions:
        for j in row.positions:
            if not (i.is_padding or j.is_padding):
                below = j.order == i.order or (j.order < i.order and not j.private)
                assert row.sees[i.index, j.index] == (i.segment == j.segment and below)
    assert [one.sees for one in row.positions] == row.sees.sum(axis=1).tolist()


@pytest.mark.parametrize("documents", ["isolate", "concatenate"])
@pytest.mark.parametrize("objective", [Causal, Masked, TwoCopies])
def test_who_sees_whom_is_what_the_kernel_is_told(explained, tokenizer, objective, documents):
    made = objective()
    (row,) = explained(made, TWO_DOCUMENTS * 3, length=32, documents=documents, sampled=1).rows
    example = Example(
        tokens=np.zeros(32, dtype=np.int64),
        targets=np.full(32, IGNORE),
        order=np.array([one.order for one in row.positions]),
        private=np.array([one.private for one in row.positions]),
        segments=np.array([one.segment for one in row.positions]),
    )
    batch = collate([example], 32, made.attention, tokenizer.token_bytes, tokenizer.padding)
    pattern = make_pattern(
        made.attention,
        32,
        torch.device("cpu"),
        order=batch.order,
        segments=batch.segments,
        private=batch.private,
    )
    told = pattern.mask[0, 0].numpy() if pattern.mask is not None else np.tri(32, dtype=bool)
    if pattern.mask is None and not pattern.causal:
        told = np.ones((32, 32), dtype=bool)
    np.testing.assert_array_equal(row.sees, told)
    np.testing.assert_array_equal(visibility(batch, 32), told)


def test_weights_ranks_private_copies_and_places_are_those_of_the_example(explained):
    (row,) = explained(TwoCopies(), "abc", length=8).rows
    clean, noisy = row.used[:4], row.used[4:]
    assert [one.order for one in clean] == [1, 3, 5, 7]
    assert [one.order for one in noisy] == [0, 2, 4, 6]
    assert not any(one.private for one in clean)
    assert all(one.private for one in noisy)
    assert [one.place for one in row.used] == [0, 1, 2, 3, 0, 1, 2, 3]
    assert {one.weight for one in noisy if one.predicts} == {2.5}
    assert row.ranked
    assert row.weighted
    assert row.placed


def test_a_plain_row_has_no_ranks_weights_or_places_to_speak_of(explained):
    (row,) = explained(Causal()).rows
    assert (row.ranked, row.weighted, row.placed) == (False, False, False)


def test_arrays_of_the_objective_are_named_and_those_of_ids_are_read(explained):
    (row,) = explained(TwoCopies(), "abc", length=8).rows
    noise, further = row.arrays
    assert (noise.name, noise.shape, noise.dtype, noise.values) == ("noise", (8,), "float32", "from 0 to 1")
    assert (further.name, further.shape) == ("further_targets", (8,))
    assert [one.further_tokens["further_targets"] for one in row.used[4:]] == [None] * 4
    assert [one.further_tokens["further_targets"].plain for one in row.used[:4]] == ["a", "b", "c", "⟨end⟩"]
    assert row.used[7].further["noise"] == "1"


def test_counts_are_those_of_the_batch(explained):
    explanation = explained(TwoCopies(), "abcdé", length=32, sampled=1)
    (row,) = explanation.rows
    targets = sum(one.predicts is not None for one in row.positions)
    counts = row.counts
    assert (counts.positions, counts.targets, counts.divisor) == (14, targets, 7)
    assert counts.weights == 2.5 * targets
    assert (counts.corpus_tokens, counts.read_bytes) == (7, 6)
    assert counts.special["mask"] == targets
    assert explanation.sample == counts


def test_the_sample_is_over_as_many_draws_as_asked_for_and_near_the_true_rate(explained):
    text, rows = "x" * 63, 400
    explanation = explained(TwoCopies(), text, length=128, sampled=rows)
    rate = explanation.sample.targets / (rows * 64)
    assert explanation.sample.rows == rows
    assert rate == pytest.approx(0.5, abs=5 * 0.5 / (rows * 64) ** 0.5)
    assert explanation.sample_of == "draws"


def test_every_component_of_a_mixture_explains_a_row_even_a_rare_one(explained):
    explanation = explained(Chosen(), seed=2, sampled=2)
    assert [row.component.name for row in explanation.rows] == ["hidden", "copied"]
    assert explanation.rows[0].component.sentence.startswith("Every third token")
    assert explanation.rows[0].sample.rows == 0  # it came after the sample
    assert sum(row.sample.rows for row in explanation.rows) == explanation.sample.rows == 2


def test_what_is_shown_of_a_component_is_what_it_made(explained):
    hidden, copied = explained(Chosen()).rows
    assert len(hidden.used) * 2 == len(copied.used)
    assert any(one.private for one in copied.used)
    assert not any(one.private for one in hidden.used)


def test_an_explanation_is_a_function_of_the_seed(explained):
    first, second, other = (explained(TwoCopies(), seed=seed) for seed in (0, 0, 1))
    assert reads(first.rows[0]) == reads(second.rows[0]) != reads(other.rows[0])
