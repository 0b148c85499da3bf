"""The specifications of workspace and report, built without a network."""

import json

import pytest

from ntp.config.errors import ConfigError
from ntp.tracking.dashboard import gather_facts, specifications, upload_page
from ntp.tracking.runs import read_run
from ntp.tracking.wandb_run import WandbRecord
from tests.tracking.wandb_files import of_type, read_wandb, summary

pytest.importorskip("wandb_workspaces")

NUMBER = {"value": 2.0, "standard_error": None, "unit": "bits per byte"}


def run(root, objective, seed, likelihood, exams, width=64):
    """A run directory with results of exams: name to kind, or None for one that the objective can't take."""
    path = root / "sweeps" / "study" / f"{objective},{seed},{width}"
    (path / "exams").mkdir(parents=True)
    (path / "summary.json").write_text(
        json.dumps({"state": "finished", "objective": objective, "likelihood": likelihood, "seed": seed})
    )
    config = {"seed": seed, "run_dir": str(path), "model": {"width": width}}
    (path / "config.yaml").write_text(json.dumps(config))
    for name, kind in exams.items():
        plain = {"step": 4, "exam": name, "digest": "0" * 64, "given": ["left"], "documents": ["a"], "details": {}}
        plain |= {"likelihood": kind or "none", "refusal": None if kind else "no means"}
        plain["measures"] = {"bits_per_byte": NUMBER} if kind else {}
        (path / "exams" / f"{name}-00000000-4.json").write_text(json.dumps(plain))
    record = WandbRecord.new("study", "somebody", path.name)
    record.write(path)
    return read_run(path)


@pytest.fixture
def runs(tmp_path):
    return [
        *(run(tmp_path, "causal", seed, "exact", {"continue": "exact", "any_order": None}) for seed in (0, 1)),
        run(tmp_path, "mlm", 0, "pseudo", {"continue": "bound", "any_order": "bound"}),
    ]


def panels(grid):
    return grid["metadata"]["panelBankSectionConfig"]["panels"]


def objectives(grid):
    """Whose runs a panel grid shows."""
    (runset,) = grid["metadata"]["runSets"]
    return next(one["value"] for one in runset["filters"]["filters"] if one["key"]["name"] == "jobType")


def test_facts_come_from_the_run_directories(runs):
    facts = gather_facts(runs, None, None)
    assert (facts.entity, facts.project, facts.groups) == ("somebody", "study", ("study",))
    assert facts.objectives == ("causal", "mlm")
    assert {one.name: dict(one.kinds) for one in facts.exams} == {
        "any_order": {"causal": None, "mlm": "bound"},
        "continue": {"causal": "exact", "mlm": "bound"},
    }


def test_the_workspace_groups_the_runs_of_the_sweep_by_objective(runs):
    view = specifications(gather_facts(runs, None, None))["workspace"]
    assert (view["entity"], view["project"]) == ("somebody", "study")
    section = view["spec"]["section"]
    (runset,) = section["runSets"]
    assert runset["grouping"] == [{"section": "run", "name": "jobType"}]
    assert [(one["key"]["name"], one["value"]) for one in runset["filters"]["filters"]] == [("group", ["study"])]
    sections = {one["name"]: one["panels"] for one in section["panelBankConfig"]["sections"]}
    drawn = {(one["config"]["xAxis"], *one["config"]["metrics"]) for one in sections["Validation against cost"]}
    assert {axis for axis, _ in drawn} >= {"progress/tokens", "progress/flops", "progress/seconds"}
    assert {metric for _, metric in drawn} == {"val/bits_per_byte"}
    bars = [one["config"]["chartTitle"] for one in sections["Exams"]]
    assert "continue: bits per byte (bound and exact side by side: no ranking)" in bars


def test_no_grid_of_the_report_shows_numbers_of_two_kinds(runs):
    blocks = specifications(gather_facts(runs, None, None))["report"]["spec"]["blocks"]
    kinds = {("causal", "continue"): "exact", ("mlm", "continue"): "bound", ("mlm", "any_order"): "bound"}
    grids = [one for one in blocks if one["type"] == "panel-grid"]
    seen = set()
    for grid in grids:
        metrics = {name for one in panels(grid) for name in one["config"].get("metrics", [])}
        for exam in {name.split("/")[1] for name in metrics if name.startswith("exam/")}:
            assert len({kinds[objective, exam] for objective in objectives(grid)}) == 1
            seen |= {(objective, exam) for objective in objectives(grid)}
    assert seen == kinds.keys()
    shown = {name for grid in grids for one in panels(grid) for name in one["config"].get("metrics", [])}
    assert {"progress/tokens", "progress/flops", "progress/seconds", "val/bits_per_byte"} <= shown


def test_the_report_says_which_kind_each_objective_gives(runs):
    text = json.dumps(specifications(gather_facts(runs, None, None))["report"], ensure_ascii=False)
    assert "| causal | — | exact |" in text
    assert "| mlm | ≤ bound | ≤ bound |" in text


def test_only_runs_that_differ_by_their_seed_alone_are_called_seeds(runs, tmp_path):
    said = json.dumps(specifications(gather_facts(runs, None, None))["report"])
    assert "the mean over its seeds" in said
    wider = run(tmp_path, "causal", 0, "exact", {"continue": "exact"}, width=128)
    said = json.dumps(specifications(gather_facts([*runs, wider], None, None))["report"])
    assert "over its seeds" not in said
    assert "Those of causal differ in more than their seed." in said


def test_runs_that_were_never_sent_need_a_place(runs):
    for one in runs:
        (one.path / "wandb.json").unlink()
    with pytest.raises(ConfigError, match="entity: the runs do not say which"):
        gather_facts(runs, None, "study")
    assert gather_facts(runs, "me", "mine").project == "mine"


def test_runs_in_two_projects_need_one_of_them(runs):
    WandbRecord.new("other", "somebody", "x").write(runs[0].path)
    with pytest.raises(ConfigError, match="project: the runs are in several: other, study"):
        gather_facts(runs, None, None)


def test_the_page_of_a_comparison_is_kept_as_an_artifact(tmp_path):
    folder = tmp_path / "comparison"
    (folder / "figures").mkdir(parents=True)
    (folder / "report.html").write_text("<p>result</p>")
    (folder / "figures" / "exams.svg").write_text("<svg/>")
    upload_page("me", "mine", folder / "report.html", "offline")
    (file,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    records = read_wandb(file)
    (artifact,) = [one for one in of_type(records, "artifact") if one.type == "comparison"]
    assert sorted(one.path for one in artifact.manifest.contents) == ["figures/exams.svg", "report.html"]
    assert summary(records)["report"]["_type"] == "html-file"
