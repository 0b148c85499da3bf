"""`ntp compare`: from trained runs to a table and a report."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ntp.comparison.collect import directories
from ntp.evaluation.exams.result import read_results
from tests.comparison.made import make_arm, make_run
from tests.conftest import call

CONTINUE = {"_target_": "ntp.evaluation.exams.likelihood.Continue", "documents": 8}
LEDGER = ("steps", "rows", "tokens", "targets", "bytes", "flops", "seconds", "memory")
FEW = ("budget.steps=6", "evaluation.every_steps=3")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, tiny: tuple[str, ...], packed: tuple[str, ...]) -> Path:
    """Two objectives, two seeds each; only one of the runs has taken an exam."""
    root = tmp_path_factory.mktemp("sweep")
    for objective in ("causal", "masked_diffusion"):
        for seed in (0, 1):
            run = f"run_dir={root}/objective={objective},seed={seed}"
            outcome = call("train", *tiny, *packed, *FEW, f"objective={objective}", f"seed={seed}", run)
            assert outcome.status == 0, outcome.stderr
    first = root / "objective=causal,seed=0"
    outcome = call("evaluate", f"run={first}", "evaluation/exams=[continue]", "evaluation.exams.continue.documents=8")
    assert outcome.status == 0, outcome.stderr
    return root


def unbroken(text: str) -> str:
    """What a terminal shows, without the ends of its lines."""
    return " ".join(text.split())


def configure(*runs: Path, **exams: dict[str, Any]) -> None:
    """Let runs know what one was asked: that is nobody's own configuration, nor the exam's default."""
    for run in runs:
        content = yaml.safe_load((run / "config.yaml").read_text())
        content["evaluation"]["exams"] = {"continue": CONTINUE, **exams}
        (run / "config.yaml").write_text(yaml.safe_dump(content))


@pytest.fixture
def runs(sweep: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sweep, tmp_path / "sweep"))


def test_the_others_take_the_exam_that_one_has_taken_and_all_stand_in_one_table(ntp, runs, tmp_path):
    configure(runs / "objective=causal,seed=0")
    outcome = ntp("compare", f"runs=[{runs}]", "output=out", "baseline=[uniform,unigram]", "figures=false")
    assert outcome.status == 0, outcome.stderr
    assert outcome.stderr.count(" takes continue") == 3
    assert outcome.stderr.count(" takes exams") == 2
    digests = {one.result.digest for run in sorted(runs.iterdir()) for one in read_results(run)}
    assert len(digests) == 1
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [row["name"] for row in content["rows"]] == ["causal", "masked_diffusion", "uniform", "unigram"]
    (column,) = content["exams"]
    assert all(column["cells"][name]["estimate"] for name in ("causal", "masked_diffusion", "uniform", "unigram"))
    assert column["cells"]["causal"]["seeds"][1]["seed"] == 1
    assert column["cells"]["masked_diffusion"]["kind"] == "bound"
    assert "out/report.html" in outcome.stdout
    assert (tmp_path / "out" / "report.csv").is_file()
    # A second time nothing is taken again.
    again = ntp("compare", f"runs=[{runs}]", "output=out", "baseline=[uniform,unigram]", "figures=false")
    assert " takes " not in again.stderr


def rewrite(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_result_of_another_step_does_not_stand_for_the_last_one(ntp, runs, tmp_path):
    configure(first := runs / "objective=causal,seed=0")
    (file,) = (first / "exams").glob("*.json")
    identity = json.loads(file.read_text())["identity"] | {"precision": "bf16-true"}
    rewrite(file, step=3, identity=identity)
    file.rename(file.with_name(file.name.replace("-6.json", "-3.json")))
    shutil.copytree(second := runs / "objective=causal,seed=1", tmp_path / "twin")
    arguments = (f"runs=[{first},{second},twin]", "output=null", "baselines=false")
    for setting in ("evaluate=false", "checkpoint=best"):
        outcome = ntp("compare", *arguments, setting)
        assert f"{first.relative_to(tmp_path)} takes" not in outcome.stderr
        assert f"{first.relative_to(tmp_path)}: the result is of step 3, the run has done 6" in unbroken(outcome.stdout)
    shutil.rmtree(second / "exams")
    outcome = ntp("compare", *arguments)
    assert outcome.stderr.count(" takes continue") == 2
    assert "twin takes" not in outcome.stderr
    assert "the result is of step" not in unbroken(outcome.stdout)
    assert [one.step for one in read_results(first)] == [3, 6]
    # As rough as the only result that there was.
    assert read_results(first)[-1].identity["precision"] == "bf16-true"
    assert " takes " not in ntp("compare", *arguments).stderr


def test_nobody_is_measured_more_roughly_than_the_finest_of_the_others(ntp, runs):
    configure(first := runs / "objective=causal,seed=0")
    (file,) = (first / "exams").glob("*.json")
    identity = json.loads(file.read_text())["identity"]
    rough = file.with_name(file.name.replace("-6.json", "-3.json"))
    rough.write_text(file.read_text())
    rewrite(rough, step=3, identity=identity | {"precision": "bf16-true"})
    second = runs / "objective=causal,seed=1"
    outcome = ntp("compare", f"runs=[{first},{second}]", "output=null", "baselines=false")
    assert outcome.status == 0, outcome.stderr
    assert [one.identity["precision"] for one in read_results(second)] == [identity["precision"]] == ["32-true"]


def test_what_can_not_be_kept_is_said_and_compared(ntp, runs):
    configure(runs / "objective=causal,seed=0")
    (runs / "objective=causal,seed=1" / "exams").write_text("a file")
    outcome = ntp("compare", f"runs=[{runs}]", "output=null", "baselines=false")
    assert outcome.status == 0, outcome.stderr
    said = unbroken(outcome.stdout)
    assert "results of exams can't be written to" in said
    assert "(it is a file)" in said
    assert "1 of its 2 runs" not in said


def test_an_exam_that_can_not_be_made_again_leaves_a_gap_that_is_said(ntp, runs):
    outcome = ntp("compare", f"runs=[{runs}]", "output=null", "baselines=false")
    assert outcome.status == 0, outcome.stderr
    assert "the exam of the others can't be made here" in unbroken(outcome.stdout)


def test_without_evaluation_gaps_stay_and_nothing_is_written(ntp, runs, tmp_path):
    outcome = ntp("compare", f"runs=[{runs}]", "output=null", "baselines=false", "evaluate=false")
    assert outcome.status == 0, outcome.stderr
    assert "1 of its 2 runs has taken it" in unbroken(outcome.stdout)
    assert "has not taken this exam" in unbroken(outcome.stdout)
    assert {path.name for path in tmp_path.iterdir()} == {"sweep"}


def test_an_exam_that_nobody_has_taken_is_taken_when_it_is_named(ntp, runs, tmp_path):
    shutil.rmtree(runs / "objective=causal,seed=0" / "exams")
    arguments = ("output=out", "baselines=false", "figures=false", "draws=2")
    outcome = ntp("compare", f"runs=[{runs}]", "exams=[any_order]", *arguments)
    assert outcome.status == 0, outcome.stderr
    (column,) = json.loads((tmp_path / "out" / "report.json").read_text())["exams"]
    assert column["cells"]["causal"]["reason"] == "it has no native means to any order"
    assert column["cells"]["masked_diffusion"]["text"].startswith("≤ ")


def test_two_runs_of_other_seeds_are_one_arm_and_of_equal_seeds_one_run(ntp, runs):
    places = ",".join(str(runs / f"objective=causal,seed={seed}") for seed in (0, 1))
    outcome = ntp("compare", f"runs=[{places}]", "output=null", "baselines=false", "evaluate=false")
    assert outcome.status == 0, outcome.stderr
    assert "1 arm, 2 runs, 2 seeds each" in outcome.stdout


def test_a_run_that_is_named_twice_counts_once_and_that_is_said(ntp, runs):
    one = runs / "objective=causal,seed=0"
    for also in (one, f"{one}/.", runs):
        outcome = ntp("compare", f"runs=[{one},{also}]", "output=null", "baselines=false", "evaluate=false")
        assert outcome.status == 0, outcome.stderr
        said = unbroken(outcome.stdout)
        assert "sweep/objective=causal,seed=0: named more than once in runs, counts once" in said
        assert ("1 arm, 1 run, 1 seed each" in said) == (also != runs)
    assert "2 arms, 4 runs, 2 seeds each" in said


def test_no_exams_are_none(ntp, runs, tmp_path):
    outcome = ntp("compare", f"runs=[{runs}]", "output=out", "figures=false", "exams=[]")
    assert outcome.status == 0, outcome.stderr
    assert outcome.stderr == ""
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["exams"] == []
    assert [row["name"] for row in content["rows"]] == ["causal", "masked_diffusion"]
    assert all(content["ledger"]["causal"][name]["mean"] > 0 for name in LEDGER)


def test_a_result_that_can_not_be_read_is_said(ntp, runs):
    (file,) = (runs / "objective=causal,seed=0" / "exams").glob("*.json")
    file.write_text(file.read_text()[:200])
    outcome = ntp("compare", f"runs=[{runs}]", "output=null", "baselines=false", "evaluate=false")
    assert outcome.status == 0, outcome.stderr
    assert f"{file.relative_to(runs.parent)} can't be read and is left out (JSONDecodeError" in unbroken(outcome.stdout)


def test_an_exam_that_can_not_be_made_is_left_out_and_why(ntp, runs, tmp_path):
    wanted = "exams=[continue,length_extrapolation,probe]"
    arguments = ("output=out", "figures=false", "baselines=false")
    configure(*runs.iterdir(), probe={"_target_": "ntp.evaluation.exams.probe.Probe", "layer": 99})
    outcome = ntp("compare", f"runs=[{runs}]", wanted, *arguments)
    assert outcome.status == 0, outcome.stderr
    said = unbroken(outcome.stdout)
    assert said.count("length_extrapolation: there is nothing to ask about ") == 1
    assert said.count("probe: there is no layer 99: ") == 1
    assert said.count(", so no run can take it") == 2
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [one["exam"] for one in content["exams"]] == ["continue"]
    assert all(content["exams"][0]["cells"][name]["estimate"] for name in ("causal", "masked_diffusion"))


def test_a_baseline_that_is_not_for_such_data_is_left_out_in_one_line(ntp, runs, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    configure(first := runs / "objective=causal,seed=0")
    causal = f"runs=[{first}]"
    one = ("exams=[continue]", "output=null", "baseline=[uniform,maxent]", "baseline.maxent.examples=321")
    for setting, expected in (
        ("baseline.maxent.most_classes=3", "too many classes for a logistic regression"),
        ("baseline.maxent.most_classes=512", 'pip install "ntp[exams]"'),
    ):
        outcome = ntp("compare", causal, *one, setting, "evaluate=false")
        assert outcome.status == 0, outcome.stderr
        (said,) = re.findall("no baseline maxent: .*", unbroken(outcome.stdout))
        assert expected in said
        assert "uniform" in outcome.stdout


def test_baselines_stand_beside_the_runs_unless_told_not_to(ntp, runs, tmp_path):
    configure(first := runs / "objective=causal,seed=0")
    arguments = (f"runs=[{first}]", "exams=[continue]", "output=out", "figures=false")
    outcome = ntp("compare", *arguments, "baseline.maxent.examples=400", "baseline.ngram.order=2")
    assert outcome.status == 0, outcome.stderr
    names = ["causal", "uniform", "unigram", "ngram", "maxent", "xz_primed"]
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [row["name"] for row in content["rows"]] == names
    assert all(content["exams"][0]["cells"][name]["estimate"] for name in names)


def test_runs_that_differ_by_nothing_but_luck_are_not_resolved_and_a_better_arm_is(ntp, tiny, packed, tmp_path):
    """Three arms: two that learn alike, to the last digits of their learning rate, and one that hardly learns."""
    more = ("budget.steps=20", "evaluation.every_steps=null", "schedule=constant")
    for name, rate, seeds in (("a", 1e-2, (0, 1, 2)), ("b", 1.0000001e-2, (3, 4, 5)), ("c", 1e-5, (0, 1, 2))):
        for seed in seeds:
            setting = (f"optimizer.learning_rate={rate}", f"seed={seed}", f"run_dir=runs/{name}{seed}")
            outcome = ntp("train", *tiny, *packed, *more, *setting, "evaluation/exams=[continue]")
            assert outcome.status == 0, outcome.stderr
    # Two runs of one configuration.
    outcome = ntp("compare", "runs=[runs/a0,runs/a1]", "output=null", "baselines=false")
    assert outcome.status == 0, outcome.stderr
    assert "seeds 0 and 1 of causal: not resolved: " in unbroken(outcome.stdout)
    assert " better than " not in outcome.stdout
    outcome = ntp("compare", "runs=[runs]", "output=out", "figures=false", "baselines=false")
    assert outcome.status == 0, outcome.stderr
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    names = ["learning_rate=1e-05", "learning_rate=0.01", "learning_rate=0.010000001"]
    assert [row["name"] for row in content["rows"]] == names
    (column,) = content["exams"]
    verdicts = {frozenset((one["first"], one["second"])): one["verdict"] for one in column["pairs"]}
    assert verdicts[frozenset(names[1:])].startswith("not resolved")
    assert verdicts[frozenset((names[0], names[1]))].startswith(
        "learning_rate=0.01 better than learning_rate=1e-05 by "
    )
    assert verdicts[frozenset((names[0], names[2]))].startswith("learning_rate=0.010000001 better than ")
    assert not any(cell["best"] for cell in column["cells"].values())
    outcome = ntp("compare", "runs=[runs/a*,runs/c*]", "output=out", "figures=false", "baselines=false")
    assert outcome.status == 0, outcome.stderr
    (column,) = json.loads((tmp_path / "out" / "report.json").read_text())["exams"]
    assert [name for name, cell in column["cells"].items() if cell["best"]] == ["learning_rate=0.01"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("runs=[nowhere]",), "runs: there is no directory 'nowhere'"),
        (
            ("runs=[good]", "exams=[continued]"),
            "no run has taken 'continued', and there is no evaluation/exams=continued (did you mean 'continue'?)",
        ),
        (("runs=[good]", "match=flop"), "match: "),
        (("runs=[good,half]",), "half is half-written"),
        (("runs=[good]", "reference=casual", "evaluate=false"), "did you mean 'causal'?"),
        (("runs=[good]", "output=good/config.yaml", "evaluate=false"), "output: good/config.yaml can't be written"),
    ],
)
def test_what_can_not_be_compared_is_one_line(ntp, tmp_path, arguments, expected):
    (good,) = make_arm(tmp_path, "good", 1, 2.0)
    good.rename(tmp_path / "good")
    (make_run(tmp_path / "half") / "summary.json").write_text("{")
    outcome = ntp("compare", *arguments, "baselines=false")
    assert outcome.status == 2
    assert expected in outcome.stderr
    assert len(outcome.stderr.strip().splitlines()) == 1


def test_directories_with_commas_and_equals_signs_are_found_in_a_list(tmp_path):
    names = [tmp_path / "objective=causal,seed=0", tmp_path / "plain"]
    for path in names:
        path.mkdir()
    assert directories(f"[{names[0]},{names[1]}]") == [str(one) for one in names]
    assert directories(str(names[0])) == [str(names[0])]
    assert directories(["a", "b"]) == ["a", "b"]
    assert directories("[no,where]") == ["no", "where"]
