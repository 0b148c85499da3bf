import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from ntp.config.errors import ConfigError
from ntp.data.datasets import BatchMaker
from ntp.data.example import IGNORE, Draw, Example, Row
from ntp.objectives.base import Context, LossTerms, Objective, target_nll
from ntp.objectives.causal import Causal
from ntp.objectives.masked_diffusion import MaskedDiffusion
from ntp.objectives.mixture import Mixture
from ntp.objectives.mlm import MaskedLanguageModel
from ntp.objectives.multi_token import MultiTokenPrediction
from ntp.objectives.permutation import PermutationLM
from ntp.objectives.prefix_lm import PrefixLM
from ntp.objectives.query import Decode, Unmask
from ntp.objectives.replaced_token import ReplacedTokenDetection
from ntp.objectives.span_corruption import SpanCorruption
from ntp.training.metrics import Totals
from tests.conftest import read_metrics, read_summary
from tests.objectives.making import TOKENIZER, letters, transformer

LENGTH = 24


class Probe(Objective):
    """Predicts its tokens and shows what it was given."""

    likelihood = "exact"

    def __init__(self, attention="full", lookahead=0, shorter=0):
        super().__init__()
        self.attention, self.lookahead, self.shorter = attention, lookahead, shorter

    def raw_length(self, sequence_length):
        return sequence_length - self.shorter + self.lookahead

    def corrupt(self, row, draw):
        tokens = row.tokens[: max(0, len(row) - self.lookahead)]
        order = np.maximum(np.arange(len(tokens)) - 2, 0) if self.attention == "prefix" else None
        numbers = draw.rng.random(len(tokens))
        return Example(tokens, tokens, order=order, extra={"numbers": numbers}, weights=numbers)


class Regression(Probe):
    """A loss and a head of its own: one number a position, which shall be the one drawn for it."""

    def __init__(self, width=1, **arguments):
        super().__init__("causal", **arguments)
        self.width = width

    def bind(self, context):
        self.head = nn.Linear(context.width, self.width)

    def corrupt(self, row, draw):
        example = super().corrupt(row, draw)
        numbers = np.repeat(example.extra["numbers"][:, None], self.width, axis=1)
        return Example(example.tokens, example.targets, extra={"numbers": numbers}, count=7)

    def loss(self, model, batch):
        assert set(batch.extra) == {"numbers"}
        assert all(tally.component == () for tally in batch.tallies)
        nll = target_nll(model, batch)
        hidden = model(batch.tokens, attention=batch.attention, segments=batch.segments)
        errors = (self.head(hidden) - batch.extra["numbers"].float()).square()
        seen = (batch.targets != IGNORE)[..., None]
        squares, nats = (errors * seen).sum(), nll.nll.sum()
        return LossTerms(nats + squares, batch.count, batch.target_bytes, {"squares": (squares, batch.rows)}, nats=nats)


def made(components, weights=None, length=LENGTH, **arguments):
    mixture = Mixture(components, weights, **arguments)
    model = transformer()
    torch.manual_seed(0)
    mixture.bind(Context(length, TOKENIZER, 16, make_stack=model.make_stack))
    return mixture


def draw(row=0, progress=None, evaluation=False, stratum=(0, 1)):
    return Draw(seed=3, epoch=0, row=row, stratum=stratum, progress=progress, evaluation=evaluation)


def batch_of(mixture, rows, length=LENGTH, isolate=False, **options):
    """The batch that the data module makes of rows with these numbers."""
    size = mixture.raw_length(length)
    segments = np.arange(size) // 9 if isolate else None
    return BatchMaker(mixture, length, TOKENIZER.token_bytes, TOKENIZER.padding)(
        [(letters(size, segments), draw(row, **options)) for row in rows]
    )


def chosen(mixture, rows, length=LENGTH, **options):
    """How many of the rows each component makes."""
    row = letters(mixture.raw_length(length))
    return Counter(mixture.corrupt(row, draw(one, **options)).component[0] for one in range(rows))


def within(count, draws, probability, sigmas=5.0):
    return abs(count - draws * probability) <= sigmas * math.sqrt(draws * probability * (1 - probability))


def gradients(terms, *modules):
    for module in modules:
        module.zero_grad()
    terms.sum.backward()
    return [one.grad.clone() for module in modules for one in module.parameters() if one.grad is not None]


# -- which component --


def test_components_make_rows_as_often_as_their_weights_say():
    counts = chosen(made({"a": Probe(), "b": Probe(), "c": Probe()}, {"a": 5, "b": 1, "c": 2}), 4000)
    assert all(within(counts[index], 4000, share / 8) for index, share in enumerate((5, 1, 2)))


def test_without_weights_all_are_as_frequent():
    counts = chosen(made({"a": Probe(), "b": Probe(), "c": Probe()}), 3000)
    assert all(within(counts[index], 3000, 1 / 3) for index in range(3))


def test_a_component_of_weight_0_makes_no_row():
    assert chosen(made({"a": Probe(), "b": Probe(), "c": Probe()}, {"a": 0, "b": 1, "c": 0}), 300) == {1: 300}


def test_a_switch_happens_where_it_should():
    mixture = made({"a": Probe(), "b": Probe()}, {"a": [[0.8, 1], [0.8, 0]], "b": [[0.8, 0], [0.8, 1]]})
    assert chosen(mixture, 50, progress=0.0) == {0: 50}
    assert chosen(mixture, 50, progress=0.79999) == {0: 50}
    assert chosen(mixture, 50, progress=0.8) == {1: 50}
    assert chosen(mixture, 50, progress=0.99) == {1: 50}


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.9), (0.25, 0.7), (0.5, 0.5), (1.0, 0.1)])
def test_an_anneal_goes_down_a_straight_line(progress, share):
    mixture = made({"fim": Probe(), "causal": Probe()}, {"fim": [[0, 0.9], [1, 0.1]], "causal": [[0, 0.1], [1, 0.9]]})
    assert within(chosen(mixture, 2000, progress=progress)[0], 2000, share)


def test_evaluation_draws_with_the_mean_weights_of_the_run():
    mixture = made({"a": Probe(), "b": Probe()}, {"a": [[0.8, 1], [0.8, 0]], "b": [[0.8, 0], [0.8, 1]]})
    np.testing.assert_allclose(mixture.mean_weights, [0.8, 0.2])
    assert within(chosen(mixture, 3000, evaluation=True)[0], 3000, 0.8)


def test_weights_that_change_need_to_know_how_far_the_run_is():
    changing = made({"a": Probe(), "b": Probe()}, {"a": 1, "b": [[0, 0], [1, 1]]})
    with pytest.raises(ConfigError, match=r"budget\.minutes=null") as error:
        chosen(changing, 1)
    assert error.value.key == "budget.minutes"
    assert chosen(made({"a": Probe(), "b": Probe()}, {"a": 1, "b": [[0.5, 2]]}), 1)


def test_the_choice_does_not_depend_on_the_place_in_the_batch():
    mixture = made({"a": Probe(), "b": Probe()})
    ours, theirs = (
        [mixture.corrupt(letters(LENGTH), draw(row, stratum=place)).component for row in range(50)]
        for place in ((0, 8), (7, 8))
    )
    assert ours == theirs


def test_what_a_component_draws_depends_on_neither_the_choice_nor_the_weights():
    row = letters(LENGTH)
    often, seldom = (made({"a": Probe(), "b": Probe()}, {"a": 1, "b": share}) for share in (9, 0.1))
    made_by_b = []
    for number in range(200):
        for mixture in (often, seldom):
            example = mixture.corrupt(row, draw(number))
            index = example.component[0]
            alone = mixture.parts[index].corrupt(row, draw(number).child(index))
            numbers = example.extra[f"{'ab'[index]}/numbers"]
            np.testing.assert_array_equal(numbers, alone.extra["numbers"])
            made_by_b += [numbers.mean()] if index == 1 and mixture is seldom else []
    # Rows that a rare component gets are those with an extreme number; its own numbers must not be extreme too.
    assert abs(np.mean(made_by_b) - 0.5) < 5 * math.sqrt(1 / 12 / LENGTH / len(made_by_b))
    first, second = (Probe().corrupt(row, draw().child(index)).extra["numbers"] for index in (0, 1))
    assert (first != second).all()


def test_a_mixture_of_one_makes_the_rows_of_its_component():
    mixture, row = made({"mlm": MaskedLanguageModel()}), letters(LENGTH)
    ours, theirs = mixture.corrupt(row, draw()), mixture.parts[0].corrupt(row, draw().child(0))
    np.testing.assert_array_equal(ours.tokens, theirs.tokens)
    np.testing.assert_array_equal(ours.targets, theirs.targets)
    assert ours.order is None


# -- its part of the row --


def test_a_row_is_long_enough_for_each_component_and_its_lookahead():
    assert Mixture({"a": Probe(lookahead=3, shorter=10), "b": Probe()}).raw_length(LENGTH) == LENGTH + 3
    assert Mixture({"a": Causal(), "b": MaskedLanguageModel()}).lookahead == 1


def test_a_component_that_reads_less_gets_a_part_from_anywhere():
    mixture = made({"long": Probe(lookahead=2), "short": Probe(lookahead=1, shorter=4)}, {"long": 0, "short": 1})
    row = Row(np.arange(LENGTH + 2), np.zeros(LENGTH + 2, dtype=np.int64), np.ones(LENGTH + 2, dtype=np.int64))
    examples = [mixture.corrupt(row, draw(number)) for number in range(1000)]
    begins = Counter(int(example.tokens[0]) for example in examples)
    assert sorted(begins) == [0, 1, 2, 3, 4]
    assert all(within(count, 1000, 1 / 5) for count in begins.values())
    for example in examples:
        np.testing.assert_array_equal(np.diff(example.tokens), 1)
        assert len(example) == example.read_bytes == LENGTH - 4


def test_a_part_begins_with_document_0():
    mixture = made({"long": Probe(), "short": MaskedLanguageModel()}, {"long": 0, "short": 1})
    mixture._lengths[1] = 6
    row = letters(LENGTH, np.arange(LENGTH) // 2)
    firsts = {int(mixture.corrupt(row, draw(number)).segments[0]) for number in range(30)}
    assert firsts == {0}


def test_components_that_read_alike_begin_where_the_row_does():
    mixture = made({"causal": Causal(), "mlm": MaskedLanguageModel(), "several": MultiTokenPrediction()})
    row = letters(mixture.raw_length(LENGTH))
    for number in range(50):
        example = mixture.corrupt(row, draw(number))
        np.testing.assert_array_equal(mixture.restore(example), row.tokens[: len(mixture.restore(example))])
        assert example.read_bytes == row.bytes[:LENGTH].sum()


def test_nothing_is_claimed_of_a_part_of_the_row():
    mixture = made({"long": PrefixLM(), "short": SpanCorruption()}, {"long": 0, "short": 1})
    assert mixture.restore(mixture.corrupt(letters(mixture.raw_length(LENGTH)), draw())) is None


@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_the_short_end_of_a_text_is_given_as_it_is(length):
    mixture = made({"causal": Causal(), "mlm": MaskedLanguageModel(), "short": Probe(shorter=20)})
    for number in range(20):
        example = mixture.corrupt(letters(length), draw(number))
        expected = (length - 1, length, min(length, 4))[example.component[0]]
        assert len(example) == expected


# -- one rule of attention for all --


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (("causal",), "causal"),
        (("full", "full"), "full"),
        (("prefix", "prefix"), "prefix"),
        (("causal", "full"), "prefix"),
        (("causal", "prefix"), "prefix"),
        (("full", "ordered"), "ordered"),
    ],
)
def test_rows_are_written_in_the_cheapest_kind_that_covers_all(kinds, expected):
    mixture = Mixture({f"c{index}": Probe(kind) for index, kind in enumerate(kinds)})
    assert mixture.attention == expected
    assert mixture.attentions == {*kinds, expected}


def test_a_kind_that_no_forward_uses_is_not_asked_of_the_model():
    mixture = Mixture({"a": Regression(), "b": ReplacedTokenDetection()})
    assert mixture.attention == "prefix"
    assert mixture.attentions == {"causal", "full"}


def test_causal_and_full_rows_get_the_order_that_their_kinds_mean():
    mixture = made({"causal": Causal(), "mlm": MaskedLanguageModel(), "prefix": PrefixLM()})
    row = letters(mixture.raw_length(6), segments=[0, 0, 0, 1, 1, 1, 1])
    mixture = made({"causal": Causal(), "mlm": MaskedLanguageModel(), "prefix": PrefixLM()}, length=6)
    orders = {}
    for number in range(30):
        example = mixture.corrupt(row, draw(number))
        orders[mixture.component_names[example.component[0]]] = example.order.tolist()
    assert orders["causal"] == [0, 1, 2, 0, 1, 2]
    assert orders["mlm"] == [0] * 6
    assert mixture.likelihood == "pseudo"


class Watched:
    """A model that notes how it is called."""

    def __init__(self, model):
        self.model, self.calls = model, []

    def __call__(self, tokens, **rule):
        self.calls.append((len(tokens), rule["attention"]))
        return self.model(tokens, **rule)

    def __getattr__(self, name):
        return getattr(self.model, name)


def test_one_forward_serves_all_components_with_the_default_loss():
    inner = Mixture({"mlm": MaskedLanguageModel(), "prefix": PrefixLM()})
    mixture, model = made({"causal": Causal(), "inner": inner}), Watched(transformer())
    mixture.loss(model, batch_of(mixture, range(12)))
    assert model.calls == [(12, "prefix")]


def test_rows_of_one_kind_take_the_kernel_of_that_kind():
    mixture = made({"causal": Causal(), "mlm": MaskedLanguageModel(), "prefix": PrefixLM()})
    model = Watched(transformer())
    kinds = {"causal": "causal", "mlm": "full", "prefix": "prefix"}
    for row in range(10):
        batch = batch_of(mixture, [row])
        mixture.loss(model, batch)
        name = mixture.component_names[batch.tallies[0].component[0]]
        assert model.calls.pop() == (1, kinds[name])


# -- the loss --


def every_kind():
    return {
        "causal": Causal(),
        "mlm": MaskedLanguageModel(),
        "spans": SpanCorruption(mode_token="<|mode_r|>"),
        "regression": Regression(),
        "wide": Regression(width=3, lookahead=2),
        "diffusion": MaskedDiffusion(),
        "several": MultiTokenPrediction(),
        "inner": Mixture({"prefix": PrefixLM(), "own": Regression(), "weighted": Probe("prefix")}),
        "permutation": PermutationLM(),
    }


@pytest.mark.parametrize("isolate", [False, True])
def test_losses_and_gradients_are_those_of_the_components_alone_on_their_rows(isolate):
    mixture, model = made(every_kind()), transformer()
    rows = range(40)
    batch = batch_of(mixture, rows, isolate=isolate)
    ours = mixture.loss(model, batch)
    our_gradients = gradients(ours, model, mixture)

    size = mixture.raw_length(LENGTH)
    row = letters(size, np.arange(size) // 9 if isolate else None)
    by_part = {index: [one for one in rows if batch.tallies[one].component[0] == index] for index in range(9)}
    assert all(by_part.values())
    terms = []
    for index, numbers in by_part.items():
        part = mixture.parts[index]
        make = BatchMaker(part, LENGTH, TOKENIZER.token_bytes, TOKENIZER.padding)
        examples = []
        for number in numbers:
            rng = draw(number).rng
            rng.random()  # the choice of the component
            examples.append((mixture._window(row, index, rng), draw(number).child(index)))
        alone = part.loss(model, make(examples))
        name = mixture.component_names[index]
        total, count = ours.metrics[f"{name}/loss"]
        assert count == alone.count
        torch.testing.assert_close(total, alone.sum.detach(), rtol=1e-4, atol=1e-4)
        nats, nbytes = ours.metrics[f"{name}/bits_per_byte"]
        expected = (alone.sum if alone.nats is None else alone.nats).detach() / math.log(2)
        assert nbytes == alone.bytes
        torch.testing.assert_close(nats, expected, rtol=1e-4, atol=1e-4)
        assert int(ours.metrics[f"{name}/row_share"][0]) == len(numbers)
        assert ours.metrics[f"{name}/row_share"][1] == len(rows)
        for key, (value, number) in alone.metrics.items():
            theirs = ours.metrics[f"{name}/{key}"]
            torch.testing.assert_close(theirs[0], value, rtol=1e-4, atol=1e-4, check_dtype=False)
            assert int(theirs[1]) == int(number)
        terms.append(alone)
    torch.testing.assert_close(ours.sum, sum(one.sum for one in terms), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.nats, sum(one.sum if one.nats is None else one.nats for one in terms))
    assert ours.count == sum(one.count for one in terms)
    assert ours.bytes == sum(one.bytes for one in terms)
    total = LossTerms(sum(one.sum for one in terms), 1, 0)
    for ours_, theirs_ in zip(our_gradients, gradients(total, model, mixture), strict=True):
        torch.testing.assert_close(ours_, theirs_, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("sizes", [(1,) * 12, (5, 7), (3, 3, 3, 3)])
def test_the_loss_does_not_depend_on_micro_batches(sizes):
    mixture, model = made(every_kind()), transformer()
    whole = mixture.loss(model, batch_of(mixture, range(12), isolate=True))
    expected = gradients(whole, model, mixture)
    ends = np.cumsum((0, *sizes))
    parts = [mixture.loss(model, batch_of(mixture, range(begin, end), isolate=True)) for begin, end in pairwise(ends)]
    totals, of_whole = Totals(), Totals()
    of_whole.add(whole)
    for part in parts:
        totals.add(part)
    ours, theirs = (one.means(lambda value: [value]) for one in (totals, of_whole))
    assert ours.keys() == theirs.keys()
    assert {"loss", "bits_per_byte", "causal/loss", "inner/prefix/loss", "spans/noise_nll"} <= ours.keys()
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, rel=1e-4), name
    total = LossTerms(sum(part.sum for part in parts), 1, 0)
    for one, other in zip(gradients(total, model, mixture), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_rows_are_counted_exactly_where_new_tensors_are_bfloat16():
    mixture = made({"causal": Causal(), "mlm": MaskedLanguageModel()}, {"causal": 1, "mlm": 0})
    model, batch = transformer(), batch_of(mixture, range(301))
    torch.set_default_dtype(torch.bfloat16)
    try:
        terms = mixture.loss(model, batch)
    finally:
        torch.set_default_dtype(torch.float32)
    assert float(terms.metrics["causal/row_share"][0]) == 301


def test_parameters_of_a_component_without_rows_get_zeros_and_not_nothing():
    mixture, model = made({"causal": Causal(), "own": Regression()}, {"causal": 1, "own": 0}), transformer()
    mixture.loss(model, batch_of(mixture, range(4))).sum.backward()
    assert [one.grad.abs().max().item() for one in mixture.parameters()] == [0.0, 0.0]
    mixture = made({"causal": Causal(), "own": Regression()}, {"causal": 0, "own": 1})
    mixture.loss(model, batch_of(mixture, range(4))).sum.backward()
    assert all(one.grad.abs().max() > 0 for one in mixture.parameters())


def test_a_batch_without_any_target_gives_a_zero_that_is_connected():
    mixture, model = made({"causal": Causal(), "mlm": MaskedLanguageModel()}, {"causal": 1, "mlm": 0}), transformer()
    maker = BatchMaker(mixture, LENGTH, TOKENIZER.token_bytes, TOKENIZER.padding)
    terms = mixture.loss(model, maker([(letters(1), draw())]))
    terms.sum.backward()
    assert terms.sum.item() == terms.count == 0


def test_where_one_component_has_no_likelihood_the_whole_has_none_and_the_others_keep_theirs():
    mixture = made({"causal": Causal(), "detection": ReplacedTokenDetection()})
    assert mixture.likelihood == "none"
    totals = Totals()
    totals.add(mixture.loss(transformer(), batch_of(mixture, range(8))))
    means = totals.means(lambda value: [value])
    assert "bits_per_byte" not in means
    assert "detection/bits_per_byte" not in means
    assert means["causal/bits_per_byte"] > 0


def test_weights_survive_a_round_trip():
    ours = made({"causal": Causal(), "own": Regression()})
    theirs = made({"causal": Causal(), "own": Regression()})
    nn.init.ones_(theirs.parts[1].head.weight)
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(theirs.parts[1].head.weight, ours.parts[1].head.weight)
    assert len(ours.state_dict()) == 2


def test_compute_is_counted_component_by_component():
    class Dear(Probe):
        def forward_flops(self, model, length, targets):
            return 1000 * length + targets

    mixture = made({"cheap": Probe(), "dear": Dear()}, {"cheap": 3, "dear": 1})
    model = transformer()
    cheap, dear = model.forward_flops(LENGTH, LENGTH), 1001 * LENGTH
    assert mixture.forward_flops(model, LENGTH, LENGTH) == round(0.75 * cheap + 0.25 * dear)
    batch = batch_of(mixture, range(20))
    counts = Counter(tally.component[0] for tally in batch.tallies)
    assert 0 < counts[1] < 20
    assert mixture.training_flops(model, batch) == 3 * (counts[0] * cheap + counts[1] * dear)


# -- asking --


class Asked(Probe):
    def __init__(self, name, inference, forms=()):
        super().__init__()
        self.name, self.inference, self.forms = name, frozenset(inference), forms

    def query(self, prefix, suffix, length, form=None):
        return self.name, form


def test_questions_go_to_the_component_that_weighs_most_at_the_end_among_those_that_can():
    mixture = Mixture(
        {"a": Asked("a", ["continue"]), "b": Asked("b", ["continue", "infill"]), "c": Asked("c", ["infill"])},
        {"a": [[0, 9], [1, 1]], "b": 2, "c": [[0, 0], [1, 3]]},
    )
    nothing = np.zeros(1)
    assert mixture.inference == {"continue", "infill"}
    assert mixture.query(nothing, None, 5) == ("b", None)
    assert mixture.query(nothing, nothing, 5) == ("c", None)
    assert mixture.forms == ("c", "b")
    assert mixture.query(nothing, nothing, 5, "b") == ("b", None)
    with pytest.raises(ConfigError, match="'a' is no component that can infill"):
        mixture.query(nothing, nothing, 5, "a")


def test_of_components_that_end_alike_the_one_that_was_trained_more_answers():
    components = {"a": Asked("a", ["continue"]), "never": Asked("never", ["infill"]), "b": Asked("b", ["infill"])}
    mixture, nothing = Mixture(components, {"a": 1, "never": 0, "b": [[0, 1], [1, 0]]}), np.zeros(1)
    assert mixture.query(nothing, nothing, 5) == ("b", None)
    assert mixture.forms == ("b", "never")


def test_answers_can_be_assigned_and_forms_reach_further_in():
    components = {
        "a": Asked("a", ["continue", "infill"], ("psm", "spm")),
        "b": Asked("b", ["continue", "infill"]),
    }
    mixture, nothing = Mixture(components, {"a": 1, "b": 2}, {"continue": "a"}), np.zeros(1)
    assert mixture.query(nothing, None, 5) == ("a", None)
    assert mixture.query(nothing, nothing, 5) == ("b", None)
    assert mixture.forms == ("b", "a", "a/psm", "a/spm")
    assert mixture.query(nothing, nothing, 5, "a/spm") == ("a", "spm")


def test_the_forms_of_the_only_component_that_infills_need_no_name():
    mixture = Mixture({"a": Asked("a", ["continue"]), "fim": Asked("fim", ["infill"], ("psm", "spm"))})
    assert mixture.forms == ("psm", "spm")
    assert mixture.query(np.zeros(1), np.zeros(1), 5, "spm") == ("fim", "spm")


def test_real_components_are_asked_in_their_own_way():
    mixture = made({"causal": Causal(), "mlm": MaskedLanguageModel()})
    prefix, suffix = np.array([TOKENIZER.end_of_text, 5]), np.array([6])
    assert isinstance(mixture.query(prefix, None, 4), Decode)
    assert isinstance(mixture.query(prefix, suffix, 4), Unmask)


# -- what does not fit --


def test_special_tokens_are_those_of_all_components_once():
    one, two = SpanCorruption(mode_token="<|mode_r|>"), SpanCorruption(mode_token="<|mode_x|>")
    assert Mixture({"one": one, "two": two}).special_tokens() == ("<|sentinel_0|>", "<|mode_r|>", "<|mode_x|>")


@pytest.mark.parametrize(
    ("components", "key", "problem"),
    [
        ({}, "objective.components", "at least one"),
        ({"a b": Causal()}, "objective.components.a b", "letters, digits and _"),
        ({"a": {"rate": 1}}, "objective.components.a", r"is not an objective; choose one with '\+objective@"),
        ({"a": nn.Linear(1, 1)}, "objective.components.a", "is not an objective"),
    ],
)
def test_components_that_are_none_are_named(components, key, problem):
    with pytest.raises(ConfigError, match=problem) as error:
        Mixture(components)
    assert error.value.key == key


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ({"infill": "causal"}, r"'causal' cannot infill \(choose from: mlm\)"),
        ({"infill": "ml"}, r"'ml' is no component \(did you mean 'mlm'\?\)"),
    ],
)
def test_answers_of_components_that_cannot_are_refused(answers, problem):
    with pytest.raises(ConfigError, match=problem) as error:
        Mixture({"causal": Causal(), "mlm": MaskedLanguageModel()}, answers=answers)
    assert error.value.key == "objective.answers.infill"


def test_what_a_component_finds_wrong_when_it_is_bound_is_told_with_its_place():
    class Picky(Probe):
        def bind(self, context):
            raise ConfigError("objective.rate", "is wrong")

    with pytest.raises(ConfigError, match="is wrong") as error:
        made({"causal": Causal(), "inner": Mixture({"picky": Picky()})})
    assert error.value.key == "objective.components.inner.components.picky.rate"


# -- by command --


def test_a_run_of_the_default_mixture_reports_by_component(ntp, tiny, tmp_path):
    outcome = ntp("train", *tiny, "objective=mixture", "evaluation.final_rows=16", "run_dir=run")
    assert outcome.status == 0, outcome.stderr
    summary = read_summary(tmp_path / "run")
    assert summary["likelihood"] == "pseudo"
    for name in (
        "val/causal/loss",
        "val/causal/bits_per_byte",
        "val/mlm/loss",
        "val/mlm/row_share",
        "train/causal/row_share",
    ):
        assert math.isfinite(summary[name])
    assert summary["val/causal/row_share"] + summary["val/mlm/row_share"] == pytest.approx(1)


def test_a_switch_trains_one_objective_and_then_the_other(ntp, tiny, tmp_path):
    weights = "objective.weights={causal: [[0.5, 1], [0.5, 0]], mlm: [[0.5, 0], [0.5, 1]]}"
    outcome = ntp("train", *tiny, "objective=mixture", weights, "run_dir=run")
    assert outcome.status == 0, outcome.stderr
    lines = [line for line in read_metrics(tmp_path / "run") if "train/loss" in line]
    assert [line["train/mlm/row_share"] for line in lines] == [0, 0, 1, 1]
    assert "train/mlm/loss" not in lines[1]
    assert "train/causal/loss" not in lines[2]


def test_components_are_added_replaced_taken_away_and_set_on_the_command_line(ntp, tiny, tmp_path):
    outcome = ntp(
        "train",
        *tiny,
        "objective=mixture",
        "~objective@objective.components.mlm",
        "objective@objective.components.causal=prefix_lm",
        "objective.components.causal.fraction=0.5",
        "+objective@objective.components.fim=fim",
        "objective.components.fim.rate=1",
        "objective.weights={fim: [[0, 0.9], [1, 0.1]], causal: [[0, 0.1], [1, 0.9]]}",
        "run_dir=run",
    )
    assert outcome.status == 0, outcome.stderr
    assert {"val/causal/loss", "val/fim/loss"} <= read_summary(tmp_path / "run").keys()


def test_a_mixture_of_one_is_that_one(ntp, tiny, tmp_path):
    assert ntp("train", *tiny, "objective=causal", "run_dir=one").status == 0
    alone = ("objective=mixture", "~objective@objective.components.mlm")
    assert ntp("train", *tiny, *alone, "run_dir=two").status == 0
    for ours, theirs in zip(read_metrics(tmp_path / "two"), read_metrics(tmp_path / "one"), strict=True):
        assert [ours.get(name) for name in ("train/loss", "val/loss")] == [
            theirs.get(name) for name in ("train/loss", "val/loss")
        ]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["objective.weights={causal: 1, ml: 2}"], "objective.weights.ml: there is no component of this name (did you"),
        (["objective.weights={causal: 1, mlm: [[0, 1], [1.5, 0]]}"], "objective.weights.mlm: should be less than or"),
        (["objective.weights={causal: 1, mlm: often}"], 'objective.weights.mlm: should be a valid number, not "often"'),
        (["objective.weights=often"], 'objective.weights: should be a mapping, not "often"'),
        (["objective.components.mlm.rate=1.5"], "objective.components.mlm.rate: should be less than or equal to 1"),
        (["+objective.components.mlm.rote=1"], "objective.components.mlm.rote: MaskedLanguageModel takes no such"),
        (["+objective.components.x.rate=1"], "objective.components.x: is not an objective; choose one with"),
        (["+objective@objective.components.x=mlmm"], "objective@objective.components.x: there is no 'mlmm' (did you"),
        (
            ["objective@objective.components.ml=causal"],
            "no such key (did you mean 'objective.components.mlm'?); a plus",
        ),
        (["~objective@objective.components.ml"], "no such key (did you mean 'objective.components.mlm'?)"),
        (
            ["budget.steps=null", "budget.minutes=1", "objective.weights={causal: 1, mlm: [[0, 1], [1, 0]]}"],
            "budget.minutes: the weights of the mixture change",
        ),
    ],
)
def test_mistakes_are_one_line(ntp, tiny, overrides, message):
    outcome = ntp("train", *tiny, "objective=mixture", *overrides)
    assert outcome.status == 2
    assert message in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_a_value_that_an_inner_component_refuses_is_told_with_its_place(ntp, tiny):
    inner = "objective.components.mlm={_target_: ntp.objectives.mixture.Mixture, components: {}}"
    outcome = ntp("train", *tiny, "objective=mixture", "~objective@objective.components.mlm", f"+{inner}")
    assert outcome.status == 2
    assert "objective.components.mlm.components: needs at least one objective" in outcome.stderr


def test_a_model_that_cannot_serve_one_of_the_components_is_refused(ntp, tiny):
    others = [one for one in tiny if not one.startswith("model.")]
    outcome = ntp("train", *others, "model=t5_nano", "objective=mixture")
    assert outcome.status == 2
    assert "objective: needs causal and full attention, which EncoderDecoder does not serve" in outcome.stderr


@pytest.mark.slow
def test_ranks_on_which_a_component_has_no_rows_exchange_its_gradients(ntp, pair, tiny, tmp_path):
    several = "+objective@objective.components.several=multi_token"
    options = (*tiny, "objective=mixture", several, "data.micro_batch_size=1", "trainer.progress_bar=false")
    assert ntp("train", *options, "run_dir=one").status == 0
    outcome = pair(
        "train",
        *options,
        "trainer=ddp",
        "trainer.accelerator=cpu",
        "trainer.devices=2",
        "trainer.progress_bar=false",
        "run_dir=two",
        cwd=tmp_path,
    )
    assert outcome.status == 0, outcome.stderr
    for ours, theirs in zip(read_metrics(tmp_path / "two"), read_metrics(tmp_path / "one"), strict=True):
        for name in ("train/loss", "train/gradient_norm", "val/loss", "val/several/loss", "progress/flops"):
            if name in theirs:
                assert ours[name] == pytest.approx(theirs[name], rel=1e-5), name
