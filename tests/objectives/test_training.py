"""Every objective trains through the same command: packed in both regimes, in both precisions, on two processes."""

import math
from pathlib import Path

import ntp.conf
import pytest

from tests.conftest import read_metrics, read_summary

OBJECTIVES = sorted(path.stem for path in (Path(ntp.conf.__path__[0]) / "objective").glob("*.yaml"))
DDP = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")


def shape(objective: str) -> tuple[str, ...]:
    """Rows long enough for two copies of several spans."""
    return (f"objective={objective}", "data.sequence_length=64")


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(
    "options",
    [
        ("data.documents=concatenate", "trainer.precision=bf16-mixed"),
        ("data.documents=isolate", "trainer.precision=32-true"),
    ],
    ids=["concatenated-bfloat16", "isolated-float32"],
)
def test_every_objective_trains_on_packed_rows(ntp, tiny, packed, tmp_path, objective, options):
    outcome = ntp("train", *tiny, *packed, *shape(objective), *options, "run_dir=run")
    assert outcome.status == 0, outcome.stderr
    summary = read_summary(tmp_path / "run")
    assert summary["state"] == "finished"
    assert summary["likelihood"] in ("exact", "bound", "pseudo", "none")
    assert all(math.isfinite(line["train/loss"]) for line in read_metrics(tmp_path / "run") if "train/loss" in line)
    assert math.isfinite(summary["val/loss"])
    # Without a likelihood there are no bits per byte, and none are made up.
    assert ("val/bits_per_byte" in summary) == (summary["likelihood"] != "none")


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_two_processes_give_the_losses_of_one_with_twice_the_accumulation(ntp, pair, tiny, packed, tmp_path, objective):
    options = (*tiny, *packed, *shape(objective), "data.documents=isolate", "trainer.progress_bar=false")
    assert ntp("train", *options, "data.micro_batch_size=1", "run_dir=one").status == 0
    outcome = pair("train", *options, *DDP, "data.micro_batch_size=1", "run_dir=two", cwd=tmp_path)
    assert outcome.status == 0, outcome.stderr
    one, two = read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")
    assert len(one) == len(two)
    for ours, theirs in zip(one, two, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ("train/loss", "train/gradient_norm", "val/loss", "progress/targets"):
            if name in ours:
                assert theirs[name] == pytest.approx(ours[name], rel=1e-6), name
