"""``check=true``: the quick checks before a run."""

import pytest

from tests.conftest import read_metrics
from tests.testing.test_objectives import OBJECTIVES

WRONG = ("objective._target_=tests.testing.wrong.ShiftByZero", "allow_targets=[tests]", "check=true")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_ntp_check_proves_every_objective_on_the_text_and_the_tokenizer_of_the_run(ntp, tiny, objective):
    outcome = ntp("check", *tiny, f"objective={objective}", "data.sequence_length=64", "check=true")
    assert outcome.status == 0, outcome.stderr
    (line,) = [line for line in outcome.stdout.splitlines() if line.startswith("checks ")]
    assert "of the objective passed" in line
    assert int(line.split()[1]) > 20


def test_checks_run_only_when_they_are_asked_for(ntp, tiny):
    assert "of the objective passed" not in ntp("check", *tiny).stdout


@pytest.mark.parametrize("command", ["check", "train"])
def test_a_rule_that_does_not_hold_is_said_in_one_line_and_nothing_starts(ntp, tiny, tmp_path, command):
    outcome = ntp(command, *tiny, *WRONG, "run_dir=run")
    assert outcome.status == 2
    (line,) = outcome.stderr.strip().splitlines()
    assert line.startswith(f"ntp {command}: objective: breaks ")
    assert "no_target_is_seen" in line
    assert "look for: " in line
    assert not (tmp_path / "run").exists()


def test_a_checked_run_trains_to_the_same_losses(ntp, tiny, tmp_path):
    options = (*tiny, "objective=masked_diffusion")
    checked = ntp("train", *options, "check=true", "run_dir=checked")
    assert checked.status == 0, checked.stderr
    assert "of the objective passed" in checked.stderr
    assert ntp("train", *options, "run_dir=plain").status == 0
    losses = [
        [line.get("train/loss", line.get("val/loss")) for line in read_metrics(tmp_path / name)]
        for name in ("checked", "plain")
    ]
    assert losses[0] == losses[1]


def test_long_rows_are_checked_in_short(ntp, tiny, monkeypatch):
    from ntp.testing import preflight

    seen = []

    class Noting(preflight.Bench):
        def __init__(self, *arguments, **options):
            seen.append((options["sequence_length"], len(options["corpus"].tokens)))
            super().__init__(*arguments, **options)

    monkeypatch.setattr(preflight, "Bench", Noting)
    assert ntp("check", *tiny, "data.sequence_length=1000", "check=true").status == 0
    (length, tokens) = seen[0]
    assert length == 128
    assert tokens <= 64 * 1001
