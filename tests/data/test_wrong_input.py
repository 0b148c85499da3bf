"""Text that can't be trained on: one line on stderr that names the key, and status 2."""

import gzip
import json

import pytest


def outcome_of(ntp, tiny, path, *overrides):
    return ntp("train", *(one for one in tiny if not one.startswith("data.path")), f"data.path={path}", *overrides)


def refused(outcome, *words):
    assert outcome.status == 2, outcome.stderr
    assert len(outcome.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in outcome.stderr


def test_a_missing_file(ntp, tiny, tmp_path):
    (tmp_path / "book.txt").write_text("text")
    refused(outcome_of(ntp, tiny, tmp_path / "bok.txt"), "data.path", "bok.txt", "book.txt")


def test_a_pattern_that_matches_nothing(ntp, tiny, tmp_path):
    refused(outcome_of(ntp, tiny, f"{tmp_path}/*.md"), "data.path", "*.md")


@pytest.mark.parametrize(("content", "word"), [("", "empty"), (" \n\n", "there is no text in it")])
def test_an_empty_file(ntp, tiny, tmp_path, content, word):
    (tmp_path / "empty.txt").write_text(content)
    refused(outcome_of(ntp, tiny, tmp_path / "empty.txt"), "data.path", word)


def test_bytes_that_are_not_utf8_name_the_file_and_the_byte(ntp, tiny, tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 " * 2000)
    refused(outcome_of(ntp, tiny, tmp_path / "latin.txt"), "latin.txt", "byte 0xe9 at offset 3", "data.errors=replace")
    assert outcome_of(ntp, tiny, tmp_path / "latin.txt", "data.errors=replace").status == 0


def test_a_text_shorter_than_one_row(ntp, tiny, tmp_path):
    (tmp_path / "short.txt").write_text("too short")
    refused(outcome_of(ntp, tiny, tmp_path / "short.txt"), "data.sequence_length", "too few")


def test_a_column_that_is_not_there(ntp, tiny, tmp_path):
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"body": "x" * 50, "title": "y"}) + "\n" for _ in range(10))
    refused(outcome_of(ntp, tiny, tmp_path / "a.jsonl.gz", "data.text_column=bodi"), "data.text_column", "body")


def test_a_line_that_is_no_json(ntp, tiny, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": \n')
    refused(outcome_of(ntp, tiny, tmp_path / "a.jsonl"), "a.jsonl", "line 2")


def test_a_vocabulary_too_small_for_its_alphabet(ntp, tiny):
    outcome = ntp("train", *tiny[:2], "data/tokenizer=bpe", *tiny[3:], "data.tokenizer.vocabulary_size=100")
    refused(outcome, "data.tokenizer.vocabulary_size", "393")


def test_a_tokenizer_that_is_not_there(ntp, tiny, tmp_path):
    options = ("data/tokenizer=pretrained", f"data.tokenizer.path={tmp_path}/nothing.json")
    refused(ntp("train", *tiny[:2], *options, *tiny[3:]), "data.tokenizer.path")


def test_a_dataset_that_is_not_there(ntp, tiny, tmp_path):
    refused(ntp("train", "data=hub", f"data.name={tmp_path}/nothing", *tiny[3:]), "data.name")


def test_a_package_that_is_not_installed(ntp, tiny):
    refused(ntp("train", "data=python", "data.packages=[torhc]", *tiny[3:]), "torhc", "torch")
