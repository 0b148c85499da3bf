"""``ntp sync``: one line a run, and what it does when there is no key, no run, or no network."""

import json
import socket

import pytest

from tests.conftest import spawn
from tests.tracking import runs, wandb_files
from tests.tracking.wandb_server import KEY, wandb_server  # noqa: F401 - a fixture


@pytest.fixture
def sweep(tmp_path):
    """A folder with three runs of four, three and two lines."""
    for number in range(3):
        directory = runs.make(tmp_path / "sweep" / f"seed={number}")
        runs.train(directory, range(4 - number))
    return tmp_path / "sweep"


def test_a_run_is_written_for_wandb_to_send(ntp, tiny, tmp_path):
    assert ntp("train", *tiny, "tags=[first]", "run_dir=run").status == 0
    outcome = ntp("sync", "run=run", "mode=offline", "project=pilot")
    assert outcome.status == 0, outcome.stderr
    (file,) = wandb_files.offline_files(tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert outcome.stdout == f"run  {len(lines)} lines  run/wandb/{file.parent.name}\n"
    records = wandb_files.read_wandb(file)
    assert wandb_files.history(records) == wandb_files.as_mirrored(lines)
    (run,) = wandb_files.of_type(records, "run")
    assert (run.project, run.job_type, run.display_name, list(run.tags)) == ("pilot", "causal", "run", ["first"])
    again = ntp("sync", "run=run", "mode=offline")
    assert again.stdout == f"run  nothing new in {len(lines)} lines  run/wandb/{file.parent.name}\n"


def test_a_relative_path_is_that_of_who_asks_wherever_wandb_was_started(ntp, tiny, tmp_path, monkeypatch):
    for place in ("one", "other"):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        assert ntp("train", *tiny, "run_dir=run").status == 0
        assert ntp("sync", "run=run", "mode=offline", "project=pilot").status == 0
        assert len(wandb_files.offline_files(tmp_path / place / "run")) == 1


def test_all_runs_below_a_folder_are_uploaded(ntp, sweep, wandb_server):  # noqa: F811
    outcome = ntp("sync", "run=sweep", "project=pilot", "group=seeds")
    assert outcome.status == 0, outcome.stderr
    expected = [
        f"sweep/seed={number}  {4 - number} lines  {wandb_server.url}/someone/pilot/runs/{runs.record(path)['id']}"
        for number, path in enumerate(sorted(sweep.iterdir()))
    ]
    assert outcome.stdout.splitlines() == expected
    assert {run["groupName"] for run in wandb_server.runs.values()} == {"seeds"}
    assert {run["displayName"] for run in wandb_server.runs.values()} == {"seed=0", "seed=1", "seed=2"}


def test_one_damaged_run_does_not_keep_the_others(ntp, sweep):
    (sweep / "seed=1" / "config.yaml").write_text("[")
    outcome = ntp("sync", "run=sweep", "mode=offline")
    assert outcome.status == 1
    assert [line.split()[0] for line in outcome.stdout.splitlines()] == ["sweep/seed=0", "sweep/seed=2"]
    first, *_, last = [line for line in outcome.stderr.splitlines() if not line.startswith("wandb:")]
    assert first.startswith("run: sweep/seed=1/config.yaml is damaged")
    assert last == "ntp sync: 1 of 3 runs could not be uploaded; run it again for the rest"


def test_a_server_that_refuses_is_one_line(ntp, tmp_path, wandb_server):  # noqa: F811
    runs.train(runs.make(tmp_path / "run"), range(2))
    wandb_server.refuses = True
    outcome = ntp("sync", "run=run")
    assert (outcome.status, outcome.stdout) == (1, "")
    (line,) = [line for line in outcome.stderr.splitlines() if not line.startswith("wandb:")]
    assert line.startswith("ntp sync: run: W&B failed (CommError: ")
    assert "permission denied" in line
    assert line.endswith("; nothing is lost, run it again later")


def test_a_server_that_refuses_twice_is_not_asked_about_further_runs(ntp, sweep, wandb_server):  # noqa: F811
    wandb_server.refuses = True
    outcome = ntp("sync", "run=sweep")
    assert (outcome.status, outcome.stdout) == (1, "")
    assert outcome.stderr.splitlines()[-1].startswith("ntp sync: W&B does not answer; ")
    assert wandb_server.asked == 2


@pytest.mark.slow
def test_without_a_network_it_fails_in_time_and_can_be_repeated(tmp_path, wandb_server):  # noqa: F811
    runs.train(runs.make(tmp_path / "run"), range(3))
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{door.getsockname()[1]}"
        outcome = spawn(
            "sync", "run=run", "mode=online", "init_timeout=2", cwd=tmp_path, WANDB_BASE_URL=url, WANDB_API_KEY=KEY
        )
    assert outcome.status == 1
    assert "ntp sync: run: W&B failed (" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    outcome = spawn("sync", "run=run", cwd=tmp_path, **wandb_server.environment)
    assert outcome.status == 0, outcome.stderr
    assert wandb_server.history(runs.record(tmp_path / "run")["id"]) == runs.history(range(3))


def test_without_a_key_it_says_how_to_log_in(ntp, tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    runs.train(runs.make(tmp_path / "run"), range(1))
    outcome = ntp("sync", "run=run")
    assert outcome.status == 2
    assert outcome.stderr == (
        "ntp sync: mode: no W&B API key is configured; log in with `wandb login`, or write files with mode=offline\n"
    )


def test_where_no_run_is_it_says_so(ntp, tmp_path):
    (tmp_path / "empty").mkdir()
    for path in ("empty", "nowhere"):
        outcome = ntp("sync", f"run={path}", "mode=offline")
        assert outcome.status == 2
        assert outcome.stderr == f"ntp sync: run: {path} is not a run directory, and there is none below it\n"
