"""Each benchmark runs and says what it measured, in the shape that its readers expect. Nothing is said about speed."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent.parent / "benchmarks"
SMALL = ("--layers", "1", "--width", "8", "--heads", "1", "--length", "8", "--batch", "2", "--threads", "1")
SHORT = ("--characters", "5000", "--warm", "1", "--steps", "2", "--rounds", "2")


def benchmark(script: str, *options: str, directory: Path) -> dict[str, Any]:
    """Run a script; gives what it wrote."""
    output = directory / "result.json"
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *options, "--output", str(output)],
        capture_output=True,
        text=True,
        cwd=directory,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(output.read_text())
    return result


def assert_is_spread(value: dict[str, Any]) -> None:
    """A median within its range."""
    assert 0 < value["min"] <= value["median"] <= value["max"]


@pytest.fixture(scope="module")
def throughput(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of every loop that can run here."""
    peers = "ntp,bare,reference" + (",hf" if importlib.util.find_spec("accelerate") else "")
    directory = tmp_path_factory.mktemp("throughput")
    return benchmark("throughput.py", "--peers", peers, *SMALL, *SHORT, directory=directory)


@pytest.mark.slow(first=True)
def test_throughput_gives_tokens_per_second_of_every_loop(throughput):
    for arm in throughput["arms"].values():
        assert_is_spread(arm["tokens_per_second"])
        assert len(arm["rounds"]) == throughput["settings"]["rounds"] == 2


@pytest.mark.slow(first=True)
def test_throughput_compares_every_loop_with_every_other(throughput):
    for name, arm in throughput["arms"].items():
        assert set(arm["speed_ratio_to"]) == set(throughput["arms"])
        assert arm["speed_ratio_to"][name] == {"median": 1, "min": 1, "max": 1}
        for ratio in arm["speed_ratio_to"].values():
            assert_is_spread(ratio)


@pytest.mark.slow(first=True)
def test_all_loops_train_models_of_one_size(throughput):
    for fact in ("parameters", "vocabulary", "threads"):
        assert len({arm[fact] for arm in throughput["arms"].values()}) == 1


@pytest.mark.slow(first=True)
def test_throughput_describes_the_machine(throughput):
    machine = throughput["machine"]
    assert machine["processor"]
    assert machine["cores"] >= 1
    assert machine["packages"]["torch"]
    assert machine["date"].endswith("+00:00")


@pytest.mark.slow
def test_a_loop_that_fails_is_reported_with_its_reason(tmp_path):
    with pytest.raises(AssertionError, match="heads"):
        benchmark("throughput.py", "--peers", "ntp", *SMALL, *SHORT, "--heads", "3", directory=tmp_path)


def test_an_unknown_loop_is_refused(tmp_path):
    with pytest.raises(AssertionError, match="there is no 'tnp'"):
        benchmark("throughput.py", "--peers", "tnp", directory=tmp_path)


@pytest.mark.slow(first=True)
def test_startup_gives_seconds_of_every_command(tmp_path):
    result = benchmark("startup.py", "--rounds", "1", directory=tmp_path)
    assert {"ntp --help", "ntp train --help", "ntp train, to the end of its first step"} <= set(result["seconds"])
    for seconds in result["seconds"].values():
        assert_is_spread(seconds)


@pytest.mark.slow
def test_checkpoints_gives_the_cost_of_every_way_to_write_one(tmp_path):
    small = ("--models", "nano", "--length", "16", "--batch", "2", "--threads", "1", "--steps", "2", "--rounds", "1")
    kinds = benchmark("checkpoints.py", *small, directory=tmp_path)["models"]["nano"]["kinds"]
    assert set(kinds) == {"torch.save", "ntp", "ntp, asynchronous"}
    for kind in kinds.values():
        assert_is_spread(kind["blocked_ms"])


@pytest.mark.slow
def test_data_gives_rows_per_second_of_every_objective(tmp_path):
    small = ("--length", "16", "--batch", "2", "--threads", "1", "--batches", "2", "--steps", "1", "--rounds", "1")
    result = benchmark("data.py", *small, directory=tmp_path)
    assert set(result["objectives"]) == {path.stem for path in (BENCHMARKS.parent / "conf/objective").glob("*.yaml")}
    for objective in result["objectives"].values():
        assert_is_spread(objective["rows_per_second"])
        assert_is_spread(objective["share_of_step"])


@pytest.mark.slow(first=True)
def test_sweep_gives_seconds_of_a_job_and_of_its_peers(tmp_path):
    result = benchmark("sweep.py", "--rounds", "1", "--jobs", "3", directory=tmp_path)
    assert "python -c 'import torch, lightning'" in result["seconds"]
    for seconds in result["seconds"].values():
        assert seconds["min"] <= seconds["median"] <= seconds["max"]
    assert_is_spread(result["seconds"]["a job of a sweep, from its start to the end of its first step"])
