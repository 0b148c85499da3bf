"""Each job sees its own GPUs and no others."""

from types import SimpleNamespace

import pytest
import torch

from ntp.config.errors import ConfigError
from ntp.config.schema import SweepConfig
from ntp.sweep.gpus import GpuPool, gpus_needed, visible_gpus


def trainer(accelerator: str = "gpu", devices: int | str = 1) -> SimpleNamespace:
    return SimpleNamespace(accelerator=accelerator, devices=devices)


def test_jobs_take_gpus_that_no_other_job_has_and_give_them_back():
    pool = GpuPool(["3", "5", "7"])
    first, second = pool.take(1), pool.take(2)
    assert (first, second) == (["3"], ["5", "7"])
    assert pool.take(1) is None
    pool.give_back(second)
    pool.give_back(first)
    assert pool.take(3) == ["3", "5", "7"]


@pytest.mark.parametrize(
    ("visible", "names"), [("0,2", ["0", "2"]), ("GPU-1a, GPU-2b", ["GPU-1a", "GPU-2b"]), ("", []), ("-1", [])]
)
def test_the_pool_is_what_this_process_may_see(visible, names):
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": visible}) == names


def test_without_a_limit_the_pool_is_what_the_driver_lists(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert visible_gpus({}) == ["0", "1", "2"]  # there is no such program
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 0\necho 1\n")
    program.chmod(0o755)
    assert visible_gpus({}) == ["0", "1"]


@pytest.mark.parametrize(
    ("gpus", "wants", "needed"),
    [
        (None, trainer("gpu", 2), 2),
        (None, trainer("gpu", "auto"), 4),
        (None, trainer("auto", 1), 1),
        (None, trainer("cpu", 2), 0),
        (3, trainer("gpu", 2), 3),
        (0, trainer("auto", 1), 0),
    ],
)
def test_a_job_gets_what_it_asks_for(gpus, wants, needed):
    assert gpus_needed(SweepConfig(gpus=gpus), wants, available=4) == needed


@pytest.mark.parametrize(
    ("gpus", "wants", "available", "problem"),
    [
        (5, trainer(), 4, "sweep.gpus: 5 GPUs are asked for a job, and 4 here"),
        (None, trainer("gpu", 8), 4, "trainer.devices: 8 GPUs are asked for a job, and 4 here"),
        (1, trainer("gpu", 2), 4, "sweep.gpus: 1 is less than trainer.devices=2"),
        (None, trainer("gpu", 1), 0, "trainer.accelerator: there is no GPU here"),
    ],
)
def test_more_gpus_than_there_are_is_an_error(gpus, wants, available, problem):
    with pytest.raises(ConfigError, match=problem):
        gpus_needed(SweepConfig(gpus=gpus), wants, available)
