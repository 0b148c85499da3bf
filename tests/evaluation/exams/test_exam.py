"""Exams are the same for everybody: a pure function of the documents and the recipe."""

import json
import random
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntp.config.errors import ConfigError
from ntp.config.schema import DataConfig
from ntp.data.corpora import Corpus, Files
from ntp.data.store import DamagedStore
from ntp.evaluation.exams.cloze import Cloze
from ntp.evaluation.exams.exam import Document, Exam, prepare_exam
from ntp.evaluation.exams.infill import Infill
from ntp.evaluation.exams.likelihood import AnyOrder, Continue
from ntp.evaluation.exams.minimal_pairs import MinimalPairs
from tests.evaluation.exams.texts import PACKED, PROGRAM, PROSE

RECIPES = [Continue, Infill, Cloze, AnyOrder]

# Made once, with Python 3.11 and numpy 2.4. Whoever changes one of them asks other questions from then on: results
# that runs have kept are no longer comparable with new ones, and `ntp.evaluation.exams.exam.FORMAT` has to change.
GOLDEN = {
    "Continue": "4e07fa4d99319823398fc8bccf3455a776b674e942a21394483534acd586fbac",
    "Infill": "a705a5ca3c55bd1fcf798645336326d9c35c491f77bde10f5dec9b793dd91748",
    "Cloze": "dd8eabbcbd07210893ce2bdbf8fa7d37d21375ecac1b9068edfbf45e30b99c67",
    "AnyOrder": "9fd82197ff9f3ec2fa99f5f653dc130e41b32ce94e9efb5a553ffad85ba01bb0",
}


def made(recipe, texts=(PROGRAM, PROSE, *PACKED)):
    return recipe.make("exam", texts)


@pytest.mark.parametrize("kind", RECIPES)
def test_an_exam_is_the_same_on_every_machine(kind):
    assert made(kind(window_bytes=256)).digest == GOLDEN[kind.__name__]


@pytest.mark.parametrize("kind", RECIPES)
def test_an_exam_does_not_depend_on_the_order_of_documents_nor_on_copies_of_them(kind):
    texts = [PROGRAM, PROSE, *PACKED, PROSE]
    random.Random(0).shuffle(texts)
    one, other = made(kind()), made(kind(), texts)
    assert one.digest == other.digest
    assert list(one.items) == list(other.items)


@pytest.mark.parametrize("kind", RECIPES)
def test_a_smaller_exam_asks_some_of_the_questions_of_a_larger_one(kind):
    small, large = made(kind(documents=5)), made(kind(documents=None))
    assert 0 < len(small.documents) <= 5 < len(large.documents)
    assert all(item in large.items for item in small.items)


def test_other_questions_have_another_digest_and_another_name_or_source_has_not():
    exam = made(Continue())
    assert made(Continue(given=0.25)).digest != exam.digest
    assert made(Continue(), [PROGRAM, PROSE]).digest != exam.digest
    assert Continue().make("other", [PROGRAM, PROSE, *PACKED], {"from": "elsewhere"}).digest == exam.digest


def test_no_document_is_in_an_exam_that_is_not_asked_about():
    exam = Infill(gaps=["several_lines"]).make("infill", ["one line", PROSE])
    assert list(exam.documents) == [Document.of(PROSE).sha256]


@given(st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_every_text_survives_being_kept(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("exam")
    exam = Continue().make("continue", texts)
    exam.save(folder)
    loaded = Exam.load(folder)
    assert loaded.digest == exam.digest
    assert {one.content for one in loaded.documents.values()} == {
        text.encode("utf-8", "surrogatepass") for text in texts
    }


@pytest.mark.parametrize("name", ["exam.json", "documents.jsonl", "items.jsonl"])
def test_an_exam_that_was_changed_is_not_read(tmp_path, name):
    made(Continue()).save(tmp_path)
    path = tmp_path / name
    content = path.read_text()
    for damaged in (content[: len(content) // 2], content.replace("1", "2", 1), ""):
        path.write_text(damaged)
        with pytest.raises(DamagedStore):
            Exam.load(tmp_path)
    path.unlink()
    with pytest.raises(DamagedStore):
        Exam.load(tmp_path)


@pytest.mark.parametrize("texts", [[], [""]], ids=["none", "empty"])
def test_without_text_there_is_nothing_to_ask(texts):
    with pytest.raises(ConfigError, match=r"evaluation.exams.mine: there is nothing to ask about 0 held-out documents"):
        Continue().make("mine", texts)


def test_documents_without_anything_to_ask_are_said_to_be_so():
    with pytest.raises(ConfigError, match="1 held-out document: they are too short to have a middle"):
        Infill().make("infill", ["ab"])
    with pytest.raises(ConfigError, match="2 held-out documents: they have no words with text around them"):
        Cloze().make("cloze", ["...", "word"])


@pytest.fixture
def data(tmp_path):
    (tmp_path / "text.txt").write_text("\n\n".join(PACKED))
    settings = {"_target_": "ntp.data.corpora.Files", "path": str(tmp_path / "text.txt"), "document": "paragraph"}
    return DataConfig(
        corpus=settings,
        tokenizer={"_target_": "ntp.data.tokenizers.Characters"},
        sequence_length=32,
        batch_size=4,
        micro_batch_size=None,
        workers=0,
        documents="concatenate",
        validation="hash",
        validation_fraction=0.3,
        repeat_first_batch=False,
        cache_dir=str(tmp_path / "cache"),
    )


@pytest.fixture
def corpus(data) -> Corpus:
    return Files(data.corpus["path"], document="paragraph")


def test_an_exam_is_made_once_and_a_damaged_one_again(data, corpus, tmp_path):
    first = prepare_exam("continue", Continue(), corpus, data)
    (entry,) = (path for path in (tmp_path / "cache/exams").iterdir() if path.is_dir())
    written = (entry / "items.jsonl").stat().st_mtime_ns
    assert prepare_exam("continue", Continue(), corpus, data).digest == first.digest
    assert (entry / "items.jsonl").stat().st_mtime_ns == written
    (entry / "items.jsonl").write_text("not a question\n")
    assert prepare_exam("continue", Continue(), corpus, data).digest == first.digest
    assert json.loads((entry / "items.jsonl").read_text().splitlines()[0])["group"] == "whole"


def test_other_arguments_or_another_split_make_another_exam(data, corpus):
    digests = {
        prepare_exam("continue", recipe, corpus, config).digest
        for recipe in (Continue(), Continue(windows=1, window_bytes=16))
        for config in (data, data.model_copy(update={"validation_fraction": 0.6}))
    }
    assert len(digests) == 4


def test_an_exam_says_where_its_text_comes_from(data, corpus):
    source = prepare_exam("continue", Continue(), corpus, data).source
    assert source["held_out"] == "hash"
    assert source["recipe"]["given"] == 0.5


def test_questions_from_a_file_need_nothing_of_the_corpus(data, corpus, tmp_path, monkeypatch):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"sentence_good": "a cat sits", "sentence_bad": "a cat sit"}) + "\n")
    monkeypatch.setattr(Files, "read", lambda self, split: pytest.fail("it was read"))
    assert len(prepare_exam("minimal_pairs", MinimalPairs(path=str(pairs)), corpus, data).items) == 1


def test_nothing_is_left_in_the_cache_when_there_is_nothing_to_ask(data, corpus, tmp_path):
    with pytest.raises(ConfigError, match="nothing to ask"):
        prepare_exam("infill", Infill(gaps=["several_lines"]), corpus, data)
    assert not [path for path in (tmp_path / "cache/exams").iterdir() if path.is_dir()]
    shutil.rmtree(tmp_path / "cache")
