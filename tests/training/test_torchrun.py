"""Processes that torchrun starts, on one machine or several."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ntp.tracking.runs import read_run
from tests.conftest import read_summary
from tests.training.several import assert_same_curve, wait_for


@pytest.fixture
def started_by_torchrun(monkeypatch):
    """What torchrun tells the first of two processes."""
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)


def test_several_processes_must_be_told_where_to_write(started_by_torchrun, ntp, tiny, tmp_path):
    outcome = ntp("train", *tiny, "trainer=ddp_cpu")
    assert outcome.status == 2
    expected = "run_dir: several processes are started for this run; tell all of them where: run_dir=..."
    assert expected in outcome.stderr
    assert len(outcome.stderr.strip().splitlines()) == 1


def test_the_configuration_must_ask_for_the_devices_that_are_started(started_by_torchrun, ntp, tiny, tmp_path):
    outcome = ntp("train", *tiny, "run_dir=run")
    assert outcome.status == 2
    expected = "trainer.devices: 1 in all (trainer.devices * trainer.num_nodes), but torchrun has started 2 processes"
    assert expected in outcome.stderr
    assert not (tmp_path / "run").exists()


@pytest.fixture
def start_two_machines(tmp_path):
    """Starts torchrun twice, as on two machines, for a run in ``two``."""
    nodes = []

    def start_two_machines(*overrides):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        torchrun = (sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1")
        torchrun += ("--master-addr=127.0.0.1", f"--master-port={port}")
        devices = ("trainer=ddp_cpu", "trainer.devices=1", "trainer.num_nodes=2", "trainer.log_every_steps=1")
        for rank in range(2):
            arguments = [*torchrun, f"--node-rank={rank}", "-m", "ntp", "train", *overrides, *devices, "run_dir=two"]
            nodes.append(subprocess.Popen(arguments, cwd=tmp_path, stderr=subprocess.PIPE, text=True))
        return nodes

    yield start_two_machines
    for node in nodes:
        if node.poll() is None:
            node.terminate()  # torchrun ends its processes
            node.communicate(timeout=60)


@pytest.mark.slow
def test_two_machines_compute_what_one_process_computes(start_two_machines, ntp, tiny, packed, tmp_path):
    options = (*tiny, *packed, "data.documents=isolate", "data.micro_batch_size=1")
    assert ntp("train", *options, "run_dir=one").status == 0
    for node in start_two_machines(*options):
        _, stderr = node.communicate(timeout=280)
        assert node.returncode == 0, stderr
    assert read_summary(tmp_path / "two")["state"] == "finished"
    assert_same_curve(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs Linux to find the processes")
@pytest.mark.parametrize("dead", [0, 1])
def test_the_death_of_a_process_on_one_machine_ends_those_on_the_other(start_two_machines, tiny, tmp_path, dead):
    nodes = start_two_machines(*tiny, "budget.steps=1000000", "evaluation.every_steps=20")
    wait_for(tmp_path / "two/checkpoints/last.ckpt", nodes[0])
    started = Path(f"/proc/{nodes[dead].pid}/task/{nodes[dead].pid}/children").read_text().split()
    os.kill(int(started[0]), signal.SIGKILL)
    other = 1 - dead
    _, stderr = nodes[other].communicate(timeout=60)
    assert nodes[other].returncode == 1
    expected = f"ntp train: rank {other} of 2 has lost the connection to another; go on with: ntp train resume=two"
    assert expected in stderr
    assert read_run(tmp_path / "two").state == ("failed" if dead else "interrupted")
