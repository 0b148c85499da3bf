"""`ntp evaluate evaluation/exams=[...]`: a trained run takes exams."""

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers, trainers

from ntp.evaluation.exams.result import read_results
from tests.conftest import TEXT, call, read_metrics

SMALL = ("evaluation.exams.continue.documents=6", "evaluation.exams.continue.window_bytes=200")
CONTINUE = ("evaluation/exams=[continue]", *SMALL)


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "copy")


@pytest.fixture(scope="module")
def diffused(tiny, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("diffused") / "run"
    assert call("train", *tiny, "objective=masked_diffusion", f"run_dir={path}").status == 0
    return path


def test_the_numbers_are_printed_with_their_kind_and_kept(ntp, run):
    outcome = ntp("evaluate", f"run={run}", "evaluation/exams=[continue,infill,cloze,any_order]")
    assert outcome.status == 0, outcome.stderr
    for words in ("bits per byte", "exact, given left", "single line/bits per byte", "no native means to any order"):
        assert words in outcome.stdout
    results = {one.result.exam: one.result for one in read_results(run)}
    assert set(results) == {"continue", "infill", "cloze", "any_order"}
    assert results["any_order"].refusal is not None
    assert len(results["infill"].documents) == len(results["infill"].groups)
    assert not (run / "evaluations.jsonl").exists()


def test_the_same_exam_twice_gives_the_same_numbers_at_any_batch_size(ntp, diffused, tmp_path):
    run = shutil.copytree(diffused, tmp_path / "run")
    found = []
    for size in (1, 5, 16, 16):
        assert ntp("evaluate", f"run={run}", *CONTINUE, f"batch_size={size}").status == 0
        (stored,) = read_results(run)
        found.append(stored.result)
    values = [one.measures["bits_per_byte"].value for one in found]
    assert values == pytest.approx([values[0]] * 4, rel=1e-6)
    assert found[2].to_json() == found[3].to_json()


def test_what_is_drawn_is_drawn_several_times_and_more_draws_are_surer(ntp, diffused, tmp_path):
    run = shutil.copytree(diffused, tmp_path / "run")
    errors = []
    for draws in ((), ("draws=32",)):
        assert ntp("evaluate", f"run={run}", *CONTINUE, *draws).status == 0
        (stored,) = read_results(run)
        errors.append(stored.result.measures["bits_per_byte"].standard_error)
        assert stored.identity["draws"] == (32 if draws else 8)
    assert 0 < errors[1] < errors[0]
    assert ntp("evaluate", f"run={run}", *CONTINUE, "draws=1").status == 0
    (stored,) = read_results(run)
    assert stored.result.measures["bits_per_byte"].standard_error is None
    assert "one estimate" in stored.result.notes[-1]


def test_other_data_asks_about_what_is_held_out_of_it(ntp, run, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("\n\n".join(f"y = {number}" for number in range(400)))
    data = ("data=files", f"data.path={other}", "data.document=paragraph", "data.validation=hash")
    for text in ((), data):
        assert ntp("evaluate", f"run={run}", *CONTINUE, *text).status == 0
    digests = {one.result.digest for one in read_results(run)}
    assert len(digests) == 2


@pytest.fixture
def lower(tmp_path):
    """A tokenizer that forgets capitals and blanks, as BERT's does."""
    backend = Backend(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()
    special = ["[UNK]", "[SEP]", "[PAD]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    backend.train_from_iterator([TEXT, "x 0 1 2 3 4 5 6 7 8 9 = +"] * 3, trainer)
    path = tmp_path / "lower"
    path.mkdir()
    backend.save(str(path / "tokenizer.json"))
    names = {"eos_token": "[SEP]", "pad_token": "[PAD]", "mask_token": "[MASK]", "unk_token": "[UNK]"}
    (path / "tokenizer_config.json").write_text(json.dumps(names))
    return path


def test_tokenizers_do_not_change_the_questions(tiny, packed, lower, tmp_path):
    found = {}
    for name, options in {
        "char": (),
        "bytes": (),
        "wordpiece": ("data.tokenizer.vocabulary_size=700",),
        "pretrained": (f"data.tokenizer.path={lower}",),
    }.items():
        run = tmp_path / name
        settings = (*packed, f"data/tokenizer={name}", *options, "budget.steps=1", "evaluation.sample_tokens=0")
        outcome = call("train", *tiny, *settings, *CONTINUE, f"run_dir={run}")
        assert outcome.status == 0, outcome.stderr
        (stored,) = read_results(run)
        found[name] = stored.result
    assert len({one.digest for one in found.values()}) == 1
    assert len({tuple(one.measures["bits_per_byte"].weights) for one in found.values()}) == 1
    kinds = {name: one.likelihood for name, one in found.items()}
    assert kinds == {"char": "exact", "bytes": "exact", "wordpiece": "exact", "pretrained": "pseudo"}
    assert "does not keep all of" in found["pretrained"].caveats[-1]


def test_characters_that_a_tokenizer_does_not_know_make_its_answers_no_likelihoods(ntp, run, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("\n\n".join(f"def known(x):\n    return {number}" for number in range(60)) + "\n\ndef ünknöwn")
    held_out = ("data=files", f"data.path={other}", "data.validation=tail", "data.validation_fraction=0.1")
    outcome = ntp("evaluate", f"run={run}", *CONTINUE, *held_out)
    assert outcome.status == 0, outcome.stderr
    assert "~ " in outcome.stdout
    (stored,) = read_results(run)
    assert stored.result.likelihood == "pseudo"


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("split=all", "split: exams are about what is held out"),
        ("split=validation", "split: exams are about what is held out"),
        ("rows=4", "rows: exams ask questions; fewer of them with evaluation.exams.<exam>.documents"),
    ],
)
def test_what_only_the_loss_knows_is_refused_for_exams(ntp, run, option, problem):
    outcome = ntp("evaluate", f"run={run}", *CONTINUE, option)
    assert outcome.status == 2
    assert problem in outcome.stderr


@pytest.mark.parametrize("name", ["[continu]", "[continue,infil]"])
def test_an_exam_that_there_is_not_is_refused_with_the_nearest(ntp, run, name):
    outcome = ntp("evaluate", f"run={run}", f"evaluation/exams={name}")
    assert outcome.status == 2
    wrong = name.strip("[]").split(",")[-1]
    assert f"there is no '{wrong}' (did you mean '" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1


def test_an_argument_that_there_is_not_is_refused_with_the_nearest(ntp, run):
    outcome = ntp("evaluate", f"run={run}", *CONTINUE, "+evaluation.exams.continue.window=3")
    assert outcome.status == 2
    assert "Continue takes no such argument (did you mean 'windows'?)" in outcome.stderr


def test_with_nothing_to_ask_the_reason_is_said(ntp, run, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("\n\n".join(f"ab{number}" for number in range(100)))
    data = ("data=files", f"data.path={other}", "data.document=paragraph", "data.validation=hash")
    lines = "evaluation.exams.infill.gaps=[single_line]"
    outcome = ntp("evaluate", f"run={run}", "evaluation/exams=[infill]", lines, *data)
    assert outcome.status == 2
    assert "evaluation.exams.infill: there is nothing to ask about" in outcome.stderr


def test_bfloat16_is_close_and_said_in_the_result(ntp, run):
    values = []
    for precision in ("32-true", "bf16-mixed", "bf16-true"):
        assert ntp("evaluate", f"run={run}", *CONTINUE, f"precision={precision}").status == 0
        (stored,) = read_results(run)
        assert stored.identity["precision"] == precision
        values.append(stored.result.measures["bits_per_byte"].value)
    assert values == pytest.approx([values[0]] * 3, rel=0.01)
    assert len(set(values)) == 3


def test_a_damaged_result_is_left_out_with_a_line_that_says_so(ntp, run):
    assert ntp("evaluate", f"run={run}", "evaluation/exams=[continue,cloze]").status == 0
    first, second = sorted((run / "exams").glob("*.json"))
    first.write_text(first.read_text()[:100])
    damaged: list[str] = []
    assert [one.result.exam for one in read_results(run, damaged)] == ["continue"]
    assert len(damaged) == 1
    assert first.name in damaged[0]
    second.write_text(json.dumps([1]))
    assert read_results(run) == []


def test_a_result_is_the_same_when_it_is_read_again(ntp, diffused, tmp_path):
    run = shutil.copytree(diffused, tmp_path / "run")
    assert ntp("evaluate", f"run={run}", "evaluation/exams=[infill]").status == 0
    (path,) = (run / "exams").glob("*.json")
    (stored,) = read_results(run)
    path.unlink()
    assert stored.write(run) == path
    (again,) = read_results(run)
    assert again.result.to_json() == stored.result.to_json()


def test_a_run_directory_that_can_not_be_written_shows_the_numbers(ntp, run, monkeypatch):
    def full(self, run):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ntp.evaluation.exams.result.StoredResult.write", full)
    outcome = ntp("evaluate", f"run={run}", *CONTINUE)
    assert outcome.status == 0
    assert "bits per byte" in outcome.stdout
    assert outcome.stderr == f"results of exams can't be written to {run / 'exams'} (No space left on device)\n"


def test_exams_leave_the_metrics_of_the_run_alone(ntp, run):
    before = read_metrics(run)
    assert ntp("evaluate", f"run={run}", *CONTINUE).status == 0
    assert read_metrics(run) == before
