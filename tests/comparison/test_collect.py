"""Runs, sweeps and patterns: what is found, and what is left out and why."""

import json
import shutil

import pytest

from ntp.comparison.collect import collect
from ntp.config.errors import ConfigError
from tests.comparison.made import give_result, make_run


def names(collection):
    return [run.path.name for run in collection.runs]


def test_a_sweep_is_all_runs_below_it_and_each_counts_once(tmp_path):
    for seed in (0, 1):
        make_run(tmp_path / "sweep" / f"objective=causal,seed={seed}", seed=seed)
    found = collect([str(tmp_path / "sweep"), str(tmp_path / "sweep" / "objective=causal,seed=0")])
    assert names(found) == ["objective=causal,seed=0", "objective=causal,seed=1"]
    assert found.left_out == []
    (line,) = found.notes
    assert line.endswith("objective=causal,seed=0: named more than once in runs, counts once")


def test_a_result_that_can_not_be_read_is_said_and_the_others_are_there(tmp_path):
    run = make_run(tmp_path / "run")
    for exam in ("continue", "infill", "cloze"):
        give_result(run, exam)
    broken = sorted((run / "exams").glob("c*.json"))
    broken[0].write_text(broken[0].read_text()[:100])
    content = json.loads(broken[1].read_text())
    broken[1].write_text(json.dumps(content | {"documents": content["documents"][1:]}))
    found = collect([str(run)])
    assert [one.result.exam for one in found.runs[0].results] == ["infill"]
    assert [line.split(" can't be read and is left out (")[0] for line in found.notes] == [str(one) for one in broken]
    assert all("\n" not in line for line in found.notes)


@pytest.mark.parametrize("content", ["a: [", "{}", "- 1", "\xff"])
def test_overrides_that_can_not_be_read_do_no_harm(tmp_path, content):
    (make_run(tmp_path / "run") / "overrides.yaml").write_bytes(content.encode("latin-1"))
    assert collect([str(tmp_path)]).runs[0].overrides == []


def test_a_pattern_names_runs(tmp_path):
    for seed in range(3):
        make_run(tmp_path / f"run{seed}", seed=seed)
    assert names(collect([str(tmp_path / "run[12]")])) == ["run1", "run2"]


def test_a_directory_that_is_not_there_is_one_line_with_the_nearest_name(tmp_path):
    make_run(tmp_path / "first")
    with pytest.raises(ConfigError, match=r"runs: there is no directory '.*fist' \(did you mean 'first'\?\)"):
        collect([str(tmp_path / "fist")])


def test_a_pattern_without_any_match_is_said(tmp_path):
    with pytest.raises(ConfigError, match="no directory matches"):
        collect([str(tmp_path / "none*")])


def test_a_folder_without_runs_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="is not a run directory, and there is none below it"):
        collect([str(tmp_path / "empty")])


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("summary.json", None, "has no summary.json that can be read"),
        ("summary.json", '{"state": ', "has no summary.json that can be read"),
        ("config.yaml", None, "has no config.yaml"),
        ("config.yaml", "a: [", "is damaged"),
        ("config.yaml", "seed: 0", "has no objective or no data"),
        ("checkpoints", None, "has no checkpoint"),
        ("metrics.jsonl", "{\n{}\n{}\n", "line 1 of"),
    ],
)
def test_a_half_written_run_is_an_error_by_name_and_left_out_of_a_sweep(tmp_path, file, content, expected):
    make_run(tmp_path / "whole")
    broken = make_run(tmp_path / "broken", seed=1)
    if content is None:
        shutil.rmtree(broken / file) if (broken / file).is_dir() else (broken / file).unlink()
    else:
        (broken / file).write_text(content)
    with pytest.raises(ConfigError) as caught:
        collect([str(broken)])
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    found = collect([str(tmp_path)])
    assert names(found) == ["whole"]
    ((name, reason),) = found.left_out
    assert name.endswith("broken")
    assert expected in reason


@pytest.mark.parametrize("state", ["stopped", "failed", "pruned", "running"])
def test_an_unfinished_run_is_left_out_unless_it_is_asked_for(tmp_path, state):
    make_run(tmp_path / "whole")
    make_run(tmp_path / "partly", seed=1, state=state)
    found = collect([str(tmp_path)])
    assert names(found) == ["whole"]
    assert "unfinished=true" in found.left_out[0][1]
    assert names(collect([str(tmp_path)], unfinished=True)) == ["partly", "whole"]
    with pytest.raises(ConfigError, match="at step 40"):
        collect([str(tmp_path / "partly")])
