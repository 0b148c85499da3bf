"""The mixture of denoisers of UL2 (arXiv 2205.05131, table 1), as its YAML says it."""

import math
from collections import Counter

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from ntp.config.errors import ConfigError
from ntp.config.instantiate import build
from ntp.data.datasets import BatchMaker
from ntp.data.example import IGNORE, Draw
from ntp.data.special_tokens import MODES
from ntp.data.tokenizers import Bytes
from ntp.objectives.base import Context, Objective
from ntp.objectives.mixture import Mixture
from ntp.objectives.prefix_lm import PrefixLM
from ntp.objectives.query import Decode
from tests.conftest import read_summary
from tests.objectives.making import TOKENIZER, letters, transformer

LENGTH = 256
IDS = TOKENIZER.special_tokens
R, X, S = (IDS[mode] for mode in MODES)


@pytest.fixture(scope="module")
def node():
    with initialize_config_module("ntp.conf", version_base="1.3"):
        return OmegaConf.to_container(compose("train", ["objective=ul2"]).objective)


@pytest.fixture(scope="module")
def ul2(node) -> Mixture:
    return bound(node, LENGTH)


def bound(node, length, tokenizer=TOKENIZER) -> Mixture:
    objective = build(node, "objective", base=Objective)
    objective.bind(Context(length, tokenizer, 16, make_stack=lambda layers, width: None))
    return objective


def draw(row):
    return Draw(seed=0, epoch=0, row=row, stratum=(0, 1))


@pytest.fixture(scope="module")
def examples(ul2):
    row = letters(ul2.raw_length(LENGTH))
    return [ul2.corrupt(row, draw(number)) for number in range(1500)]


def test_it_is_the_table_of_the_paper(ul2):
    modes = dict(zip(ul2.component_names, ul2.parts, strict=True))
    assert list(modes) == ["r", "x", "s"]
    denoisers = {mode: {(one.mean_span, one.density) for one in modes[mode].parts} for mode in "rx"}
    assert denoisers["r"] == {(3, 0.15), (8, 0.15)}
    assert denoisers["x"] == {(3, 0.5), (8, 0.5), (64, 0.15), (64, 0.5)}
    assert isinstance(modes["s"], PrefixLM)
    assert modes["s"].fraction is None
    for mode in "rx":
        for name, part in zip(modes[mode].component_names, modes[mode].parts, strict=True):
            assert name == f"span{part.mean_span:g}_density{part.density * 100:g}"
    np.testing.assert_allclose(ul2.mean_weights, [0.4, 0.4, 0.2])


def test_each_denoiser_makes_its_share_of_the_rows(examples):
    counts = Counter(example.component for example in examples)
    shares = {(0, 0): 0.2, (0, 1): 0.2, (1, 0): 0.1, (1, 1): 0.1, (1, 2): 0.1, (1, 3): 0.1, (2,): 0.2}
    assert counts.keys() == shares.keys()
    for path, share in shares.items():
        assert abs(counts[path] - 1500 * share) < 5 * math.sqrt(1500 * share * (1 - share))


def test_every_row_begins_with_the_token_of_its_mode(examples):
    for example in examples:
        assert example.tokens[0] == (R, X, S)[example.component[0]]
        assert np.isin(example.tokens, (R, X, S)).sum() == 1
        assert not np.isin(example.targets, (R, X, S)).any()
        assert len(example) <= LENGTH


def test_each_document_has_its_mode_token_where_documents_are_isolated(ul2):
    size = ul2.raw_length(LENGTH)
    row = letters(size, np.arange(size) // 60)
    for number in range(40):
        example = ul2.corrupt(row, draw(number))
        starts = np.flatnonzero(np.diff(example.segments, prepend=-1))
        np.testing.assert_array_equal(example.tokens[starts], (R, X, S)[example.component[0]])


def test_as_much_is_predicted_as_the_densities_say(examples, ul2):
    targets = {}
    for example in examples:
        text = (example.targets != IGNORE) & ~np.isin(example.targets, list(TOKENIZER.special_ids))
        raw = int(text.sum() + (~np.isin(example.tokens[example.order == 0], list(TOKENIZER.special_ids))).sum())
        targets.setdefault(example.component, []).append(text.sum() / raw)
    for path, shares in targets.items():
        if path == (2,):
            # Uniform prefixes: a mean of a half, with a standard deviation of 1 / sqrt(12).
            assert abs(np.mean(shares) - 0.5) < 5 / math.sqrt(12 * len(shares))
        else:
            part = ul2.parts[path[0]].parts[path[1]]
            np.testing.assert_allclose(shares, part.density, atol=0.006)


def test_in_a_short_row_the_only_long_span_is_the_end_of_the_text(ul2, examples):
    alone = [example for example in examples if example.component == (1, 2)]
    assert {int((example.order == 0).sum()) for example in alone} == {int((alone[0].order == 0).sum())}
    sentinels = {index for name, index in IDS.items() if "sentinel" in name}
    assert all(len(sentinels & set(example.targets.tolist())) == 1 for example in alone)


def test_it_needs_prefix_attention_and_nothing_else(ul2):
    assert ul2.attention == "prefix"
    assert ul2.attentions == {"prefix"}


def test_one_forward_serves_all_seven(ul2):
    model, calls = transformer(), []
    original = model.forward
    model.forward = lambda *given, **rule: calls.append(rule["attention"]) or original(*given, **rule)
    row = letters(ul2.raw_length(LENGTH))
    batch = BatchMaker(ul2, LENGTH, TOKENIZER.token_bytes, TOKENIZER.padding)([(row, draw(one)) for one in range(24)])
    terms = ul2.loss(model, batch)
    assert calls == ["prefix"]
    assert terms.count == batch.target_count
    seven = [f"r/span{span}_density15" for span in (3, 8)]
    seven += [f"x/span{span}_density{density}" for span, density in ((3, 50), (8, 50), (64, 15), (64, 50))]
    counts = [terms.metrics[f"{name}/loss"][1] for name in [*seven, "s"]]
    assert all(counts)
    assert sum(counts) == batch.target_count
    assert all(f"{name}/noise_nll" in terms.metrics for name in seven)


def test_the_sequential_mode_continues_and_the_extreme_one_infills_unless_told_otherwise(ul2):
    prefix, suffix = letters(9).tokens, letters(5).tokens

    def mode(*question):
        query = ul2.query(*question)
        assert isinstance(query, Decode)
        return int(query.prompt[0])

    assert mode(prefix, None, 8) == S
    assert mode(prefix, suffix, 8) == X
    assert mode(prefix, suffix, 8, "r") == R
    assert mode(prefix, suffix, 8, "x") == X
    assert ul2.forms[0] == "x"
    assert "r" in ul2.forms


def test_too_few_sentinels_for_its_short_spans_are_told(node):
    with pytest.raises(ConfigError, match="sentinels") as error:
        bound(node, LENGTH, Bytes(sentinels=20).train())
    assert error.value.key == "data.tokenizer.sentinels"


@pytest.mark.parametrize("model", ["nano", "t5_nano"])
def test_it_trains_a_decoder_and_an_encoder_decoder_on_the_same_rows(ntp, tiny, tmp_path, model):
    others = [one for one in tiny if not one.startswith(("model.", "data.sequence", "evaluation.final"))]
    size = ["model.width=32", "model.heads=2", "data.sequence_length=64", "evaluation.final_rows=40"]
    outcome = ntp("train", *others, *size, f"model={model}", "objective=ul2", "run_dir=run")
    assert outcome.status == 0, outcome.stderr
    summary = read_summary(tmp_path / "run")
    assert summary["likelihood"] == "pseudo"
    assert {"val/r/loss", "val/x/loss", "val/s/loss"} <= summary.keys()
    assert any(name.startswith("val/x/span") and name.endswith("/noise_nll") for name in summary)
    assert all(math.isfinite(summary[f"val/{mode}/bits_per_byte"]) for mode in "rxs")


def test_a_mode_can_be_changed_on_the_command_line(ntp, tiny):
    changes = ("objective.components.s.fraction=0.75", "objective.components.x.components.span64_density15.density=2")
    outcome = ntp("train", *tiny, "objective=ul2", *changes)
    assert outcome.status == 2
    assert "objective.components.x.components.span64_density15.density: should be less than 1, not 2" in outcome.stderr
