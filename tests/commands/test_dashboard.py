"""``ntp dashboard`` through the command line."""

import json

import pytest

pytest.importorskip("wandb_workspaces")

PLACE = ("entity=me", "project=mine", "output=dash")


def test_it_writes_the_specifications_of_workspace_and_report(ntp, trained, tmp_path):
    outcome = ntp("dashboard", f"runs=[{trained}]", *PLACE)
    assert outcome.status == 0, outcome.stderr
    assert json.loads((tmp_path / "dash" / "workspace.json").read_text())["project"] == "mine"
    assert json.loads((tmp_path / "dash" / "report.json").read_text())["spec"]["blocks"]
    assert "dash/report.json" in outcome.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("runs=[nowhere]", *PLACE), "runs: there is no directory 'nowhere'"),
        (("runs=[.]", *PLACE), "runs: . is not a run directory, and there is none below it"),
        (("runs=[]", *PLACE), "runs: there is nothing to compare"),
        (("runs=[TRAINED]", "output=dash"), "entity: the runs do not say which"),
        (("runs=[TRAINED]", *PLACE, "publish=true"), "publish: no W&B API key is configured"),
        (("runs=[TRAINED]", *PLACE, "report=none.html"), "report: none.html is not a file; `ntp compare` writes"),
        (("runs=[TRAINED]", *PLACE, "report=page"), "is not a file (did you mean 'page/report.html'?)"),
    ],
)
def test_what_is_wrong_is_one_line(ntp, trained, tmp_path, monkeypatch, arguments, said):
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "report.html").write_text("")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setattr("ntp.commands.dashboard.has_key", lambda: False)
    outcome = ntp("dashboard", *(one.replace("TRAINED", str(trained)) for one in arguments))
    assert outcome.status == 2
    assert outcome.stderr.count("\n") == 1
    assert said in outcome.stderr
