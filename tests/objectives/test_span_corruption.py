from itertools import combinations
from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntp.config.errors import ConfigError
from ntp.data.collate import collate
from ntp.data.example import IGNORE
from ntp.data.special_tokens import MODES, sentinel
from ntp.data.tokenizers import Bytes
from ntp.objectives import span_corruption
from ntp.objectives.base import TargetNll
from ntp.objectives.span_corruption import SpanCorruption, noise_mask, noise_shape, t5_lengths
from tests.objectives.texts import BYTES, DOCUMENTS, bound, distance, draw, off, row_of, rows, seen

END = BYTES.end_of_text
S0, S1, S2 = (BYTES.special_tokens[sentinel(index)] for index in range(3))
REGULAR = BYTES.special_tokens[MODES[0]]
TEN = list(range(201, 211))
WORKED = np.array([0, 0, 1, 1, 0, 0, 0, 1, 1, 1], dtype=bool)
REGIMES = st.sampled_from(["concatenate", "isolate"])
# (density, mean span) of T5 and of UL2's denoisers.
SHAPES = [(0.15, 3.0), (0.15, 8.0), (0.5, 3.0), (0.5, 8.0), (0.15, 64.0), (0.5, 64.0)]
ANY = st.builds(
    SpanCorruption,
    density=st.sampled_from([0.01, 0.15, 0.5, 0.9]),
    mean_span=st.sampled_from([1.0, 3.0, 64.0]),
    random_roll=st.booleans(),
    mode_token=st.sampled_from([None, MODES[1]]),
)


@pytest.fixture
def worked(monkeypatch):
    """The mask of the worked example, for texts of ten tokens."""
    monkeypatch.setattr(span_corruption, "noise_mask", lambda *arguments: WORKED)


def generator(seed=0):
    return np.random.default_rng(seed)


def test_ten_tokens_of_which_five_are_removed_make_the_row_of_the_definition(worked):
    example = bound(SpanCorruption()).corrupt(row_of(TEN), draw())
    inputs = [201, 202, S0, 205, 206, 207, S1, END]
    answer = [S0, 203, 204, S1, 208, 209, 210, END]
    assert example.tokens.tolist() == inputs + answer[:-1]
    assert example.targets.tolist() == [IGNORE] * 7 + answer
    assert example.order.tolist() == [0] * 8 + [1, 2, 3, 4, 5, 6, 7]
    assert example.target_bytes.tolist() == [0] * 7 + [0, 1, 1, 0, 1, 1, 1, 0]
    assert example.read_bytes == 10


def test_the_end_of_the_inputs_predicts_the_first_sentinel_and_no_trained_position_sees_its_target(worked):
    example = bound(SpanCorruption()).corrupt(row_of(TEN), draw())
    assert example.tokens[7] == END
    assert (example.order[7], example.targets[7]) == (0, S0)
    trained = np.flatnonzero(example.targets != IGNORE)[:-1]
    assert (example.tokens[trained + 1] == example.targets[trained]).all()
    assert not seen(example)[trained, trained + 1].any()
    assert seen(example)[:8, :8].all()


def test_a_mode_token_stands_in_front_and_is_read_only(worked):
    example = bound(SpanCorruption(mode_token=MODES[0])).corrupt(row_of(TEN), draw())
    assert example.tokens[:3].tolist() == [REGULAR, 201, 202]
    assert (example.order[0], example.targets[0]) == (0, IGNORE)


def test_isolated_documents_have_their_own_sentinels_and_ends(worked):
    row = row_of(TEN + TEN, segments=[0] * 10 + [1] * 10)
    example = bound(SpanCorruption()).corrupt(row, draw())
    assert example.segments.tolist() == [0] * 15 + [1] * 15
    assert example.tokens[:15].tolist() == example.tokens[15:].tolist()
    assert example.targets[:15].tolist() == example.targets[15:].tolist()
    assert not seen(example)[:15, 15:].any()
    assert not seen(example)[15:, :15].any()


def test_a_concatenated_row_is_one_text_and_its_ends_may_be_removed():
    objective, row = bound(SpanCorruption(0.5, 2.0)), row_of([201, 202, END, 203, 204, END, 205, 206])
    examples = [objective.corrupt(row, draw(number)) for number in range(50)]
    sources = [one.tokens[one.order == 0][:-1].tolist() for one in examples]
    assert {source.count(END) for source in sources} == {0, 1, 2}
    assert all((one.segments == 0).all() for one in examples)


@pytest.mark.parametrize(
    ("density", "mean_span", "inputs", "raw", "targets", "spans"),
    [
        (0.15, 3, 512, 568, 114, 28),
        (0.15, 3, 1024, 1137, 229, 57),
        (0.15, 8, 512, 588, 100, 11),
        (0.15, 8, 1024, 1178, 200, 22),
        (0.5, 3, 512, 766, 512, 128),
        (0.5, 3, 1024, 1534, 1024, 256),
        (0.5, 8, 512, 908, 512, 57),
        (0.5, 8, 1024, 1818, 1024, 114),
        (0.15, 64, 512, 600, 92, 1),
        (0.15, 64, 1024, 1200, 184, 3),
        (0.5, 64, 512, 1006, 512, 8),
        (0.5, 64, 1024, 2014, 1024, 16),
    ],
)
def test_lengths_are_those_that_the_helper_of_t5_gives(density, mean_span, inputs, raw, targets, spans):
    assert t5_lengths(inputs, density, mean_span) == (raw, targets)
    assert noise_shape(raw, density, mean_span)[1] == spans


@pytest.mark.parametrize(
    ("length", "expected"),
    [(2, (1, 1)), (3, (1, 1)), (10, (2, 1)), (190, (28, 9)), (350, (52, 17)), (568, (85, 28))],
)
def test_counts_round_halves_to_even_in_double_precision(length, expected):
    # 0.15 * 190 is 28.5 in double precision and 28.500002 in single precision.
    assert noise_shape(length, 0.15, 3.0) == expected


def test_there_are_no_more_spans_than_tokens_that_are_kept():
    assert noise_shape(10, 0.9, 1.0) == (9, 1)
    assert noise_shape(10, 0.6, 1.0) == (6, 4)


@settings(max_examples=200, deadline=None)
@given(
    length=st.integers(2, 300),
    density=st.floats(0.001, 0.999),
    mean_span=st.floats(1, 100),
    seed=st.integers(0, 1000),
)
def test_the_first_token_is_kept_and_the_last_removed_and_the_counts_are_kept(length, density, mean_span, seed):
    mask = noise_mask(length, density, mean_span, generator(seed))
    removed, spans = noise_shape(length, density, mean_span)
    assert len(mask) == length
    assert (mask[0], mask[-1]) == (False, True)
    assert mask.sum() == removed
    assert (np.diff(mask.astype(int)) == 1).sum() == spans


def test_every_way_of_placing_the_spans_is_equally_likely():
    # Ten tokens, four removed in two spans: 3 ways of cutting the removed times 5 of cutting the others.
    rng = generator()
    masks = [tuple(noise_mask(10, 0.4, 2.0, rng).tolist()) for _ in range(6000)]
    every = set()
    for first_noise, first_kept in ((noise, kept) for noise in range(1, 4) for kept in range(1, 6)):
        parts = [first_kept, first_noise, 6 - first_kept, 4 - first_noise]
        every.add(tuple(np.repeat([False, True, False, True], parts).tolist()))
    assert len(every) == 15
    assert distance(masks, dict.fromkeys(every, 1 / 15)) < 5


def test_every_composition_is_equally_likely():
    rng = generator()
    drawn = [tuple(span_corruption._composition(8, 4, rng).tolist()) for _ in range(7000)]
    every = [tuple(np.diff([0, *cuts, 8]).tolist()) for cuts in combinations(range(1, 8), 3)]
    assert len(every) == comb(7, 3)
    assert distance(drawn, dict.fromkeys(every, 1 / len(every))) < 5


@pytest.mark.parametrize(("density", "mean_span"), SHAPES)
@pytest.mark.parametrize("roll", [False, True])
def test_the_raw_length_is_the_longest_that_fits(density, mean_span, roll):
    tokenizer = Bytes(sentinels=300).train()
    for length in (6, 7, 64, 190, 256, 350, 1000):
        objective = bound(SpanCorruption(density, mean_span, roll), length, tokenizer)
        raw = objective.raw_length(length)
        assert objective.positions(raw) <= length < objective.positions(raw + 1)
        example = objective.corrupt(row_of([300] * raw, tokenizer=tokenizer), draw())
        assert len(example) <= objective.positions(raw)
        if not roll:
            assert len(example) == objective.positions(raw)


@settings(deadline=None, max_examples=100)
@given(texts=DOCUMENTS, documents=REGIMES, objective=ANY)
def test_no_example_is_too_long_and_every_sentinel_is_in_its_place(texts, documents, objective):
    objective = bound(objective, length=24)
    for number, row in enumerate(rows(texts, objective, documents, length=24)):
        example = objective.corrupt(row, draw(number))
        assert len(example) <= 24
        assert (example.targets != IGNORE).sum() == 0 or example.targets[-1] == END
        for segment in range(int(example.segments.max(initial=-1)) + 1):
            own = example.segments == segment
            source = example.tokens[own & (example.order == 0)]
            answer = example.tokens[own & (example.order > 0)]
            in_source, in_answer = (part[np.isin(part, objective.sentinels)] for part in (source, answer))
            assert in_source.tolist() == in_answer.tolist() == objective.sentinels[: len(in_source)].tolist()
            assert source[-1] == END
            assert answer[0] == S0


@settings(deadline=None, max_examples=100)
@given(texts=DOCUMENTS, documents=REGIMES, objective=ANY)
def test_the_text_of_a_row_is_restored_as_far_as_it_fits(texts, documents, objective):
    objective = bound(objective, length=24)
    for number, row in enumerate(rows(texts, objective, documents, length=24)):
        example = objective.corrupt(row, draw(number))
        # What is passed over are pieces of one token.
        counts = np.bincount(row.segments)
        text = row.tokens[counts[row.segments] > 1]
        restored = objective.restore(example)
        assert restored.tolist() == text[: len(restored)].tolist()
        if documents == "concatenate" and len(row) > 1:
            assert len(restored) == len(row)
            assert example.read_bytes == row.bytes.sum()


@settings(deadline=None, max_examples=50)
@given(texts=DOCUMENTS, documents=REGIMES, objective=ANY)
def test_bytes_are_those_of_what_is_removed_and_of_what_is_used(texts, documents, objective):
    objective = bound(objective, length=24)
    for number, row in enumerate(rows(texts, objective, documents, length=24)):
        example = objective.corrupt(row, draw(number))
        assert example.target_bytes.sum() == BYTES.token_bytes[example.targets[example.targets != IGNORE]].sum()
        assert example.read_bytes == BYTES.token_bytes[objective.restore(example)].sum()


@pytest.mark.parametrize("segments", [[0], [0, 1], [0, 1, 2]])
def test_pieces_of_one_token_are_passed_over(segments):
    example = bound(SpanCorruption()).corrupt(row_of([201] * len(segments), segments), draw())
    assert (len(example), example.read_bytes) == (0, 0)
    batch = collate([example], 64, "prefix", BYTES.token_bytes, BYTES.padding)
    assert (batch.target_count, batch.read_tokens) == (0, 0)


def test_documents_that_do_not_fit_are_cut_at_the_end_of_the_row():
    objective = bound(SpanCorruption(), length=16)
    row = row_of([*range(201, 206), *range(211, 216), *range(221, 226)], segments=[0] * 5 + [1] * 5 + [2] * 5)
    example = objective.corrupt(row, draw())
    # Five tokens take eight positions.
    assert len(example) == 16
    assert objective.restore(example).tolist() == [*range(201, 206), *range(211, 216)]
    assert example.read_bytes == 10


def test_rolled_spans_may_be_anywhere():
    objective, row = bound(SpanCorruption(0.3, 64.0, random_roll=True)), row_of(TEN)
    removed = np.zeros(10)
    for number in range(2000):
        example = objective.corrupt(row, draw(number))
        answer = example.targets[example.targets > S2]
        assert len(answer) == 3
        removed[answer - 201] += 1
        assert objective.restore(example).tolist() == TEN
    # Each token is removed with probability 0.3; five standard deviations of 2000 draws.
    assert np.abs(removed / 2000 - 0.3).max() < 5 * np.sqrt(0.3 * 0.7 / 2000)


def test_a_single_span_that_is_not_rolled_is_always_the_end():
    objective, row = bound(SpanCorruption(0.3, 64.0)), row_of(TEN)
    ends = {tuple(objective.corrupt(row, draw(number)).targets[-4:].tolist()) for number in range(20)}
    assert ends == {(208, 209, 210, END)}


def test_another_row_has_other_spans():
    objective, row = bound(SpanCorruption()), row_of([201] * 50)
    orders = {tuple(objective.corrupt(row, draw(number)).tokens.tolist()) for number in range(20)}
    assert len(orders) > 15


@pytest.mark.parametrize(("roll", "length", "needed"), [(False, 513, 64), (True, 515, 65)])
def test_too_few_sentinels_are_refused_with_the_number_that_is_enough(roll, length, needed):
    # 192 of 384 tokens are removed, in 64 spans.
    assert SpanCorruption(0.5, 3.0, roll).raw_length(length) == 384
    with pytest.raises(ConfigError, match=rf"data\.tokenizer\.sentinels: .* has {needed - 1} .*; {needed} are enough"):
        bound(SpanCorruption(0.5, 3.0, roll), length, Bytes(sentinels=needed - 1).train())
    bound(SpanCorruption(0.5, 3.0, roll), length, Bytes(sentinels=needed).train())


def test_one_sentinel_is_too_few_to_infill():
    with pytest.raises(ConfigError, match="2 are enough"):
        bound(SpanCorruption(), 10, Bytes(sentinels=1).train())


@pytest.mark.parametrize(("mode", "shortest"), [(None, 5), (MODES[0], 6)])
def test_a_row_too_short_for_two_tokens_is_refused(mode, shortest):
    with pytest.raises(ConfigError, match=rf"data\.sequence_length: .* at least {shortest}"):
        bound(SpanCorruption(mode_token=mode), shortest - 1)
    assert bound(SpanCorruption(mode_token=mode), shortest).raw_length(shortest) == 2


def test_nats_of_removed_tokens_leave_sentinels_and_ends_out(worked):
    objective = bound(SpanCorruption())
    example = objective.corrupt(row_of(TEN), draw())
    batch = collate([example], 64, "prefix", BYTES.token_bytes, BYTES.padding)
    targets = torch.tensor(example.targets[example.targets != IGNORE])
    assert targets.tolist() == [S0, 203, 204, S1, 208, 209, 210, END]
    nll = TargetNll(torch.tensor([100.0, 1, 2, 100, 3, 4, 5, 100]), targets, batch.target_index, None)
    total, count = objective.metrics(batch, nll)["noise_nll"]
    assert (float(total), int(count)) == (15.0, 5)


@pytest.mark.parametrize(
    ("objective", "suffix", "prompt"),
    [
        (SpanCorruption(), None, [END, 201, S0, END]),
        (SpanCorruption(), [], [END, 201, S0, END]),
        (SpanCorruption(), [202, 203], [END, 201, S0, 202, 203, S1, END]),
        (SpanCorruption(random_roll=True), [202, 203], [END, 201, S0, 202, 203, END]),
        (SpanCorruption(mode_token=MODES[0]), [202], [REGULAR, END, 201, S0, 202, S1, END]),
    ],
)
def test_what_is_asked_stands_behind_the_first_sentinel(objective, suffix, prompt):
    query = bound(objective).query(np.array([END, 201]), None if suffix is None else np.array(suffix), 8)
    assert query.prompt.tolist() == prompt
    assert query.attention == "full"
    assert list(query.forced) == [S0]
    assert S1 in query.stop


def test_asking_it_to_infill_looks_like_training(monkeypatch):
    # A text of which the middle and the last token are removed.
    monkeypatch.setattr(span_corruption, "noise_mask", lambda *arguments: np.array([0, 0, 1, 1, 0, 1], dtype=bool))
    objective = bound(SpanCorruption())
    example = objective.corrupt(row_of(TEN[:6]), draw())
    query = objective.query(np.array(TEN[:2]), np.array(TEN[4:5]), 8)
    asked = [*query.prompt.tolist(), *query.forced]
    assert example.tokens[: len(asked)].tolist() == asked
    assert example.order[: len(asked)].tolist() == [0] * len(query.prompt) + [1]
    assert example.targets[len(asked) - 1] == TEN[2]
    assert example.targets[len(asked) + 1] in query.stop


@pytest.mark.parametrize("roll", [False, True])
def test_it_promises_what_it_removes(roll):
    objective, row = bound(SpanCorruption(0.3, 2.0, roll)), row_of([201] * 20)
    promises = [objective.promises(row, objective.corrupt(row, draw(number))) for number in range(500)]
    assert {one["removed"] for one in promises} == {(6.0, 6.0)}
    if not roll:
        assert {one["spans"] for one in promises} == {(3.0, 3.0)}
        observed, expected = np.array([one["kept before the first span"] for one in promises]).T
        assert off(observed, expected[0]) < 5
