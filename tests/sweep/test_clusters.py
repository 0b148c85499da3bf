"""Sweeps on clusters: what a job asks for, what becomes of it, and that it computes what one process does."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ntp.config.errors import ConfigError
from ntp.config.schema import SweepConfig
from ntp.sweep.clusters import Shape, SlurmOptions, shape_of
from ntp.sweep.submitit_executors import SlurmExecutor
from tests.conftest import read_metrics, read_summary
from tests.sweep.test_process import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
ON_CPU = ("trainer.accelerator=cpu", "trainer.strategy=ddp")
OPTIONS: dict[str, Any] = {
    "timeout_min": 60,
    "signal_delay_s": 100,
    "max_num_timeout": 3,
    "setup": ["module load cuda"],
    "cpus_per_task": None,
    "mem_gb": 1.5,
    "gpu_type": None,
    "partition": "long",
    "account": None,
    "qos": None,
    "constraint": None,
    "exclude": None,
    "comment": None,
    "name": None,
    "array_parallelism": 7,
    "srun_args": ["--cpu-bind=cores"],
    "additional_parameters": {"reservation": "night"},
}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a SLURM whose nodes are all this machine; see `tests.sweep.pretend_slurm`."""
    programs, state = tmp_path / "programs", tmp_path / "slurm"
    programs.mkdir()
    state.mkdir()
    for name in ("sbatch", "srun", "squeue", "scancel"):
        program = programs / name
        program.write_text(f"#!{sys.executable}\n{(REPOSITORY / 'tests/sweep/pretend_slurm.py').read_text()}")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setenv("PRETEND_SLURM", str(state))
    return state


def job(devices=1, *, accelerator="cpu", num_nodes=1, **sweep) -> Any:
    trainer = SimpleNamespace(accelerator=accelerator, devices=devices, num_nodes=num_nodes)
    return SimpleNamespace(config=SimpleNamespace(trainer=trainer, sweep=SweepConfig(**sweep)))


def queued(folder: Path, *jobs: Any, **options: Any) -> list[list[str]]:
    """The batch scripts that jobs come to, as lines."""
    (folder / "held").touch()
    executor = SlurmExecutor(SlurmOptions(**OPTIONS | options), folder / "sweep")
    for number, one in enumerate(jobs):
        executor.start(one, ["train"], folder / f"{number}.txt", [], "group")
    executor.hand_over()
    return [one.read_text().splitlines() for one in sorted(folder.glob("*.sh"))]


def test_a_job_has_a_task_for_each_device_on_as_many_nodes_as_its_configuration_says():
    assert shape_of(job(4, accelerator="gpu", num_nodes=2)) == Shape(nodes=2, processes=4, gpus=4)
    assert shape_of(job(2)) == Shape(nodes=1, processes=2, gpus=0)


def test_the_sweep_node_can_ask_for_more_gpus_and_for_threads():
    assert shape_of(job(2, accelerator="gpu", gpus=4, threads=8)) == Shape(1, 2, gpus=4, threads=4)


@pytest.mark.parametrize(
    ("asked", "key"),
    [
        (job("auto"), "trainer.devices"),
        (job(1, accelerator="auto"), "trainer.accelerator"),
        (job(4, accelerator="gpu", gpus=2), "sweep.gpus"),
    ],
)
def test_what_depends_on_an_unknown_machine_must_be_said(asked, key):
    with pytest.raises(ConfigError, match=f"^{key}: "):
        shape_of(asked)


def test_slurm_is_asked_for_what_the_job_and_the_launcher_say(slurm):
    (script,) = queued(slurm, job(4, accelerator="gpu", num_nodes=2, threads=8), gpu_type="a100")
    for line in ("nodes=2", "ntasks-per-node=4", "gpus-per-node=a100:4", "cpus-per-task=2", "mem=1536M", "time=60"):
        assert f"#SBATCH --{line}" in script
    for line in ("partition=long", "reservation=night", "signal=USR2@100", "requeue", "open-mode=append"):
        assert f"#SBATCH --{line}" in script
    assert "module load cuda" in script
    assert "--kill-on-bad-exit=1 --cpu-bind=cores " in script[-1]
    assert not [line for line in script if "account" in line]


def test_jobs_of_one_shape_are_one_array(slurm):
    pair, single = queued(slurm, job(1), job(2), job(1))
    assert "#SBATCH --array=0-1%2" in pair
    assert "#SBATCH --ntasks-per-node=1" in pair
    assert "#SBATCH --ntasks-per-node=2" in single
    assert not [line for line in single if "array" in line]


def test_a_sweep_inside_of_an_allocation_hands_nothing_of_it_on(slurm, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "1")
    monkeypatch.setenv("SLURM_CONF", "here")
    sbatch = Path(os.environ["PATH"].split(os.pathsep)[0]) / "sbatch"
    asked = slurm / "environment"
    sbatch.write_text(f"#!/bin/sh\nenv > {asked}\necho Submitted batch job 1\n")
    queued(slurm, job(1))
    names = {line.split("=")[0] for line in asked.read_text().splitlines() if line.startswith("SLURM_")}
    assert names == {"SLURM_CONF"}
    assert os.environ["SLURM_JOB_ID"] == "7"


def test_what_sbatch_refuses_is_said(slurm):
    sbatch = Path(os.environ["PATH"].split(os.pathsep)[0]) / "sbatch"
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: long' >&2\nexit 1\n")
    with pytest.raises(ConfigError, match=r"^hydra.launcher: .*invalid partition specified: long"):
        queued(slurm, job(1))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["hydra/launcher=submitit_slurm"], "hydra/launcher: there is no SLURM here"),
        (["hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=long"], "hydra.launcher.timeout_min: should be"),
        (["hydra/launcher=submitit_slurm", "hydra.launcher.partitoin=x"], "hydra.launcher.partitoin"),
        (["hydra/launcher=submitit_slurm", "+hydra.launcher.nodes=2"], "hydra.launcher.nodes: no such key"),
        (["hydra/launcher=submitit_slurm", "trainer.devices=auto"], "trainer.devices: a cluster must be asked for"),
        (["hydra/launcher=submitit_local", "trainer.num_nodes=2"], "the jobs of hydra/launcher=submitit_local run on"),
        (["hydra/launcher=ray", "trainer.num_nodes=2"], "trainer.num_nodes: a job of Ray's has one machine"),
        (["hydra/launcher=ray", "hydra.launcher.num_cpus=-1"], "hydra.launcher.num_cpus: should be greater than 0"),
    ],
)
def test_a_mistake_is_one_line_before_any_job_is_queued(ntp, tiny, monkeypatch, tmp_path, arguments, problem):
    monkeypatch.setenv("PATH", str(tmp_path))
    outcome = ntp("train", "-m", *tiny, "seed=0,1", *arguments)
    assert outcome.status == 2
    assert problem in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("launcher", "module", "extra"),
    [("submitit_slurm", "submitit", "slurm"), ("submitit_local", "submitit", "slurm"), ("ray", "ray", "ray")],
)
def test_a_library_that_is_not_installed_is_named_with_its_extra(ntp, tiny, monkeypatch, launcher, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    outcome = ntp("train", "-m", *tiny, "seed=0,1", f"hydra/launcher={launcher}")
    assert outcome.status == 2
    assert outcome.stderr == f'ntp train: hydra/launcher: {module} is not installed; pip install "ntp[{extra}]"\n'


@pytest.mark.parametrize("launcher", ["submitit_slurm", "ray"])
def test_a_dry_run_needs_no_cluster(ntp, tiny, monkeypatch, tmp_path, launcher):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "ray", None)
    outcome = ntp("train", "-m", *tiny, "seed=0,1", f"hydra/launcher={launcher}", "sweep.dry_run=true")
    assert outcome.status == 0, outcome.stderr
    assert "2 jobs: 2 to run" in outcome.stdout


@pytest.mark.parametrize("trainer", ["ddp", pytest.param("fsdp", marks=pytest.mark.slow)])
def test_two_processes_of_submitits_local_executor_give_the_losses_of_one(ntp, tiny, trained, tmp_path, trainer):
    two = (f"trainer={trainer}", "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.devices=2")
    outcome = ntp("train", "-m", *tiny, *two, "hydra/launcher=submitit_local", "sweep.name=two")
    assert outcome.status == 0, outcome.stderr
    assert "1 job: 1 finished" in outcome.stdout
    assert_same_losses(tmp_path / "outputs/sweeps/two/single", trained)


def test_two_nodes_of_slurm_give_the_losses_of_one_process(ntp, tiny, trained, tmp_path, slurm):
    two = ("hydra/launcher=submitit_slurm", "sweep.name=two", "trainer.num_nodes=2", *ON_CPU)
    outcome = ntp("train", "-m", *tiny, *two)
    assert outcome.status == 0, outcome.stderr
    assert "[1/1] single  is queued\n1 job in SLURM's queue as 100; " in outcome.stderr
    assert_same_losses(tmp_path / "outputs/sweeps/two/single", trained)


@pytest.mark.slow
def test_a_job_that_fails_is_told_with_its_reason(ntp, tiny, slurm):
    outcome = ntp("train", "-m", *tiny, *ON_CPU, "hydra/launcher=submitit_slurm", "model.heads=3")
    assert outcome.status == 1
    assert "1 job: 1 failed" in outcome.stdout
    assert "single: ntp train: model.heads: " in outcome.stdout


def test_jobs_that_only_wait_are_taken_out_of_the_queue(slurm):
    (slurm / "held").touch()
    executor = SlurmExecutor(SlurmOptions(**OPTIONS), slurm / "sweep")
    works = [executor.start(job(1), ["train"], slurm / f"{number}.txt", [], "group") for number in range(2)]
    executor.hand_over()
    assert [one.ended() for one in works] == [None, None]
    for one in works:
        one.ask_to_stop()
    executor.hand_over()
    assert not list(slurm.glob("*.job"))


def test_slurm_is_asked_for_all_jobs_at_once_and_seldom(slurm):
    (slurm / "held").touch()
    executor = SlurmExecutor(SlurmOptions(**OPTIONS), slurm / "sweep")
    works = [executor.start(job(1), ["train"], slurm / f"{number}.txt", [], "group") for number in range(20)]
    executor.hand_over()
    for _ in range(10):
        assert [one.ended() for one in works] == [None] * 20
    assert (slurm / "asked").read_text() == "squeue\n"


@pytest.mark.slow(first=True)
@pytest.mark.parametrize("launcher", ["submitit_local", "submitit_slurm", "ray"])
def test_ctrl_c_leaves_checkpoints_and_the_same_command_goes_on(tiny, slurm, tmp_path, launcher):
    if launcher == "ray":
        pytest.importorskip("ray")
    command = [sys.executable, "-m", "ntp", "train", "-m", *tiny, *ON_CPU, "trainer.devices=2", "seed=0,1"]
    command += [
        "budget.steps=300",
        "evaluation.every_steps=null",
        f"hydra/launcher={launcher}",
        "sweep.name=stop",
        "sweep.jobs=2",
    ]
    runs = [tmp_path / f"outputs/sweeps/stop/seed={seed}" for seed in (0, 1)]
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path}
    launched = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        wait_until(lambda: any(len(lines(run)) > 3 for run in runs), 200)
    finally:
        os.killpg(launched.pid, signal.SIGINT)  # as a terminal does: to all processes in it
    stdout, stderr = launched.communicate(timeout=120)
    assert launched.returncode == 130
    assert "2 jobs: 2 stopped" in stdout
    assert "stopped by SIGINT with 0 of 2 jobs done; go on with: ntp train -m " in stderr
    begun = [run for run in runs if lines(run)]
    assert begun
    assert [read_summary(run)["state"] for run in begun] == ["stopped"] * len(begun)
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert again.returncode == 0, again.stderr
    assert "2 jobs: 2 finished" in again.stdout
    for run in runs:
        assert [line["step"] for line in lines(run) if "train/loss" in line] == list(range(1, 301))


@pytest.mark.slow
def test_ray_runs_jobs_of_one_and_of_two_processes(ntp, tiny, trained, tmp_path):
    pytest.importorskip("ray")
    outcome = ntp("train", "-m", *tiny, *ON_CPU, "hydra/launcher=ray", "sweep.name=ray", "trainer.devices=1,2")
    assert outcome.status == 0, outcome.stderr
    for devices in (1, 2):
        assert_same_losses(tmp_path / f"outputs/sweeps/ray/trainer.devices={devices}", trained)


def lines(run: Path) -> list[dict[str, Any]]:
    return read_metrics(run) if (run / "metrics.jsonl").exists() else []


def assert_same_losses(run: Path, other: Path) -> None:
    for name in ("train/loss", "val/loss"):
        losses, others = ([line[name] for line in read_metrics(one) if name in line] for one in (run, other))
        assert len(losses) > 1
        assert losses == pytest.approx(others, abs=1e-6)
    assert read_summary(run)["state"] == "finished"
