"""`ntp baseline`: a table, results that stay, and one line for every mistake."""

import json

import pytest


@pytest.fixture
def baseline(ntp, text_file, tmp_path):
    """Run ``ntp baseline`` on the little text, with a cache of the test's own."""

    def baseline(*arguments):
        data = ("data=files", f"data.path={text_file}", "data/tokenizer=char", f"data.cache_dir={tmp_path / 'cache'}")
        return ntp("baseline", *data, *arguments)

    return baseline


def test_every_baseline_has_a_line_with_its_number_and_its_cost(baseline):
    outcome = baseline("baseline=[uniform,ngram,gzip]", "baseline.ngram.order=3")
    assert (outcome.status, outcome.stderr) == (0, "")
    lines = outcome.stdout.splitlines()
    (title,) = (one for one in lines if one.startswith("baseline "))
    assert title.split() == ["baseline", "bits", "per", "byte", "fitted", "in", "text", "read", "parameters"]
    numbers = {line.split()[0]: float(line.split()[1]) for line in lines[lines.index(title) + 1 :][:3]}
    assert list(numbers) == ["uniform", "ngram", "gzip"]
    assert numbers["ngram"] < numbers["uniform"] < 8
    assert "ngram: interpolated modified Kneser-Ney, order 3" in lines


def test_results_are_those_of_the_first_time(baseline, tmp_path):
    first = baseline("baseline=[ngram]")
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "baselines").rglob("*.*")}
    assert baseline("baseline=[ngram]").stdout == first.stdout
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "baselines").rglob("*.*")}


def test_a_copy_is_written_on_request(baseline, tmp_path):
    outcome = baseline("baseline=[unigram]", "output=there")
    assert "wrote there" in outcome.stdout
    (result,) = (tmp_path / "there" / "unigram" / "exams").glob("continue-*-0.json")
    assert json.loads(result.read_text())["likelihood"] == "exact"
    assert json.loads((tmp_path / "there" / "unigram" / "baseline.json").read_text())["name"] == "unigram"


def test_what_is_not_for_such_a_vocabulary_is_named_and_does_not_stop_the_others(baseline):
    outcome = baseline("baseline=[maxent,unigram]", "baseline.maxent.most_classes=10")
    assert (outcome.status, outcome.stderr) == (0, "")
    assert "maxent is not here: " in outcome.stdout
    assert "too many classes for a logistic regression" in " ".join(outcome.stdout.split())
    assert "unigram: how often each token occurs, add-one" in outcome.stdout


def test_a_baseline_that_is_wrongly_asked_for_stops_all(baseline):
    outcome = baseline("baseline=[unigram,maxent]", "baseline.maxent.order=40")
    assert outcome.status == 2
    assert outcome.stderr.startswith("ntp baseline: baseline.maxent.order: 40 is too high for ")


def test_an_exam_that_cannot_be_taken_says_why(baseline):
    outcome = baseline("baseline=[unigram]", "evaluation/exams=[continue,any_order]")
    assert outcome.status == 0
    assert "any_order not taken: it has no native means to any order" in outcome.stdout


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["baseline=[]"], "baseline: names none; choose some, such as baseline=[ngram,xz]"),
        (["evaluation/exams=[]"], "evaluation.exams: names none; choose some, such as evaluation/exams=[continue]"),
        (["baseline=[ngram]", "baseline.ngram.oder=3"], "oder"),
        (["baseline=[ngram]", "baseline.ngram.order=0"], "baseline.ngram.order: should be greater than 0, not 0"),
        (["baseline=[ngrams]"], "ngram"),
        (["baseline=[maxent]", "baseline.maxent.most_classes=10"], "data.tokenizer: "),
        (["baseline=[maxent]", "baseline.maxent.order=1"], "baseline.maxent: order 1 reads nothing"),
        (["baseline=[ngram]", "data.path=nowhere.txt"], "data.path: "),
        (["baseline=[uniform]", "output=there/file"], "output: there/file can't be written (there is a file)"),
    ],
)
def test_a_mistake_is_one_line(baseline, tmp_path, arguments, problem):
    (tmp_path / "there").write_text("")
    outcome = baseline(*arguments)
    assert outcome.status == 2
    assert outcome.stderr.count("\n") == 1
    assert problem in outcome.stderr
