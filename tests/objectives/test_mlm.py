import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ntp.config.errors import ConfigError
from ntp.data.datasets import BatchMaker
from ntp.data.example import IGNORE, Draw, Row
from ntp.data.special_tokens import MASK
from ntp.data.tokenizers import BytePair, Bytes, Tokenizer
from ntp.models.transformer import Transformer
from ntp.objectives.base import Context
from ntp.objectives.mlm import MaskedLanguageModel, draw_spans
from ntp.objectives.query import Unmask

BYTES = Bytes().train()
END = BYTES.end_of_text
TEXTS = [f"def f{number}(alpha, beta):\n    return alpha * {number} + naïve_beta\n\n" for number in range(60)]
BPE = BytePair(420).train(TEXTS)
UNITS = ("token", "whole_word", "span")


def made(tokenizer: Tokenizer = BYTES, **arguments) -> MaskedLanguageModel:
    objective = MaskedLanguageModel(**arguments)
    objective.bind(Context(64, tokenizer, width=8, make_stack=lambda layers, width: torch.nn.Identity()))
    return objective


def draw(row: int = 0, evaluation: bool = False) -> Draw:
    return Draw(seed=1, epoch=0, row=row, stratum=(0, 1), evaluation=evaluation)


def make_row(tokens, tokenizer: Tokenizer = BYTES, isolate: bool = False) -> Row:
    tokens = np.asarray(tokens, dtype=np.int64)
    ends = tokens == tokenizer.end_of_text
    segments = np.cumsum(ends) - ends if isolate else np.zeros_like(tokens)
    return Row(tokens, segments, tokenizer.token_bytes[tokens])


def random_row(length: int, tokenizer: Tokenizer = BYTES, seed: int = 0) -> Row:
    return make_row(np.random.default_rng(seed).choice(tokenizer.text_ids, length), tokenizer)


def documents(tokenizer: Tokenizer = BPE, isolate: bool = True) -> Row:
    parts = [part for text in TEXTS[:9] for part in (tokenizer.encode(text), [tokenizer.end_of_text])]
    return make_row(np.concatenate(parts), tokenizer, isolate)


def within(count: float, draws: float, probability: float, sigmas: float = 4.5) -> bool:
    """Whether a binomial count is where it should be."""
    return abs(count - draws * probability) <= sigmas * np.sqrt(draws * probability * (1 - probability)) + 1e-9


# -- what is selected --


@pytest.mark.parametrize("rate", [0.0, 0.15, 0.3, 1.0])
def test_each_token_is_selected_with_the_rate(rate):
    example = made(rate=rate, min_masked=0).corrupt(random_row(20_000), draw())
    assert within(np.count_nonzero(example.targets != IGNORE), 20_000, rate)


@pytest.mark.parametrize("length", [4, 8, 16, 32])
def test_at_least_one_selected_token_raises_the_rate_of_short_rows(length):
    objective, row, draws = made(), random_row(length), 3000
    counts = [np.count_nonzero(objective.corrupt(row, draw(one)).targets != IGNORE) for one in range(draws)]
    expected = 0.15 + 0.85**length / length
    assert expected == pytest.approx({4: 0.2805, 8: 0.184, 16: 0.155, 32: 0.150}[length], abs=5e-4)
    assert min(counts) == 1
    error = np.std(counts) / length / np.sqrt(draws)
    assert abs(np.mean(counts) / length - expected) < 4.5 * error


def test_the_token_that_is_selected_for_lack_of_others_is_any():
    objective, row = made(rate=0.0), random_row(5)
    chosen = [int(np.flatnonzero(objective.corrupt(row, draw(one)).targets != IGNORE)[0]) for one in range(2000)]
    assert all(within(count, 2000, 1 / 5) for count in np.bincount(chosen, minlength=5))


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("evaluation", [False, True])
def test_special_tokens_are_never_selected_nor_written_but_for_the_mask(unit, evaluation):
    objective, row = (
        made(BPE, rate=1.0, unit=unit, mask_fraction=0.3, random_fraction=0.7, evaluation_rate=1.0),
        documents(),
    )
    example = objective.corrupt(row, draw(evaluation=evaluation))
    is_text = np.isin(row.tokens, BPE.text_ids)
    np.testing.assert_array_equal(example.targets != IGNORE, is_text)
    assert set(example.tokens[is_text].tolist()) & BPE.special_ids <= {objective.mask_id}
    np.testing.assert_array_equal(example.tokens[~is_text], row.tokens[~is_text])


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("tokens", [[BYTES.end_of_text], [BYTES.end_of_text, BYTES.special_tokens[MASK]]])
def test_a_row_without_text_has_no_target(unit, tokens):
    example = made(unit=unit).corrupt(make_row(tokens, isolate=True), draw())
    assert (example.targets == IGNORE).all()
    assert example.tokens.tolist() == tokens


@pytest.mark.parametrize("unit", UNITS)
def test_a_row_of_one_token_asks_for_it(unit):
    example = made(unit=unit, mask_fraction=1.0, random_fraction=0.0).corrupt(make_row(BYTES.encode("a")), draw())
    assert example.tokens.tolist() == [BYTES.special_tokens[MASK]]
    assert example.targets.tolist() == BYTES.encode("a").tolist()


@pytest.mark.parametrize("isolate", [False, True])
def test_words_are_selected_whole_each_with_the_rate(isolate):
    objective, row = made(BPE, rate=0.3, unit="whole_word"), documents(isolate=isolate)
    is_text = np.isin(row.tokens, BPE.text_ids)
    word = np.cumsum(BPE.word_starts(row.tokens))
    assert len(np.unique(word)) < 0.9 * len(word)
    draws, selected_words = 200, 0
    for one in range(draws):
        selected = objective.corrupt(row, draw(one)).targets != IGNORE
        for number in np.unique(word[selected]):
            assert selected[word == number].all()
        selected_words += len(np.unique(word[selected]))
    assert within(selected_words, draws * len(np.unique(word[is_text])), 0.3)


def test_one_word_is_selected_for_lack_of_others():
    row = make_row(BPE.encode(" beta naïve"), BPE)
    word = np.cumsum(BPE.word_starts(row.tokens))
    assert word[-1] == 2
    for one in range(50):
        selected = made(BPE, rate=0.0, unit="whole_word").corrupt(row, draw(one)).targets != IGNORE
        assert len(np.unique(word[selected])) == 1
        assert selected.sum() == (word == word[selected][0]).sum()


# -- spans --


def weights(p: float = 0.2, longest: int = 10) -> np.ndarray:
    one = p * (1 - p) ** np.arange(longest)
    return one / one.sum()


def test_lengths_of_spans_are_geometric_without_those_above_the_longest():
    objective = made()
    assert weights() @ np.arange(1, 11) == pytest.approx(3.8, abs=0.01)
    rng, tokens, joined, draws = np.random.default_rng(0), np.ones(60, dtype=int), np.arange(60) > 0, 4000
    lengths = []
    for _ in range(draws):
        begin, end = next(draw_spans(rng, tokens, joined, 10, objective.length_cdf))
        lengths.append(end - begin)
    for length, weight in enumerate(weights(), start=1):
        assert within(lengths.count(length), draws, weight)


def test_spans_begin_anywhere_with_equal_probability():
    rng, tokens, joined, draws = np.random.default_rng(0), np.ones(12, dtype=int), np.arange(12) > 0, 3000
    cdf = np.array([0.0, 0.0, 1.0])
    begins = [next(draw_spans(rng, tokens, joined, 3, cdf))[0] for _ in range(draws)]
    assert all(within(begins.count(begin), draws, 1 / 10) for begin in range(10))


@given(
    tokens=st.lists(st.integers(1, 4), min_size=1, max_size=40),
    stops=st.sets(st.integers(1, 39)),
    budget=st.integers(0, 60),
    seed=st.integers(0, 99),
)
@settings(deadline=None)
def test_spans_do_not_overlap_or_cross_documents_and_meet_the_budget_with_their_last_word(tokens, stops, budget, seed):
    tokens = np.array(tokens)
    joined = np.array([index > 0 and index not in stops for index in range(len(tokens))])
    spans = list(draw_spans(np.random.default_rng(seed), tokens, joined, budget, np.cumsum(weights())))
    covered = [word for begin, end in spans for word in range(begin, end)]
    assert len(covered) == len(set(covered))
    assert all(joined[begin + 1 : end].all() and end > begin for begin, end in spans)
    total = int(tokens[covered].sum()) if covered else 0
    assert total >= min(budget, tokens.sum())
    if covered:
        assert total - tokens[covered[-1]] < budget


@pytest.mark.parametrize("isolate", [False, True])
def test_spans_hide_whole_words_of_the_rate_and_no_end_of_a_document(isolate):
    objective, row = made(BPE, rate=0.15, unit="span"), documents(isolate=isolate)
    word = np.cumsum(BPE.word_starts(row.tokens))
    candidates, longest = np.isin(row.tokens, BPE.text_ids).sum(), np.bincount(word).max()
    for one in range(30):
        selected = objective.corrupt(row, draw(one)).targets != IGNORE
        assert round(0.15 * candidates) <= selected.sum() < round(0.15 * candidates) + longest
        assert all(selected[word == number].all() for number in np.unique(word[selected]))


@pytest.mark.parametrize("isolate", [False, True])
def test_a_span_ends_with_its_document(isolate):
    # In documents of one word each no two neighbours share a span, so that their fates are independent.
    objective = made(rate=1.0, unit="span", mask_fraction=0.5, random_fraction=0.0)
    row = make_row([*BYTES.encode("a"), END] * 2000, isolate=isolate)
    masked = objective.corrupt(row, draw()).tokens[::2] == objective.mask_id
    assert within(np.count_nonzero(masked[1:] == masked[:-1]), 1999, 0.5)


def test_one_fate_is_drawn_for_a_span():
    # Lengths far above the budget make one span of each row.
    objective = made(rate=0.5, unit="span", mean_span=1e9, max_span=10**6)
    row, draws, fates = make_row(BYTES.encode("abcdefghij klmnopqrs" * 2)), 600, []
    for one in range(draws):
        example = objective.corrupt(row, draw(one))
        selected = example.targets != IGNORE
        kept, masked = example.tokens[selected] == row.tokens[selected], example.tokens[selected] == objective.mask_id
        assert masked.all() or not masked.any()
        fates.append("mask" if masked.all() else "keep" if kept.all() else "random")
    # A random span of 20 tokens is the original with no probability worth mentioning.
    assert within(fates.count("mask"), draws, 0.8)
    assert within(fates.count("random"), draws, 0.1)
    assert within(fates.count("keep"), draws, 0.1)


# -- what becomes of it --


@pytest.mark.parametrize("unit", ["token", "whole_word"])
@pytest.mark.parametrize("fractions", [(0.8, 0.1), (0.5, 0.5), (1.0, 0.0), (0.0, 0.0)])
def test_of_the_selected_tokens_most_are_masked_and_some_random(unit, fractions):
    row = random_row(20_000)
    objective = made(rate=0.5, unit=unit, mask_fraction=fractions[0], random_fraction=fractions[1])
    example = objective.corrupt(row, draw())
    selected = example.targets != IGNORE
    count, tokens, original = selected.sum(), example.tokens[selected], row.tokens[selected]
    # One random token in 256 is the original by chance.
    chance = 1 / len(BYTES.text_ids)
    masked, kept = tokens == objective.mask_id, tokens == original
    assert within(masked.sum(), count, fractions[0])
    assert within(kept.sum(), count, 1 - sum(fractions) + fractions[1] * chance)
    assert within((~masked & ~kept).sum(), count, fractions[1] * (1 - chance))
    np.testing.assert_array_equal(example.tokens[~selected], row.tokens[~selected])


def test_random_tokens_are_uniform_over_the_text():
    objective = made(rate=1.0, mask_fraction=0.0, random_fraction=1.0)
    tokens = objective.corrupt(random_row(50_000), draw()).tokens
    counts = np.bincount(tokens, minlength=BYTES.vocabulary_size)[BYTES.text_ids]
    assert counts.sum() == 50_000
    # 256 cells, hence five standard deviations.
    assert all(within(count, 50_000, 1 / 256, sigmas=5) for count in counts)


@pytest.mark.parametrize("unit", UNITS)
def test_targets_are_the_originals_with_their_bytes_and_give_the_text_back(unit):
    objective, row = made(BPE, unit=unit, rate=0.4), documents()
    example = objective.corrupt(row, draw())
    selected = example.targets != IGNORE
    np.testing.assert_array_equal(example.targets[selected], row.tokens[selected])
    np.testing.assert_array_equal(example.target_bytes, np.where(selected, row.bytes, 0))
    np.testing.assert_array_equal(objective.restore(example), row.tokens)
    np.testing.assert_array_equal(example.segments, row.segments)


@pytest.mark.parametrize("unit", UNITS)
def test_the_same_draw_gives_the_same_example_and_another_another(unit):
    row = documents()
    first, again, other = (made(BPE, unit=unit).corrupt(row, draw(one)) for one in (0, 0, 1))
    np.testing.assert_array_equal(first.tokens, again.tokens)
    np.testing.assert_array_equal(first.targets, again.targets)
    assert (first.targets != other.targets).any()


def test_rows_that_measure_are_all_masked_at_their_own_rate_whatever_the_arguments():
    row = random_row(20_000)
    classical = made().corrupt(row, draw(evaluation=True))
    selected = classical.targets != IGNORE
    assert (classical.tokens[selected] == BYTES.special_tokens[MASK]).all()
    assert within(selected.sum(), 20_000, 0.15)
    for arguments in ({"rate": 0.6}, {"unit": "span"}, {"unit": "whole_word", "mask_fraction": 0.0}, {"min_masked": 0}):
        other = made(**arguments).corrupt(row, draw(evaluation=True))
        np.testing.assert_array_equal(other.tokens, classical.tokens)
        np.testing.assert_array_equal(other.targets, classical.targets)


# -- the loss --


@pytest.mark.parametrize("lengths", [(24, 24, 24), (24, 9, 1)])
def test_the_loss_is_that_of_berts_own_implementation(lengths):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=BYTES.vocabulary_size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=24,
        initializer_range=0.3,
    )
    bert = transformers.BertForMaskedLM(config).eval()

    class Scorer:
        """Our interface, their parts."""

        def __call__(self, tokens, /, *, attention, order, segments, private, positions):
            assert attention == "full"
            assert order is private is positions is None
            visible = None if segments is None else (segments >= 0).long()
            return bert.cls.predictions.transform(bert.bert(tokens, attention_mask=visible).last_hidden_state)

        def token_nll(self, hidden, targets, /, *, excluded=None):
            return F.cross_entropy(bert.cls.predictions.decoder(hidden), targets, reduction="none")

    objective = made(rate=0.3)
    rows = [(random_row(length, seed=length), draw(number)) for number, length in enumerate(lengths)]
    batch = BatchMaker(objective, 24, BYTES.token_bytes, BYTES.padding)(rows)
    terms = objective.loss(Scorer(), batch)
    visible = None if batch.segments is None else (batch.segments >= 0).long()
    theirs = bert(input_ids=batch.tokens, attention_mask=visible, labels=batch.targets).loss
    torch.testing.assert_close(terms.sum / terms.count, theirs)
    assert terms.count == (batch.targets != IGNORE).sum()


def test_the_metric_of_masked_tokens_leaves_the_others_out():
    torch.manual_seed(0)
    model = Transformer(BYTES.vocabulary_size, width=16, layers=1, heads=2, init_std=0.3)
    objective = made(rate=0.5, mask_fraction=0.5)
    batch = BatchMaker(objective, 32, BYTES.token_bytes, BYTES.padding)([(random_row(32), draw())])
    terms = objective.loss(model, batch)
    total, count = terms.metrics["masked_nll"]
    masked = (batch.tokens == objective.mask_id) & (batch.targets != IGNORE)
    assert 0 < count == masked.sum() < terms.count
    nll = model.token_nll(model(batch.tokens, attention="full")[masked], batch.targets[masked])
    torch.testing.assert_close(total, nll.sum())


def test_a_batch_without_any_target_has_a_loss_of_zero_that_reaches_the_weights():
    model = Transformer(BYTES.vocabulary_size, width=16, layers=1, heads=2)
    objective = made()
    batch = BatchMaker(objective, 8, BYTES.token_bytes, BYTES.padding)([(make_row([BYTES.end_of_text]), draw())])
    terms = objective.loss(model, batch)
    terms.sum.backward()
    assert (terms.sum.item(), terms.count, terms.bytes) == (0.0, 0, 0)
    assert all(one.grad is not None and not one.grad.any() for one in model.parameters())


# -- asking and being asked wrongly --


def test_a_gap_is_filled_with_mask_tokens_of_its_length():
    objective = made()
    query = objective.query(np.array([BYTES.end_of_text, 200]), np.array([201, 202]), 3)
    assert isinstance(query, Unmask)
    assert query.tokens.tolist() == [BYTES.end_of_text, 200, *[objective.mask_id] * 3, 201, 202]
    assert query.unknown.tolist() == [False, False, True, True, True, False, False]
    assert query.mask == objective.mask_id


def test_fractions_that_sum_to_more_than_one_are_refused_with_the_largest_that_fits():
    with pytest.raises(ConfigError, match=r"objective\.random_fraction: .* at most 0\.2 fits"):
        MaskedLanguageModel(mask_fraction=0.8, random_fraction=0.3)
    for tenths in itertools.product(range(11), range(11)):
        if sum(tenths) == 10:
            MaskedLanguageModel(mask_fraction=tenths[0] / 10, random_fraction=tenths[1] / 10)


@pytest.mark.parametrize("unit", ["whole_word", "span"])
def test_a_tokenizer_without_words_is_refused_before_anything_starts(unit):
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers

    backend = Backend(models.BPE(vocab={"a": 0, "<|endoftext|>": 1, "<|mask|>": 2}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens(["<|endoftext|>", "<|mask|>"])
    made(Tokenizer(backend), unit="token")
    with pytest.raises(ConfigError, match=r"data\.tokenizer: its tokens do not tell where words begin"):
        made(Tokenizer(backend), unit=unit)


def test_children_of_a_draw_corrupt_differently():
    row = random_row(200)
    examples = [made().corrupt(row, replace(draw(), stream=(child,))) for child in range(2)]
    assert (examples[0].targets != examples[1].targets).any()
