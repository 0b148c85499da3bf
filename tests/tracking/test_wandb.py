"""Whatever happens to W&B, the run goes on, says so once, and keeps its metrics."""

import os
import socket

import pytest

from ntp.tracking.wandb import WandbMirror
from tests.conftest import read_metrics, read_summary, spawn
from tests.tracking.wandb_server import KEY, wandb_server  # noqa: F401 - a fixture


def warnings_of(stderr):
    return [line for line in stderr.splitlines() if "W&B is off" in line]


def drive(mirror, directory):
    """All that a run and Lightning call."""
    mirror.start(directory, {"seed": 0}, [], "causal")
    mirror.log_hyperparams({"rate": 0.5})
    mirror.log_metrics({"train/loss": 1.0}, step=1)
    mirror.experiment.log({"of a callback": 1})
    mirror.log_metrics({"train/loss": 0.5}, step=2)
    mirror.after_save_checkpoint(None)
    mirror.save()
    mirror.finalize("success")
    mirror.summarize({"val/perplexity": 2.0})
    mirror.finish(failed=False)
    assert isinstance(mirror.name, str)


def test_a_run_goes_on_without_wandb_when_logging_fails_in_its_middle(ntp, tiny, tmp_path, monkeypatch):
    from wandb.sdk.wandb_run import Run

    log, calls = Run.log, []

    def failing(self, *args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise BrokenPipeError(32, "the service\nis gone")
        return log(self, *args, **kwargs)

    monkeypatch.setattr(Run, "log", failing)
    outcome = ntp("train", *tiny, "logger=wandb", "run_dir=run")
    assert outcome.status == 0
    (warning,) = warnings_of(outcome.stderr)
    assert warning == (
        "W&B is off for this run (BrokenPipeError: [Errno 32] the service is gone); metrics.jsonl keeps everything, "
        "and `ntp sync run=run` uploads it later"
    )
    assert len(calls) == 3
    assert len(read_metrics(tmp_path / "run")) > 3
    assert read_summary(tmp_path / "run")["state"] == "finished"


@pytest.mark.parametrize(
    "call",
    [
        "wandb.init",
        "wandb.sdk.wandb_run.Run.define_metric",
        "wandb.sdk.wandb_config.Config.update",
        "wandb.sdk.wandb_run.Run.log",
        "wandb.sdk.wandb_summary.SummaryDict.update",
        "wandb.sdk.wandb_run.Run.finish",
    ],
)
def test_whatever_fails_in_wandb_the_mirror_does_not(tmp_path, monkeypatch, capsys, call):
    def failing(*_, **__):
        raise RuntimeError(call)

    monkeypatch.setattr(call, failing)
    drive(WandbMirror(), tmp_path)
    (warning,) = warnings_of(capsys.readouterr().err)
    assert f"RuntimeError: {call}" in warning


def test_a_refused_login_ends_the_mirror_only(tmp_path, wandb_server, capsys):  # noqa: F811
    wandb_server.refuses = True
    drive(WandbMirror(init_timeout=5), tmp_path)
    assert len(warnings_of(capsys.readouterr().err)) == 1
    assert wandb_server.runs == {}


def test_without_a_key_online_is_off_and_nobody_is_asked_for_one(tmp_path, monkeypatch, capsys):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    drive(WandbMirror(mode="online"), tmp_path)
    (warning,) = warnings_of(capsys.readouterr().err)
    assert "no API key is configured" in warning


def test_what_does_not_arrive_in_time_ends_the_wait(tmp_path, wandb_server, capsys):  # noqa: F811
    wandb_server.lost = True
    drive(WandbMirror(finish_timeout=0.5), tmp_path)
    (warning,) = warnings_of(capsys.readouterr().err)
    assert "TimeoutError" in warning
    wandb_server.lost = False


def test_the_death_of_wandbs_own_process_is_not_the_runs(tiny, tmp_path):
    if not os.path.exists("/proc/self/task"):
        pytest.skip("children are found through /proc")
    outcome = spawn(
        "train",
        *tiny,
        "logger=wandb",
        "run_dir=run",
        "+callbacks.killer._target_=tests.tracking.failing.KillsWandbAtStepTwo",
        "allow_targets=[tests]",
        cwd=tmp_path,
        PYTHONPATH=os.getcwd(),
    )
    assert outcome.status == 0, outcome.stderr
    assert len(warnings_of(outcome.stderr)) == 1
    assert read_summary(tmp_path / "run")["state"] == "finished"
    assert [line["step"] for line in read_metrics(tmp_path / "run") if "train/loss" in line] == [1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("answers", [False, True])
def test_a_server_that_cannot_be_reached_or_never_answers_is_not_waited_for_long(tiny, tmp_path, answers):
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        if answers:  # it takes the question, and that is all
            door.listen(64)
        outcome = spawn(
            "train",
            *tiny,
            "logger=wandb",
            "logger.wandb.mode=online",
            "logger.wandb.init_timeout=2",
            "run_dir=run",
            cwd=tmp_path,
            WANDB_BASE_URL=f"http://127.0.0.1:{door.getsockname()[1]}",
            WANDB_API_KEY=KEY,
        )
    assert outcome.status == 0, outcome.stderr
    (warning,) = warnings_of(outcome.stderr)
    assert warning.endswith("`ntp sync run=run` uploads it later")
    assert read_summary(tmp_path / "run")["state"] == "finished"
