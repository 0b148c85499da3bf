"""Baselines are fitted once, take each exam once, and answer as runs do."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml

from ntp.baselines.baseline import TrainingText, Unsuitable
from ntp.baselines.fitting import baselines_for
from ntp.baselines.ngram import NGram, Uniform, Unigram
from ntp.baselines.token_models import words_of
from ntp.config.errors import ConfigError
from ntp.config.schema import DataConfig
from ntp.data.prepare import Prepared
from ntp.evaluation.examinee import TextQuestion
from ntp.evaluation.exams.likelihood import Continue
from ntp.evaluation.taking import prepare_exams
from ntp.training.setup import prepare_data

CONF = Path(__file__).parents[2] / "conf"
CONTINUE = {"continue": {"_target_": "ntp.evaluation.exams.likelihood.Continue", "windows": 4, "window_bytes": 200}}
NODES = {
    "ngram": {"_target_": "ntp.baselines.ngram.NGram", "order": 3},
    "unigram": {"_target_": "ntp.baselines.ngram.Unigram"},
}


def option(name: str) -> dict[str, object]:
    """What a file of the config group says of a baseline."""
    node: dict[str, object] = yaml.safe_load((CONF / "baseline" / f"{name}.yaml").read_text())[name]
    return node


@pytest.fixture
def data(text_file: Path, tmp_path: Path) -> DataConfig:
    return DataConfig(
        corpus={"_target_": "ntp.data.corpora.Files", "path": str(text_file)},
        tokenizer={"_target_": "ntp.data.tokenizers.Characters"},
        sequence_length=32,
        batch_size=4,
        micro_batch_size=None,
        workers=0,
        documents="concatenate",
        validation="auto",
        validation_fraction=0.05,
        repeat_first_batch=False,
        cache_dir=str(tmp_path / "cache"),
    )


@pytest.fixture
def prepared(data: DataConfig) -> Prepared:
    return prepare_data(data, [])


@pytest.fixture
def ask(data: DataConfig):
    """Results and what was said."""

    def ask(nodes=NODES, exams=CONTINUE, say=None):
        said: list[str] = []
        found = baselines_for(data, nodes, prepare_exams(exams, data, []), [], say=say or said.append)
        return found, said

    return ask


def opened(recipe, prepared, folder: Path):
    folder.mkdir()
    return recipe.fit(TrainingText(prepared, list), folder), recipe.open(folder, prepared)


def test_what_has_been_fitted_and_examined_is_not_done_again(ask):
    first, said = ask()
    assert said == ["ngram is fitted", "ngram takes continue", "unigram is fitted", "unigram takes continue"]
    second, said = ask()
    assert said == []
    for one, other in zip(first, second, strict=True):
        assert (
            one.results[0].result.measures["bits_per_byte"].value
            == other.results[0].result.measures["bits_per_byte"].value
        )


def test_other_arguments_are_another_baseline(ask):
    third = {"ngram": {**NODES["ngram"], "order": 2}}
    (before, _), said = ask()
    (after,), said = ask(third)
    assert said == ["ngram is fitted", "ngram takes continue"]
    assert after.path != before.path


def test_an_exam_with_other_questions_is_taken_beside_the_first(ask):
    ask()
    other = {"continue": {**CONTINUE["continue"], "window_bytes": 100}}
    (ngram, _), said = ask(exams=other)
    assert said == ["ngram takes continue", "unigram takes continue"]
    assert len(list((ngram.path / "exams").glob("*.json"))) == 2


def test_a_damaged_model_is_fitted_again_and_says_so(ask):
    (before, _), _ = ask()
    (before.path / "model" / "keys-3.npy").write_bytes(b"half")
    (after, _), said = ask()
    assert said == ["ngram is fitted", "ngram takes continue"]
    assert "damaged" in after.notes[0]


def test_the_ledger_says_what_was_read_and_kept(ask, prepared):
    (ngram, unigram), _ = ask()
    assert ngram.bytes == unigram.bytes == prepared.train.total_bytes
    assert unigram.parameters == len(words_of(prepared.tokenizer)) < ngram.parameters
    assert ngram.seconds > 0
    about = json.loads((ngram.path / "baseline.json").read_text())
    assert about["data"] == ngram.data == prepared.digest


def test_better_models_of_the_text_are_better_at_the_exam(ask):
    names = ("uniform", "unigram", "ngram")
    found, _ = ask({name: option(name) for name in names})
    bits = [one.results[0].result.measures["bits_per_byte"].value for one in found]
    assert bits == sorted(bits, reverse=True)


def test_a_result_says_what_kind_it_is_and_what_it_was_given(ask):
    (ngram, _), _ = ask()
    assert (ngram.results[0].result.likelihood, ngram.results[0].result.given) == ("exact", ("left",))


def test_a_baseline_that_reads_from_the_left_cannot_do_so_in_any_order(ask):
    exam = {"any_order": {"_target_": "ntp.evaluation.exams.likelihood.AnyOrder", "windows": 1}}
    (ngram, _), said = ask(exams=exam)
    assert ngram.results[0].result.refusal == "it has no native means to any order"
    assert said == ["ngram is fitted", "unigram is fitted"]  # what is refused is not announced


def test_what_can_not_be_fitted_is_not_announced(ask):
    said: list[str] = []
    node = {"_target_": "ntp.baselines.maxent.MaxEnt", "most_classes": 2}
    with pytest.raises(Unsuitable, match=r"^data\.tokenizer: \d+ tokens are too many classes"):
        ask({"maxent": node}, say=said.append)
    assert said == []


def test_the_end_of_a_text_is_asked_for_only_where_it_ends(prepared, tmp_path):
    _, examinee = opened(NGram(3), prepared, tmp_path / "model")
    scores = examinee.score([TextQuestion("continue", "", "def f1(", ends=ends) for ends in (True, False)])
    assert scores.tokens.tolist() == [8, 7]
    assert scores.nats[0] > scores.nats[1]


def test_a_text_costs_what_its_parts_cost_one_after_the_other(prepared, tmp_path):
    _, examinee = opened(NGram(4), prepared, tmp_path / "model")
    whole, first, rest = examinee.score(
        [
            TextQuestion("continue", "", "def f12(x):\n    return"),
            TextQuestion("continue", "", "def f12", ends=False),
            TextQuestion("continue", "def f12", "(x):\n    return"),
        ]
    ).nats
    assert whole == pytest.approx(first + rest)


def test_a_gap_is_filled_from_what_stands_before_it(prepared, tmp_path):
    _, examinee = opened(NGram(4), prepared, tmp_path / "model")
    one, other, continued = examinee.score(
        [
            TextQuestion("infill", "def f1", "2(x)", ":\n"),
            TextQuestion("infill", "def f1", "2(x)", " something else"),
            TextQuestion("continue", "def f1", "2(x)", ends=False),
        ]
    ).nats
    assert one == other == continued


def test_uniform_and_unigram_are_what_their_names_say(prepared, tmp_path):
    words = words_of(prepared.tokenizer)
    _, uniform = opened(Uniform(), prepared, tmp_path / "uniform")
    _, unigram = opened(Unigram(), prepared, tmp_path / "unigram")
    question = TextQuestion("continue", "", "x)x")
    assert uniform.score([question]).nats[0] == pytest.approx(4 * math.log(len(words)))
    counts = np.bincount(prepared.train.tokens, minlength=prepared.tokenizer.vocabulary_size) + 1
    ids = [*prepared.tokenizer.encode("x)x"), prepared.tokenizer.end_of_text]
    expected = -np.log(counts[ids] / (len(prepared.train) + len(words))).sum()
    assert unigram.score([question]).nats[0] == pytest.approx(expected)


def test_no_questions_have_no_answers(prepared, tmp_path):
    assert len(opened(Unigram(), prepared, tmp_path / "model")[1].score([]).nats) == 0


def test_fewer_tokens_are_read_on_request(prepared, tmp_path):
    fit, _ = opened(NGram(2, tokens=100), prepared, tmp_path / "model")
    assert fit.bytes == 100


def test_the_key_that_is_wrong_is_named_as_the_user_wrote_it(ask):
    node = {"_target_": "ntp.baselines.maxent.MaxEnt", "order": 40}
    with pytest.raises(ConfigError, match=r"^baseline\.mine\.order: 40 is too high for \d+ tokens"):
        ask({"mine": node})


def test_a_level_that_does_not_exist_is_named_as_the_user_wrote_it(ask):
    node = {"_target_": "ntp.baselines.compressors.Compressor", "format": "xz", "level": 10}
    with pytest.raises(ConfigError, match=r"^baseline\.mine: level 10 is higher than the highest of xz, 9"):
        ask({"mine": node})


@pytest.mark.parametrize("name", sorted(one.stem for one in (CONF / "baseline").glob("*.yaml")))
def test_every_option_is_a_baseline_that_answers(ask, name):
    small = {"examples": 500, "iterations": 5} if name == "maxent" else {}
    node = {**option(name), **small}
    exam = {"continue": {**CONTINUE["continue"], "windows": 1}}
    (one,), _ = ask({name: node}, exam)
    assert one.name == name
    assert 0 < one.results[0].result.measures["bits_per_byte"].value < 10


def test_an_exam_that_is_made_of_another_is_not_taken_twice(ask):
    exams = {"write": {"_target_": "ntp.evaluation.exams.generation.Continuations", "documents": 2}}
    first, again = ([one.results[0] for one in ask(exams=exams)[0]] for _ in range(2))
    assert [one.seconds for one in first] == [one.seconds for one in again]
    assert all(one.identity["exam"]["places"]["windows"] and " at 0x" not in str(one.identity) for one in first)


def test_what_was_graded_by_another_version_is_graded_again(ask, monkeypatch):
    ask()
    monkeypatch.setattr(Continue, "grading", Continue.grading + 1)
    _, said = ask()
    assert said == ["ngram takes continue", "unigram takes continue"]
