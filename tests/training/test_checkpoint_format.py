"""Checkpoints of an older ntp, of a newer one, and of somebody who means ill."""

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from tests.conftest import call, read_metrics
from tests.training.going_on import go_on


def rewrite(path: Path, change) -> None:
    checkpoint = torch.load(path, weights_only=True)
    change(checkpoint)
    path.unlink()
    torch.save(checkpoint, path)


@pytest.fixture
def first_format(stopped) -> Path:
    """The run as the first version of ntp would have left it: two files, no index, and little in them."""

    def to_version_1(checkpoint):
        state = checkpoint["ntp"]
        checkpoint["ntp"] = {"version": 1, "progress": state["progress"], "empty_steps": state["empty_steps"]}

    folder = stopped / "checkpoints"
    for name in ("last.ckpt", "best.ckpt"):
        rewrite(folder / name, to_version_1)
    for path in [*folder.glob("step-*.ckpt"), folder / "index.json"]:
        path.unlink()
    config = yaml.safe_load((stopped / "config.yaml").read_text())
    for name in ("resume", "output_root", "sweep"):
        config.pop(name, None)
    for name in ("time_limit_minutes", "collective_timeout_minutes"):
        config["trainer"].pop(name, None)
    config["callbacks"]["checkpoint"] = {"_target_": "ntp.training.checkpoint.Checkpoint", "every_steps": None}
    (stopped / "config.yaml").write_text(yaml.safe_dump(config))
    summary = json.loads((stopped / "summary.json").read_text())
    summary.pop("identity")
    (stopped / "summary.json").write_text(json.dumps(summary))
    return stopped


def test_a_run_of_the_first_format_is_evaluated_and_asked(first_format):
    for name in ("last", "best"):
        assert call("evaluate", f"run={first_format}", f"checkpoint={name}", "rows=2").status == 0
    assert call("generate", f"run={first_format}", "prompt=def", "tokens=4").status == 0


def test_a_run_of_the_first_format_goes_on(first_format, whole):
    with open(first_format / "metrics.jsonl", "a") as file:
        file.write('{"step": 6, "val/loss": 1.0}\n')  # written behind the checkpoint
    outcome = go_on(first_format)
    assert outcome.status == 0, outcome.stderr
    assert "from step 5" in outcome.stderr
    lines, expected = read_metrics(first_format), read_metrics(whole)
    assert [line["step"] for line in lines] == [line["step"] for line in expected]
    assert lines[-1]["val/loss"] == expected[-1]["val/loss"]
    assert torch.load(first_format / "checkpoints/best.ckpt", weights_only=True)["global_step"] >= 3


def test_rows_are_counted_on_where_an_older_version_did_not_count_them(stopped, whole):
    def to_version_2(checkpoint):
        checkpoint["ntp"]["version"] = 2
        del checkpoint["ntp"]["progress"]["rows"]
        checkpoint["ntp"]["latest"] = {
            name: value
            for name, value in checkpoint["ntp"]["latest"].items()
            if name not in ("progress/rows", "perf/peak_memory_bytes")
        }

    forge(stopped, lambda path: rewrite(path, to_version_2))
    assert go_on(stopped).status == 0
    last, expected = read_metrics(stopped)[-1], read_metrics(whole)[-1]
    assert last["progress/rows"] == expected["progress/rows"] == 8 * 4
    assert last["val/loss"] == expected["val/loss"]


def test_the_best_of_the_first_format_is_kept_until_there_is_a_better_one(first_format):
    def brag(checkpoint):
        checkpoint["callbacks"]["Checkpoint"]["best_loss"] = 1e-3

    for name in ("last.ckpt", "best.ckpt"):
        rewrite(first_format / "checkpoints" / name, brag)
    assert go_on(first_format).status == 0
    assert torch.load(first_format / "checkpoints/best.ckpt", weights_only=True)["global_step"] == 3


def commands(run: Path) -> list[tuple[str, ...]]:
    return [
        ("train", f"resume={run}"),
        ("evaluate", f"run={run}", "checkpoint=last", "rows=2"),
        ("generate", f"run={run}", "checkpoint=last", "prompt=def"),
    ]


def test_a_checkpoint_of_a_newer_version_says_why_not(stopped):
    def from_the_future(checkpoint):
        checkpoint["ntp"]["version"] = 99

    forge(stopped, lambda path: rewrite(path, from_the_future))
    for arguments in commands(stopped):
        outcome = call(*arguments)
        assert outcome.status == 2
        assert "was written by a newer ntp (format 99; this one reads up to" in outcome.stderr


class Bomb:
    """What a pickle can do."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (str(self.target),))


@pytest.mark.parametrize("plain_pickle", [False, True], ids=["torch", "pickle"])
def test_no_code_of_a_checkpoint_is_run(stopped, tmp_path, plain_pickle):
    target = tmp_path / "executed"

    def arm(path):
        checkpoint = torch.load(path, weights_only=True)
        checkpoint["bomb"] = Bomb(target)
        path.unlink()
        if plain_pickle:
            path.write_bytes(pickle.dumps(checkpoint))
        else:
            torch.save(checkpoint, path)

    forge(stopped, arm)
    for arguments in commands(stopped):
        outcome = call(*arguments)
        assert outcome.status == 2
        assert "is not a readable checkpoint" in outcome.stderr
        assert "Traceback" not in outcome.stderr
        assert not target.exists()
    os.mkdir(target)
    with pytest.raises(FileExistsError):  # the bomb would work
        torch.load(stopped / "checkpoints/best.ckpt", weights_only=False)


def forge(run: Path, change) -> None:
    """Replace all checkpoints by changed ones, with an index that has the right checksums."""
    folder = run / "checkpoints"
    last = folder / "last.ckpt"
    change(last)
    (folder / "best.ckpt").unlink()
    shutil.copyfile(last, folder / "best.ckpt")
    listed = json.loads((folder / "index.json").read_text())
    for entry in listed:
        path = folder / entry["file"]
        path.unlink()
        shutil.copyfile(last, path)
        entry |= {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    (folder / "index.json").write_text(json.dumps(listed))
