"""The exam of rows that are longer than in training."""

import math

import numpy as np
import pytest
import torch

from ntp.config.errors import ConfigError
from ntp.evaluation.exams.length_extrapolation import LengthExtrapolation
from ntp.models.transformer import Transformer
from ntp.objectives.block_diffusion import BlockDiffusion
from ntp.objectives.causal import Causal
from ntp.objectives.fim import FillInTheMiddle
from ntp.objectives.masked_diffusion import MaskedDiffusion
from ntp.objectives.span_corruption import SpanCorruption
from tests.evaluation.tables import SIZE, Bigrams, candidate, letters_bigrams, spoken
from tests.objectives.making import END, TOKENIZER, transformer

TRAINED = 16
TABLE = letters_bigrams()
TEXTS = [spoken(TABLE, 70 + number, number) for number in range(3)] + ["too short for the longest row, it is"]
LONG = sorted(TEXTS[:3])


def graded(model, objective=None, texts=TEXTS, **changes):
    recipe = LengthExtrapolation(least_bytes=8, **changes)
    exam = recipe.make("length_extrapolation", texts)
    return exam, recipe.grade(exam, candidate(model, objective, room=TRAINED, draws=4))


def in_order(exam, result):
    """Texts of the result's questions."""
    return [exam.text(name, 0, len(exam.documents[name].content)) for name in result.documents]


def test_losses_are_those_of_a_plain_forward_pass():
    model = transformer()
    exam, result = graded(model)
    expected = {"1x": (0, TRAINED), "2x": (TRAINED, 2 * TRAINED), "4x": (2 * TRAINED, 4 * TRAINED)}
    for number, text in enumerate(in_order(exam, result)):
        tokens = torch.tensor([[END, *TOKENIZER.encode(text)]])
        with torch.inference_mode():
            hidden = model(tokens[:, :-1], attention="causal")[0]
            bits = (model.token_nll(hidden, tokens[0, 1:]) / math.log(2)).numpy()
        for name, (low, high) in expected.items():
            one = result.measures[f"{name}/bits_per_byte"]
            assert one.sums[number] == pytest.approx(bits[low:high].sum(), rel=1e-4)
            assert one.weights[number] == high - low
        assert result.measures["bits_per_byte"].sums[number] == pytest.approx(bits[16:64].sum(), rel=1e-4)


def test_only_documents_that_fill_the_longest_row_count():
    exam, result = graded(transformer())
    assert sorted(in_order(exam, result)) == LONG
    assert any("3 of 4 documents" in caveat for caveat in result.caveats)


def test_what_reads_one_token_back_extrapolates_perfectly():
    _, result = graded(Bigrams(TABLE))
    assert result.primary == "bits_per_byte"
    assert result.measures["excess"].value == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(
        result.measures["pieces/bits_per_byte"].weights, result.measures["bits_per_byte"].weights
    )


def test_what_knows_nothing_beyond_its_length_shows_it():
    _, result = graded(Bigrams(TABLE, known=TRAINED))
    measures = {name: one.value for name, one in result.measures.items()}
    assert measures["2x/bits_per_byte"] == pytest.approx(math.log2(SIZE), rel=1e-5)
    assert measures["4x/bits_per_byte"] == pytest.approx(math.log2(SIZE), rel=1e-5)
    assert measures["1x/bits_per_byte"] < 5
    # In pieces it reads every token well: the excess is all that it loses.
    _, whole = graded(Bigrams(TABLE))
    assert measures["pieces/bits_per_byte"] == pytest.approx(whole.measures["bits_per_byte"].value, rel=1e-6)
    assert measures["excess"] == pytest.approx(math.log2(SIZE) - measures["pieces/bits_per_byte"], rel=1e-5)


@pytest.mark.parametrize("objective", [None, MaskedDiffusion()], ids=["causal", "diffusion"])
def test_the_curve_of_a_row_sums_to_its_range(objective):
    _, result = graded(transformer(), objective)
    for curve in result.details["curves"]:
        factor = curve["factor"]
        low = {1: 0, 2: TRAINED, 4: 2 * TRAINED}[factor]
        within = [one for one in curve["curve"] if one["from"] >= low]
        measure = result.measures[f"{factor}x/bits_per_byte"]
        assert sum(one["nats"] for one in within) / math.log(2) == pytest.approx(measure.sums.sum(), rel=1e-6)
        assert curve["curve"][-1]["to"] == factor * TRAINED


@pytest.mark.parametrize(
    ("objective", "positions"),
    [(Causal(), 16), (SpanCorruption(), 16), (FillInTheMiddle(), 16), (BlockDiffusion(block_size=2), 8)],
    ids=["causal", "span_corruption", "fim", "block_diffusion"],
)
def test_the_trained_length_is_how_far_positions_go_in_training(objective, positions):
    _, result = graded(transformer(), objective)
    assert result.details["trained_length"] == positions
    beyond, pieces = (result.measures[name].weights for name in ("bits_per_byte", "pieces/bits_per_byte"))
    if result.likelihood == "exact":
        np.testing.assert_allclose(beyond, pieces)
    assert [one["factor"] for one in result.details["curves"]] == [1, 2, 4]
    assert result.details["curves"][-1]["curve"][-1]["to"] == 4 * positions


def test_a_bound_has_errors_and_no_excess():
    _, result = graded(transformer(), MaskedDiffusion())
    assert result.likelihood == "bound"
    assert "excess" not in result.measures
    assert all(one.standard_error > 0 for one in result.measures.values())


@pytest.mark.parametrize("positions", ["rotary", "alibi", "relative", "sinusoidal", "none"])
def test_every_encoding_that_does_not_end_reads_on(positions):
    model = Transformer(SIZE, width=16, layers=1, heads=2, positions=positions)
    _, result = graded(model)
    assert result.refusal is None
    assert math.isfinite(result.measures["excess"].value)


def test_learned_positions_end():
    model = Transformer(SIZE, width=16, layers=1, heads=2, positions="learned", context_length=TRAINED)
    _, result = graded(model)
    assert "learned positions end at 16" in result.refusal
    longer = Transformer(SIZE, width=16, layers=1, heads=2, positions="learned", context_length=3 * TRAINED)
    _, result = graded(longer)
    assert result.details["factors"] == [1, 2]
    assert any("learned positions" in caveat for caveat in result.caveats)


def test_documents_that_fill_no_longer_row_are_named_as_the_reason():
    _, result = graded(transformer(), texts=["only twenty bytes ..."])
    assert "no document" in result.refusal
    _, result = graded(transformer(), texts=["x" * 40])
    assert result.details["factors"] == [1, 2]
    with pytest.raises(ConfigError, match="least_bytes"):
        LengthExtrapolation().make("length_extrapolation", ["short"])


def test_factors_that_do_not_grow_are_refused():
    for factors in ((1,), (2, 4), (1, 4, 2)):
        with pytest.raises(ConfigError, match="grow from 1 on"):
            LengthExtrapolation(factors=factors)


def test_a_trained_run_takes_it(trained, ntp):
    outcome = ntp(
        "evaluate",
        f"run={trained}",
        "evaluation/exams=length_extrapolation",
        "evaluation.exams.length_extrapolation.least_bytes=100",
        "evaluation.exams.length_extrapolation.factors=[1,3]",
    )
    assert outcome.status == 0, outcome.stderr
    assert "3x/bits per byte" in outcome.stdout


def test_numbers_that_reach_less_far_are_of_another_kind():
    given = [graded(transformer(), texts=texts)[1].given for texts in (TEXTS, ["x" * 40])]
    assert given == [("left", "rows of 4x"), ("left", "rows of 2x")]
    exams = [LengthExtrapolation(factors=factors, least_bytes=8).make("e", TEXTS) for factors in ((1, 2), (1, 2, 4))]
    assert exams[0].digest != exams[1].digest
