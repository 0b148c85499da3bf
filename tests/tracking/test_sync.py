"""W&B has every line of metrics.jsonl once, in one run, whatever was mirrored, interrupted, resumed and uploaded."""

import json
import shutil
import subprocess
import sys

import pytest
import wandb
from filelock import FileLock

from ntp.config.errors import ConfigError, RunFailed
from ntp.tracking.metrics_file import METRICS
from ntp.tracking.runs import read_run
from ntp.tracking.sync import Destination, upload
from ntp.tracking.wandb import WandbMirror
from tests.tracking import runs, wandb_files
from tests.tracking.runs import history, record, train
from tests.tracking.wandb_server import wandb_server  # noqa: F401 - a fixture


@pytest.fixture
def run(tmp_path):
    return runs.make(tmp_path / "run")


def send(directory, mode="online", **options):
    wishes = {"project": None, "entity": None, "group": None, "force": False, "init_timeout": 20, "finish_timeout": 20}
    return upload(read_run(directory), runs.CONFIG, Destination(mode=mode, **wishes | options))


def axes(internal):
    """By its name, what a metric is drawn over and how it is summarised; W&B writes names as numbers of the list."""
    metrics = internal["value"]["m"]
    names = [one.get("1") or one["2"] for one in metrics]
    return {
        name: (names[one["5"] - 1] if "5" in one else None, one.get("7"))
        for name, one in zip(names, metrics, strict=True)
    }


def offline(directory):
    """All lines in W&B's files of a run, and their numbers."""
    records = [wandb_files.read_wandb(path) for path in wandb_files.offline_files(directory)]
    lines = [line for one in records for line in wandb_files.history(one)]
    return lines, [number for one in records for number in wandb_files.steps(one)]


# -- uploading --


def test_an_uploaded_run_is_what_the_mirror_would_have_made_of_it(run, tmp_path, wandb_server):  # noqa: F811
    train(run, range(6), WandbMirror(group="study"))
    mirrored = record(run)["id"]
    shutil.copytree(run, tmp_path / "copy" / "run", ignore=shutil.ignore_patterns("wandb*", ".wandb*"))
    done = send(tmp_path / "copy" / "run", group="study")
    uploaded = record(tmp_path / "copy" / "run")["id"]
    assert mirrored != uploaded
    assert wandb_server.history(uploaded) == wandb_server.history(mirrored) == history(range(6))
    one, other = ({**wandb_server.runs[name]} for name in (mirrored, uploaded))
    for field in ("displayName", "groupName", "jobType", "tags", "exit_code", "project"):
        assert one[field] == other[field]
    configs = [json.loads(fields["config"]) for fields in (one, other)]
    assert axes(configs[0].pop("_wandb")) == axes(configs[1].pop("_wandb"))
    assert configs[0] == configs[1] == {name: {"value": value} for name, value in runs.CONFIG.items()}
    for summary in (one["summary"], other["summary"]):
        assert summary["val/loss"] == {"min": 0.5, "last": 0.5}
        assert (summary["state"], summary["total_seconds"]) == ("finished", 7.5)
    assert done.lines == 6
    assert done.place == f"{wandb_server.url}/someone/ntp/runs/{uploaded}"


def test_uploading_twice_adds_nothing(run, wandb_server):  # noqa: F811
    train(run, range(4))
    assert send(run).lines == 4
    again = send(run)
    assert (again.lines, again.note) == (0, "nothing new in 4 lines")
    assert send(run, force=True).lines == 0  # W&B knows
    assert wandb_server.history(record(run)["id"]) == history(range(4))


def test_of_a_run_that_has_grown_the_rest_is_uploaded(run, wandb_server):  # noqa: F811
    train(run, range(3), state="stopped")
    send(run)
    assert wandb_server.runs[record(run)["id"]]["exit_code"] == 1
    train(run, range(3, 7))
    assert send(run).lines == 4
    assert wandb_server.history(record(run)["id"]) == history(range(7))
    assert wandb_server.steps(record(run)["id"]) == list(range(7))
    assert wandb_server.runs[record(run)["id"]]["exit_code"] == 0


def test_of_a_file_that_was_cut_and_has_grown_again_only_what_is_new_is_uploaded(run, wandb_server):  # noqa: F811
    train(run, range(6), state=None)
    send(run)
    train(run, range(3, 8))
    assert send(run).lines == 2
    assert wandb_server.history(record(run)["id"]) == history(range(8))


def test_a_half_written_line_waits_until_it_is_whole(run, wandb_server):  # noqa: F811
    train(run, range(2))
    whole = (run / METRICS).read_text()
    (run / METRICS).write_text(whole[:-9])
    assert send(run).lines == 1
    (run / METRICS).write_text(whole)
    assert send(run).lines == 1
    assert wandb_server.history(record(run)["id"]) == history(range(2))


def test_another_project_gets_a_whole_run(run, wandb_server):  # noqa: F811
    train(run, range(2))
    send(run)
    wandb_server.runs.clear()
    assert send(run, project="other").lines == 2
    assert wandb_server.runs[record(run)["id"]]["project"] == "other"


def test_what_is_cut_off_by_the_network_is_sent_by_a_repetition(run, wandb_server):  # noqa: F811
    train(run, range(3))
    wandb_server.lost = True
    with pytest.raises(RunFailed, match=r"TimeoutError.*nothing is lost, run it again later"):
        send(run, finish_timeout=0.5)
    wandb_server.lost = False
    assert send(run).lines == 3
    assert wandb_server.history(record(run)["id"]) == history(range(3))


def test_a_damaged_directory_is_named(run):
    train(run, range(2))
    (run / METRICS).write_text("?\n" + (run / METRICS).read_text())
    with pytest.raises(ConfigError, match=r"run: line 1 of .*metrics.jsonl can't be read"):
        send(run, mode="offline")
    (run / "wandb.json").write_text('{"id": "a"')
    with pytest.raises(ConfigError, match=r"wandb.json is damaged; without it the run is uploaded as a new one"):
        send(run, mode="offline")


def test_a_run_is_uploaded_by_one_process_at_a_time(run):
    train(run, range(2))
    with FileLock(run / ".wandb.lock"), pytest.raises(RunFailed, match="another process is uploading it"):
        send(run, mode="offline")


# -- offline --


def test_offline_files_have_each_line_once_under_its_number(run):
    train(run, range(3), state="stopped")
    first = send(run, mode="offline")
    assert first.lines == 3
    assert send(run, mode="offline").note == "nothing new in 3 lines"
    train(run, range(3, 5))
    second = send(run, mode="offline")
    assert second.lines == 2
    assert offline(run) == (history(range(5)), list(range(5)))
    assert {
        wandb_files.of_type(wandb_files.read_wandb(one), "run")[0].run_id for one in wandb_files.offline_files(run)
    } == {record(run)["id"]}
    assert [str(path.parent) for path in wandb_files.offline_files(run)] == [first.place, second.place]


def test_offline_files_are_written_again_when_forced(run):
    train(run, range(3))
    send(run, mode="offline")
    assert send(run, mode="offline", force=True).lines == 3


def test_a_run_that_was_mirrored_offline_is_not_written_again(run):
    train(run, range(4), WandbMirror(mode="offline"))
    assert send(run, mode="offline").note == "nothing new in 4 lines"
    assert offline(run) == (history(range(4)), list(range(4)))


def test_what_was_mirrored_offline_is_uploaded_whole(run, wandb_server):  # noqa: F811
    train(run, range(4), WandbMirror(mode="offline"))
    assert send(run).lines == 4
    assert wandb_server.history(record(run)["id"]) == history(range(4))


@pytest.mark.slow
def test_wandbs_own_command_sends_the_offline_files_to_the_same_run(run, wandb_server):  # noqa: F811
    train(run, range(3), WandbMirror(mode="offline"), state=None)
    train(run, range(2, 6), WandbMirror(mode="offline"))
    for path in wandb_files.offline_files(run):
        subprocess.run(
            [sys.executable, "-m", "wandb", "sync", str(path.parent)], check=True, capture_output=True, cwd=run
        )
    assert wandb_server.history(record(run)["id"]) == history(range(6))
    assert send(run).lines == 0


# -- runs that are resumed --


@pytest.mark.parametrize("state", ["stopped", None])
def test_a_resumed_run_goes_on_as_the_same_wandb_run(run, wandb_server, state):  # noqa: F811
    train(run, range(5), WandbMirror(), state=state)
    train(run, range(3, 8), WandbMirror())
    (name,) = wandb_server.runs
    assert name == record(run)["id"]
    assert wandb_server.history(name) == history(range(8))
    assert wandb_server.runs[name]["exit_code"] == 0


@pytest.mark.parametrize("state", ["stopped", None])
def test_a_run_that_is_resumed_offline_has_each_line_once(run, state):
    train(run, range(5), WandbMirror(mode="offline"), state=state)
    train(run, range(3, 8), WandbMirror(mode="offline"))
    assert offline(run) == (history(range(8)), list(range(8)))


def test_a_resumed_run_makes_up_for_what_wandb_has_missed(run, wandb_server):  # noqa: F811
    wandb_server.refuses = True
    train(run, range(4), WandbMirror(init_timeout=5), state="stopped")
    assert wandb_server.runs == {}
    wandb_server.refuses = False
    wandb.teardown()  # a resumed run is another process
    train(run, range(2, 6), WandbMirror())
    assert wandb_server.history(record(run)["id"]) == history(range(6))


def test_the_rest_of_a_run_whose_mirror_failed_is_uploaded(run, wandb_server, monkeypatch):  # noqa: F811
    from wandb.sdk.wandb_run import Run

    mirror, log = WandbMirror(), Run.log
    monkeypatch.setattr(
        Run, "log", lambda self, data, **rest: log(self, data, **rest) if data["val/loss"] > 2 else 1 / 0
    )
    train(run, range(6), mirror)
    monkeypatch.undo()
    monkeypatch.setenv("WANDB_MODE", "online")
    name = record(run)["id"]
    assert wandb_server.history(name) == history(range(3))
    assert send(run).lines == 3
    assert wandb_server.history(name) == history(range(6))
    assert wandb_server.runs[name]["exit_code"] == 0


def test_a_finished_run_with_a_larger_budget_adds_all_that_is_new(run, wandb_server):  # noqa: F811
    train(run, range(5), WandbMirror())
    with open(run / METRICS, "a") as file:  # the last validation, of which the checkpoint does not know
        file.write(json.dumps({"step": 4, "val/loss": 9.0, "progress/tokens": 400}) + "\n")
    send(run)
    train(run, range(5, 8), WandbMirror())
    lines = wandb_server.history(record(run)["id"])
    assert lines[:5] + lines[6:] == history(range(8))
    assert lines[5] == {"trainer/global_step": 4, "val/loss": 9.0, "progress/tokens": 400}


def test_a_run_that_is_being_mirrored_is_left_alone(run, wandb_server):  # noqa: F811
    train(run, range(2), WandbMirror(), state="stopped")
    mirror = WandbMirror()
    with FileLock(run / ".lock"):
        mirror.start(run, runs.CONFIG, runs.TAGS, runs.OBJECTIVE)
        assert send(run).note == "is mirrored by its training"
        mirror.finish(failed=False)
        assert not send(run).note.startswith("is mirrored")
