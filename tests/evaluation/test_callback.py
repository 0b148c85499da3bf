"""Exams while a model is trained: the same numbers as afterwards, and training does not notice."""

import math
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from ntp.evaluation.exams.result import StoredResult, read_results
from ntp.testing import Interruption, certify_resume
from ntp.testing.comparison import read_outcome
from tests.conftest import call, read_metrics, read_summary, spawn
from tests.training.going_on import assert_equal, go_on, interrupt, watched
from tests.training.several import DDP, FSDP, stopped_at

EXAMS = (
    "evaluation/exams=[continue,infill]",
    "evaluation.exams.continue.documents=12",
    "evaluation.exams.continue.windows=1",
    "evaluation.exams.infill.documents=12",
    "evaluation.exams.infill.windows=1",
    "evaluation.exams_draws=2",
)
EVERY = (
    "evaluation/exams=[continue,infill,cloze,any_order,minimal_pairs,probe,generation,calibration]",
    *(f"evaluation.exams.{exam}.documents=12" for exam in ("continue", "infill", "cloze", "any_order", "calibration")),
    *(f"evaluation.exams.{exam}.documents=6" for exam in ("continuations", "infillings")),
    "evaluation.exams.infillings.gaps=[span]",
    "evaluation.exams.minimal_pairs.pairs=2",
    "evaluation.exams_draws=2",
)
SHAPE = ("data.sequence_length=64", "budget.steps=5", "model.dropout=0.1", "evaluation.sample_tokens=0")
OFTEN = (*EXAMS, "evaluation.exams_every_steps=2")


def exam_lines(run: Path) -> list[dict]:
    """Step and exam numbers of the lines of metrics that have some."""
    lines = read_metrics(run)
    kept = [
        {name: value for name, value in line.items() if name == "step" or name.startswith("exam/")} for line in lines
    ]
    return [line for line in kept if len(line) > 1]


@pytest.fixture(scope="module")
def shape(tiny, packed):
    return (*tiny, *packed, *SHAPE)


@pytest.fixture(scope="module")
def examined(shape, tmp_path_factory) -> Path:
    """A run of a diffusion model that takes exams at steps 2, 4 and 5."""
    run = tmp_path_factory.mktemp("examined") / "run"
    outcome = call("train", *shape, *OFTEN, *watched(run), "objective=masked_diffusion", f"run_dir={run}")
    assert outcome.status == 0, outcome.stderr
    assert "continue (" in outcome.stderr
    assert "every 2 steps and at the end" in outcome.stderr
    assert "exams at step 5" in outcome.stdout
    return run


def test_exams_are_taken_as_often_as_was_asked_and_at_the_end(examined):
    assert [line["step"] for line in exam_lines(examined)] == [2, 2, 4, 4, 5, 5]
    taken = {(one.result.exam, one.step) for one in read_results(examined)}
    assert taken == {(exam, step) for exam in ("continue", "infill") for step in (2, 4, 5)}


def test_every_number_is_in_the_metrics_with_its_error(examined):
    by_step = {(one.result.exam, one.step): one.result for one in read_results(examined)}
    for line in exam_lines(examined):
        exam = next(name for name in line if name != "step").split("/")[1]
        result = by_step[exam, line["step"]]
        expected = {f"exam/{exam}/{name}": one.value for name, one in result.measures.items()}
        expected |= {f"exam/{exam}/{name}_stderr": one.standard_error for name, one in result.measures.items()}
        assert {name: value for name, value in line.items() if name != "step"} == expected
        assert all(math.isfinite(value) and value > 0 for value in expected.values())


def test_the_summary_has_the_last_numbers_and_their_kinds(examined):
    summary, last = read_summary(examined), exam_lines(examined)[-2:]
    for line in last:
        assert {name: summary[name] for name in line if name != "step"} == {
            name: value for name, value in line.items() if name != "step"
        }
    assert summary["exam/continue/likelihood"] == summary["exam/infill/likelihood"] == "bound"


def test_the_numbers_are_those_that_evaluation_gives_afterwards(ntp, examined, tmp_path):
    run = shutil.copytree(examined, tmp_path / "run")
    before = {one.result.exam: one for one in read_results(run) if one.step == 5}
    shutil.rmtree(run / "exams")
    outcome = ntp("evaluate", f"run={run}", "checkpoint=last", *EXAMS[:-1], "draws=2")
    assert outcome.status == 0, outcome.stderr
    after = {one.result.exam: one for one in read_results(run)}
    assert before.keys() == after.keys()
    for name, one in after.items():
        assert one.result.to_json() == before[name].result.to_json()
        assert (one.step, one.identity) == (5, before[name].identity)


def test_training_does_not_notice_exams(examined, shape, tmp_path):
    plain = tmp_path / "run"
    assert call("train", *shape, *watched(plain), "objective=masked_diffusion", f"run_dir={plain}").status == 0
    with_exams, without = (read_outcome(run, run.with_name("run-notes")).trace for run in (examined, plain))
    assert (with_exams.rows, with_exams.losses) == (without.rows, without.losses)
    (one,), (other,) = with_exams.ends.values(), without.ends.values()
    assert (one["weights"], one["optimizer"], one["progress"]) == (
        other["weights"],
        other["optimizer"],
        other["progress"],
    )
    lines, others = (
        [{n: value for n, value in line.items() if n.startswith(("train/", "val/"))} for line in read_metrics(run)]
        for run in (examined, plain)
    )
    assert [line for line in lines if line] == others


def test_throughput_does_not_pay_for_exams(shape, tmp_path, monkeypatch):
    from ntp.evaluation.exams.likelihood import LikelihoodExam

    clock = {"now": 0.0}
    monkeypatch.setattr("ntp.training.module.time.perf_counter", lambda: clock["now"])
    grade = LikelihoodExam.grade

    def slow(self, exam, examinee):
        clock["now"] += 1000.0
        return grade(self, exam, examinee)

    monkeypatch.setattr(LikelihoodExam, "grade", slow)
    outcome = call("train", *shape, *OFTEN, "evaluation.every_steps=null", f"run_dir={tmp_path / 'run'}")
    assert outcome.status == 0, outcome.stderr
    seconds = [line["perf/step_seconds"] for line in read_metrics(tmp_path / "run") if "perf/step_seconds" in line]
    assert len(seconds) == 5
    assert max(seconds) < 1.0
    assert read_summary(tmp_path / "run")["progress/seconds"] < 1.0


def test_an_exam_that_does_not_fit_is_taken_with_fewer_rows_at_a_time(shape, examined, tmp_path, monkeypatch):
    from ntp.evaluation.exams.likelihood import LikelihoodExam

    asked, grade = [], LikelihoodExam.grade

    def greedy(self, exam, examinee):
        asked.append(examinee.batch_size)
        if examinee.batch_size > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return grade(self, exam, examinee)

    monkeypatch.setattr(LikelihoodExam, "grade", greedy)
    options = ("objective=masked_diffusion", "trainer.auto_micro_batch=true", f"run_dir={tmp_path / 'run'}")
    outcome = call("train", *shape, *OFTEN, *options)
    assert outcome.status == 0, outcome.stderr
    assert max(asked) > min(asked) == 1
    name = "exam/continue/bits_per_byte"
    assert read_summary(tmp_path / "run")[name] == pytest.approx(read_summary(examined)[name], rel=1e-5)


def test_an_exam_that_fits_into_no_memory_is_not_taken_and_says_so(shape, tmp_path, monkeypatch):
    from ntp.evaluation.exams.likelihood import LikelihoodExam

    def greedy(self, exam, examinee):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(LikelihoodExam, "grade", greedy)
    outcome = call("train", *shape, *OFTEN, f"run_dir={tmp_path / 'run'}")
    assert outcome.status == 0, outcome.stderr
    assert {one.result.refusal for one in read_results(tmp_path / "run")} == {"it needs more memory than there is"}


@pytest.mark.parametrize(("where", "step"), [("accumulation", 3), ("validation", 4), ("final validation", 5)])
def test_a_run_with_exams_goes_on_exactly_where_it_was(shape, examined, tmp_path, monkeypatch, where, step):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    often = (*OFTEN, "objective=masked_diffusion")
    interrupt(run, "SIGTERM", where, step)
    assert call("train", *shape, *often, *watched(run), f"run_dir={run}").status == 143
    assert {one.step for one in read_results(run)} <= {2, 4}
    assert go_on(run).status == 0
    assert_equal(examined, run)
    assert exam_lines(run) == exam_lines(examined)
    assert [one.result.to_json() for one in read_results(run)] == [
        one.result.to_json() for one in read_results(examined)
    ]


def test_a_run_with_exams_gets_its_certificate(shape):
    once = [Interruption("exception", "accumulation", 3)]
    assert certify_resume([*shape, *OFTEN, "data.sequence_length=32"], interruptions=once).equal


def test_a_run_that_was_killed_in_its_last_exam_takes_it_when_it_goes_on(shape, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, write = tmp_path / "run", StoredResult.write

    def fails(self, path):
        if self.result.exam == "infill":
            raise RuntimeError("in the middle of it")
        return write(self, path)

    monkeypatch.setattr(StoredResult, "write", fails)
    assert call("train", *shape, *EXAMS, f"run_dir={run}").status == 1
    summary = read_summary(run)
    assert summary["state"] == "failed"
    assert summary["exam/continue/bits_per_byte"] > 0
    assert [one.result.exam for one in read_results(run)] == ["continue"]
    monkeypatch.setattr(StoredResult, "write", write)
    outcome = call("train", f"resume={run}")
    assert outcome.status == 0, outcome.stderr
    assert [one.result.exam for one in read_results(run)] == ["continue", "infill"]
    assert read_summary(run)["exam/infill/likelihood"] == "exact"
    assert [line["step"] for line in exam_lines(run)] == [5, 5]


def test_a_signal_between_the_last_exams_ends_the_run_and_going_on_takes_them(shape, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, write = tmp_path / "run", StoredResult.write

    def signalled(self, path):
        os.kill(os.getpid(), signal.SIGTERM)
        return write(self, path)

    monkeypatch.setattr(StoredResult, "write", signalled)
    outcome = call("train", *shape, *EXAMS, f"run_dir={run}")
    assert outcome.status == 143
    assert "stopped by SIGTERM at step 5; go on with: ntp train resume=run" in outcome.stderr
    assert read_summary(run)["state"] == "stopped"
    assert [one.result.exam for one in read_results(run)] == ["continue"]
    monkeypatch.setattr(StoredResult, "write", write)
    assert call("train", f"resume={run}").status == 0
    assert [one.result.exam for one in read_results(run)] == ["continue", "infill"]
    assert read_summary(run)["state"] == "finished"


def test_a_run_that_is_older_than_exams_says_that_it_takes_none(shape, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    assert call("train", *shape, f"run_dir={run}").status == 0
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config["callbacks"]["exams"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    outcome = call("train", f"resume={run}", "budget.steps=6", *EXAMS)
    assert outcome.status == 0, outcome.stderr
    assert "none in this run, which has no callbacks.exams" in outcome.stderr


def test_a_run_that_began_without_exams_takes_them_if_it_is_gone_on_with_and_else_says_who_does(
    shape, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    assert call("train", *shape, f"run_dir={run}").status == 0
    refused = call("train", f"resume={run}", *EXAMS)
    assert refused.status == 2
    assert "a larger budget would go on with it; for exams alone: ntp evaluate run=" in refused.stderr
    assert f"ntp evaluate run={run} evaluation/exams=[...]" in refused.stderr
    assert "for exams alone" not in call("train", f"resume={run}").stderr
    stopped = stopped_at(run, 5, tmp_path / "stopped")
    outcome = call("train", f"resume={stopped}", *EXAMS)
    assert outcome.status == 0, outcome.stderr
    assert {one.result.exam for one in read_results(stopped)} == {"continue", "infill"}


def test_results_that_can_not_be_kept_are_said_in_one_line_before_anything_is_trained(shape, examined, tmp_path):
    run = stopped_at(examined, 4, tmp_path / "run")
    shutil.rmtree(run / "exams")
    (run / "exams").write_text("a file")
    line = f"results of exams can't be written to {run / 'exams'} (it is a file)"
    outcome = call("train", f"resume={run}")
    assert (outcome.status, outcome.stderr.splitlines()[-1]) == (2, f"ntp train: run_dir: {line}")
    assert max(entry["step"] for entry in read_metrics(run)) == 4
    evaluated = call("evaluate", f"run={run}", "checkpoint=last", *EXAMS[:-1], "draws=2")
    assert (evaluated.status, evaluated.stderr) == (0, 2 * f"{line}\n")
    assert "bits per byte" in evaluated.stdout


def test_a_larger_budget_takes_the_exams_at_its_own_end(shape, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    assert call("train", *shape, *EXAMS, f"run_dir={run}").status == 0
    outcome = call("train", f"resume={run}", "budget.steps=8", "evaluation.exams_every_steps=6")
    assert outcome.status == 0, outcome.stderr
    assert {one.step for one in read_results(run)} == {5, 6, 8}
    assert [line["step"] for line in exam_lines(run)] == [6, 6, 8, 8]


def test_what_weights_said_that_are_no_more_is_forgotten(examined, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = stopped_at(examined, 4, tmp_path / "run")
    last = read_results(run)[-1]
    replace(last, step=9).write(run)
    assert {one.step for one in read_results(run)} == {2, 4, 5, 9}
    assert go_on(run).status == 0
    assert {one.step for one in read_results(run)} == {2, 4, 5}
    assert not list((run / "exams").glob("*-9.json"))


def test_an_objective_that_can_not_take_an_exam_has_the_reason_in_its_summary(shape, tmp_path):
    run = tmp_path / "run"
    exam = ("evaluation/exams=[any_order]", "evaluation.exams.any_order.documents=2")
    outcome = call("train", *shape, *exam, f"run_dir={run}")
    assert outcome.status == 0, outcome.stderr
    summary = read_summary(run)
    assert summary["exam/any_order/refusal"] == "it has no native means to any order"
    assert "exam/any_order/likelihood" not in summary
    assert "not taken" in outcome.stdout
    assert not exam_lines(run)


@pytest.mark.parametrize("command", ["train", "check"])
def test_with_nothing_to_ask_nothing_starts(ntp, tiny, tmp_path, command):
    (tmp_path / "short.txt").write_text("\n\n".join(f"ab{number}" for number in range(300)))
    data = (f"data.path={tmp_path / 'short.txt'}", "data.document=paragraph", "data.validation=hash")
    gaps = "evaluation.exams.infill.gaps=[several_lines]"
    outcome = ntp(command, *tiny, *data, "evaluation/exams=[infill]", gaps, f"run_dir={tmp_path / 'run'}")
    assert outcome.status == 2
    assert "evaluation.exams.infill: there is nothing to ask about" in outcome.stderr
    assert "too short to have a middle" in outcome.stderr
    assert not (tmp_path / "run").exists()


def test_exams_are_part_of_the_plan(ntp, shape):
    outcome = ntp("check", *shape, *OFTEN)
    assert outcome.status == 0, outcome.stderr
    assert "infill (" in outcome.stdout
    left = ntp("check", *shape, *OFTEN, *FSDP[:3])
    assert "none in this run" in left.stdout
    assert "ntp evaluate" in left.stdout


def test_without_the_callback_no_exam_is_taken(ntp, shape, tmp_path):
    outcome = ntp("train", *shape, *OFTEN, "~callbacks.exams", f"run_dir={tmp_path / 'run'}")
    assert outcome.status == 0, outcome.stderr
    assert "none in this run, which has no callbacks.exams" in outcome.stderr
    assert not (tmp_path / "run/exams").exists()


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["causal", "mlm", "masked_diffusion"])
def test_two_processes_take_every_exam_as_one_does(pair, ntp, shape, tmp_path, objective):
    run = tmp_path / "run"
    outcome = pair("train", *shape, *EVERY, *DDP, f"objective={objective}", f"run_dir={run}", cwd=tmp_path)
    assert outcome.status == 0, outcome.stderr
    together = {one.result.exam: one for one in read_results(run)}
    assert {"continue", "infillings", "minimal_pairs", "probe", "calibration"} <= together.keys()
    assert sum(one.result.refusal is None for one in together.values()) >= 7
    logged = {name: value for line in exam_lines(run) for name, value in line.items()}
    for batch_size in (None, 3):
        shutil.rmtree(run / "exams")
        sized = () if batch_size is None else (f"batch_size={batch_size}",)
        outcome = ntp("evaluate", f"run={run}", "checkpoint=last", *EVERY[:-1], "draws=2", *sized)
        assert outcome.status == 0, outcome.stderr
        for one in read_results(run):
            exam, before = one.result.exam, together[one.result.exam]
            if batch_size is None:
                assert one.result.to_json() == before.result.to_json()
            for name, measure in one.result.measures.items():
                assert measure.value == pytest.approx(before.result.measures[name].value, rel=1e-6), (exam, name)
                assert logged[f"exam/{exam}/{name}"] == before.result.measures[name].value


@pytest.mark.slow
def test_weights_that_are_cut_leave_exams_to_evaluation(shape, tmp_path):
    run = tmp_path / "run"
    outcome = spawn("train", *shape, *OFTEN, *FSDP, f"run_dir={run}", cwd=tmp_path)
    assert outcome.status == 0, outcome.stderr
    assert "none in this run" in outcome.stderr
    assert not (run / "exams").exists()
    assert spawn("evaluate", f"run={run}", *EXAMS[:-1], cwd=tmp_path).status == 0
    assert len(read_results(run)) == 2
