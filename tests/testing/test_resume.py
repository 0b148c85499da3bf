"""The certificate of resuming: given to every objective, refused to what forgets."""

import json
import os
from pathlib import Path

import pytest

from ntp.config.errors import ConfigError
from ntp.testing import CertificateError, Interruption, certify_resume
from tests.testing.test_objectives import OBJECTIVES

ONCE = [Interruption("exception", "accumulation", 3)]
DDP = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")


def forgetful(name: str) -> tuple[str, str]:
    return f"objective._target_=tests.testing.forgetful.{name}", "allow_targets=[tests]"


def callback(name: str) -> tuple[str, str]:
    return f"+callbacks.own._target_=tests.testing.forgetful.{name}", "allow_targets=[tests]"


@pytest.fixture
def refused(tiny):
    """The certificate that a configuration does not get, and what is said of it."""

    def refuse(*overrides, **options):
        with pytest.raises(CertificateError) as caught:
            certify_resume([*tiny, *overrides], **({"interruptions": ONCE} | options))
        assert not caught.value.certificate.equal
        return str(caught.value)

    return refuse


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_is_certified(tiny, objective):
    certificate = certify_resume([*tiny, f"objective={objective}", "data.sequence_length=64"])
    assert certificate.equal
    assert len(certificate.interruptions) == 6
    assert all(count > 0 for count in certificate.compared.values())


@pytest.mark.parametrize(
    "options",
    [
        ("model.dropout=0.2", "optimizer=muon"),
        ("trainer.precision=bf16-mixed", "callbacks.checkpoint.asynchronous=true"),
        ("data.documents=isolate", "schedule=wsd", "data.batch_size=1", "budget.steps=null", "budget.minutes=5"),
        (
            "+callbacks.own._target_=lightning.pytorch.callbacks.EarlyStopping",
            "+callbacks.own.monitor=val/loss",
            "+callbacks.own.patience=1",
            "+callbacks.own.min_delta=10.0",
        ),
    ],
    ids=["dropout-muon", "bfloat16-asynchronous", "isolated-single-clock", "ended-early"],
)
def test_other_settings_are_certified_too(tiny, packed, options):
    assert certify_resume([*tiny, *packed, *options]).equal


@pytest.mark.parametrize("name", ["CountsRows", "OwnGenerator"])
def test_rows_that_depend_on_what_was_made_before_are_refused(refused, name):
    said = refused(*forgetful(name))
    assert "rows differ at step 3, micro-batch 0 (weights)" in said
    assert "objective.rows" in said or "objective.generator" in said
    assert "which no checkpoint keeps" in said


def test_a_loss_that_depends_on_a_count_is_refused_at_its_first_wrong_step(refused):
    said = refused(*forgetful("CountsLosses"))
    assert said.startswith("the loss differs at step 7, micro-batch 0: ")
    assert "objective.calls: 16, and " in said


def test_what_an_objective_forgets_is_refused_before_it_matters_and_can_be_ignored(refused, tiny):
    said = refused(*forgetful("CountsForLater"))
    assert said.startswith("objective.rows: ")
    assert "no checkpoint keeps it" in said
    certify_resume([*tiny, *forgetful("CountsForLater")], interruptions=ONCE, ignore=["objective.rows"])


def test_a_callback_that_forgets_is_refused_and_one_that_saves_is_not(refused, tiny):
    said = refused(*callback("Averages"))
    assert said.startswith("callbacks.Averages.mean: ")
    assert certify_resume([*tiny, *callback("AveragesAndSaves")], interruptions=ONCE).equal


@pytest.mark.parametrize(
    "part", [forgetful("KeepsItsCount"), callback("Clock"), callback("Noise")], ids=["buffer", "clock", "noise"]
)
def test_what_is_kept_or_has_to_do_with_the_clock_only_is_certified(tiny, part):
    assert certify_resume([*tiny, *part], interruptions=ONCE).equal


def test_weights_that_a_callback_puts_in_for_validation_are_not_mistaken_for_those_that_are_trained(tiny):
    averaging = "+callbacks.own._target_=lightning.pytorch.callbacks.EMAWeightAveraging"
    # In a validation in front of which weights were exchanged nothing is saved; it is finished first.
    chain = [Interruption("SIGTERM", "validation", 3), Interruption("SIGTERM", "accumulation", 6)]
    assert certify_resume([*tiny, averaging], interruptions=chain).equal


def test_what_is_never_the_same_twice_is_told_from_what_is_forgotten(refused):
    said = refused(*forgetful("Unsteady"))
    assert said.startswith("the loss differs at step 1, micro-batch 0: ")
    assert "does not repeat itself" in said


def test_runs_that_differ_are_kept_and_others_removed(refused, tiny, tmp_path):
    certify_resume(tiny, directory=tmp_path / "equal", interruptions=ONCE)
    assert not list((tmp_path / "equal").iterdir())
    refused(*forgetful("CountsRows"), directory=tmp_path / "different")
    assert (tmp_path / "different/interrupted/metrics.jsonl").is_file()
    assert (tmp_path / "different/uninterrupted-trace/rank-0.jsonl").is_file()


def test_what_can_not_be_certified_is_said(tiny):
    with pytest.raises(ConfigError, match=r"callbacks.checkpoint: is not there"):
        certify_resume([*tiny, "~callbacks.checkpoint"])
    with pytest.raises(ConfigError, match=r"full: 2 devices are as many processes.*full=true"):
        certify_resume([*tiny, *DDP])


def test_the_command_prints_the_certificate_and_writes_it(ntp, tiny, tmp_path):
    outcome = ntp("certify", *tiny, "logger=csv", "run_dir=proof")
    assert outcome.status == 0, outcome.stderr
    for words in ("equal to the last bit", "SIGTERM in the validation at step 3", "micro-batches", "proof/certificate"):
        assert words in outcome.stdout
    written = json.loads((tmp_path / "proof/certificate.json").read_text())
    assert written["equal"]
    assert "logger=csv" in written["overrides"]
    assert written["versions"]["torch"]
    assert os.listdir(tmp_path / "proof") == ["certificate.json"]


def test_the_command_fails_with_the_first_difference(ntp, tiny, tmp_path):
    outcome = ntp("certify", *tiny, *forgetful("CountsRows"), "run_dir=proof")
    assert outcome.status == 1
    assert outcome.stderr.startswith("ntp certify: rows differ at step 3, micro-batch 0 (weights): ")
    assert "Traceback" not in outcome.stderr
    written = json.loads((tmp_path / "proof/certificate.json").read_text())
    assert not written["equal"]
    assert "rows differ at step 3" in written["difference"]
    assert ntp("certify", *tiny, *forgetful("CountsForLater"), "ignore=[objective.rows]").status == 0


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_is_certified_in_processes_that_are_killed(tiny, objective):
    number = OBJECTIVES.index(objective)
    kill = Interruption("SIGKILL", "moment", 4 + number % 3, number / len(OBJECTIVES))
    options = [*tiny, f"objective={objective}", "data.sequence_length=64", f"data.workers={number % 2}"]
    certificate = certify_resume(options, full=True, interruptions=[kill])
    assert certificate.equal
    assert certificate.interruptions == [str(kill)]


@pytest.mark.slow(first=True)
def test_the_full_form_kills_at_every_place(tiny):
    certificate = certify_resume([*tiny, "data.workers=2"], full=True)
    assert len(certificate.interruptions) == 4


@pytest.mark.slow(first=True)
@pytest.mark.timeout(600)
@pytest.mark.parametrize("objective", ["causal", "mlm", "masked_diffusion"])
def test_two_processes_are_certified(tiny, packed, objective):
    options = [*tiny, *packed, f"objective={objective}", "data.documents=isolate", *DDP]
    kill, stop = Interruption("SIGKILL", "moment", 4, 0.5), Interruption("SIGTERM", "validation", 6)
    chain = [kill, stop] if objective == "causal" else [kill]
    assert certify_resume(options, full=True, interruptions=chain).equal


@pytest.mark.slow(first=True)
@pytest.mark.timeout(600)
def test_weights_that_are_cut_over_two_processes_are_certified(tiny):
    options = [*tiny, "trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=32-true"]
    assert certify_resume(options, full=True, interruptions=[Interruption("SIGKILL", "moment", 4, 0.5)]).equal


@pytest.mark.slow
def test_the_full_form_refuses_too(refused, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    kill = Interruption("SIGKILL", "accumulation", 6)
    assert "the loss differs at step 7" in refused(*forgetful("CountsLosses"), full=True, interruptions=[kill])
