"""The command line answers at once, and every mistake is one line and status 2."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import call


def _modules_loaded_by(*arguments: str, cwd: Path) -> set[str]:
    code = f"""
import sys
from ntp.cli import main
try:
    main({list(arguments)!r})
except SystemExit:
    pass
print("MODULES", *sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, check=True)
    return set(done.stdout.split("MODULES")[1].split())


def test_top_level_help_loads_neither_hydra_nor_torch(tmp_path):
    assert not {"hydra", "torch", "lightning", "numpy"} & _modules_loaded_by("--help", cwd=tmp_path)


def test_help_of_a_command_does_not_load_torch(tmp_path):
    assert not {"torch", "lightning", "datasets", "wandb"} & _modules_loaded_by("train", "--help", cwd=tmp_path)


def test_help_lists_every_command():
    outcome = call("--help")
    assert outcome.status == 0
    for command in ("train", "evaluate", "generate", "check"):
        assert command in outcome.stdout


def test_help_of_train_lists_groups_and_their_options():
    outcome = call("train", "--help")
    assert outcome.status == 0
    for line in ("objective: block_diffusion, causal", "logger: csv, none, tensorboard, wandb", "budget.minutes=5"):
        assert line in outcome.stdout


def test_version_is_printed():
    outcome = call("--version")
    assert outcome.status == 0
    assert outcome.stdout.startswith("ntp ")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["trian"], "did you mean 'train'?"),
        (["train", "objective=cusal"], "objective: there is no 'cusal' (did you mean 'causal'?)"),
        (["train", "-m", "objective=causal,mlmm"], "objective: there is no 'mlmm' (did you mean 'mlm'?)"),
        (
            ["train", "-m", "objective=causal,mlm", "data.sequence_lenght=3"],
            "data.sequence_lenght: no such key (did you mean 'data.sequence_length'?)",
        ),
        (["train", "model=nanoo"], "model: there is no 'nanoo' (did you mean 'nano'?)"),
        (["train", "data=pyton"], "data: there is no 'pyton' (did you mean 'python'?)"),
        (["train", "sede=3"], "sede: no such key (did you mean 'seed'?)"),
        (["train", "+sede=3"], "sede: no such key (did you mean 'seed'?)"),
        (
            ["train", "data.sequence_lenght=3"],
            "data.sequence_lenght: no such key (did you mean 'data.sequence_length'?)",
        ),
        (["train", "+data.foo=1"], "data.foo: no such key"),
        (["train", "+trainer.presicion=bf16-true"], "trainer.presicion: no such key (did you mean 'precision'?)"),
        (["train", "seed=abc"], "seed: should be a valid integer"),
        (["train", "seed=-1"], "seed: should be greater than or equal to 0, not -1"),
        (["train", "seed=5000000000"], "seed: should be less than 4294967296"),
        (["train", "data.batch_size=1.5"], "data.batch_size: should be a valid integer"),
        (["train", "data.validation_fraction=2"], "data.validation_fraction: should be less than 1, not 2"),
        (["train", "trainer.precision=bf16"], "trainer.precision: should be '32-true', 'bf16-mixed'"),
        (["train", "+model.widht=3"], "model.widht: Transformer takes no such argument (did you mean 'width'?)"),
        (["train", "model.width=wide"], "model.width: should be a valid integer"),
        (["train", "model.dropout=1.5"], "model.dropout: should be less than or equal to 1, not 1.5"),
        (["train", "optimizer.betas=[0.9]"], "optimizer.betas"),
        (["train", "objective._target_=os.system"], "objective._target_: 'os.system' is outside"),
        (["train", "budget.steps=3", "budget.minutes=1"], "budget: steps and minutes are both given"),
        (["train", "data=files"], "data.path: needs a value"),
        (["train", "trainer=gpu"], "trainer.accelerator: there is no GPU here"),
        (
            ["train", "data.batch_size=6", "data.micro_batch_size=4"],
            "data.micro_batch_size: 6 rows a device do not divide",
        ),
        (["evaluate"], "run: needs a value"),
        (["train", "seed=0,1"], "seed: several values are a list, seed=[0,1], or with -m in front a sweep"),
        (["evaluate", "outputs/first"], "outputs/first: is no override; each is key=value or group=option"),
        (["evaluate", "run=nowhere"], "run: nowhere is not a run directory: there is no such directory"),
        (
            ["evaluate", "run=nowhere", "evaluation.exams.infill.gaps=[span]"],
            "evaluation.exams.infill.gaps: no such key without evaluation/exams=infill",
        ),
        (["train", "logger.wandb.project=pilot"], "logger.wandb.project: no such key without logger=wandb"),
        (["generate", "run=nowhere"], "run: nowhere is not a run directory"),
        (["generate", "run=nowhere", "top_p=1.5"], "top_p: should be less than or equal to 1, not 1.5"),
        (["train", "+debug=fast_dev_run"], "debug: is chosen already; write it without the plus: debug=fast_dev_run"),
        (["check", "sede=3"], "sede: no such key (did you mean 'seed'?)"),
    ],
)
def test_a_mistake_is_one_line_with_the_nearest_right_value_and_status_2(ntp, arguments, expected):
    if "trainer=gpu" in arguments:
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is a GPU here")
    outcome = ntp(*arguments)
    assert outcome.status == 2
    assert expected in outcome.stderr
    assert len(outcome.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "prompt", ["def main():", "a, b = {1: 2}", "it's \\'", "", "5", "back\\", "x=[", '"""', "null"]
)
def test_a_prompt_is_any_text(ntp, trained, prompt):
    outcome = ntp("generate", f"run={trained}", f"prompt={prompt}", "tokens=1")
    assert outcome.status == 0, outcome.stderr
    assert outcome.stdout.startswith(prompt)


def test_a_path_may_hold_what_hydra_would_read_as_grammar(ntp, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "seed=0, (copy)")
    assert ntp("evaluate", "run=seed=0, (copy)", "rows=2").status == 0


@pytest.mark.parametrize("flag", ["-m", "--multirun", "hydra.mode=MULTIRUN"])
def test_the_flag_of_a_sweep_may_stand_anywhere(ntp, tiny, flag):
    outcome = ntp("train", *tiny, flag, "seed=0,1", "sweep.dry_run=true")
    assert outcome.status == 0, outcome.stderr
    assert "2 jobs: 2 to run" in outcome.stdout


def test_a_sweep_of_checks_runs_here_and_leaves_no_runs(ntp, tiny, tmp_path):
    outcome = ntp("check", "-m", *tiny, "seed=0,1")
    assert outcome.stdout.count("nothing was trained; the configuration is good") == 2
    assert [path.name for path in tmp_path.glob("outputs/sweeps/*/*")] == ["multirun.yaml"]


def test_a_closed_pipe_is_no_error(tmp_path):
    for arguments in ("--help", "train --help"):
        command = f"{sys.executable} -m ntp {arguments} | true"
        done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, cwd=tmp_path)
        assert done.stderr == ""


def test_a_run_directory_that_cannot_be_made_is_one_line(ntp, tiny, tmp_path):
    (tmp_path / "file").touch()
    outcome = ntp("train", *tiny, "run_dir=file/run")
    assert outcome.status == 2
    assert outcome.stderr.startswith("ntp train: run_dir: ")


def test_hydras_own_launcher_takes_one_device_a_job(ntp, tiny):
    devices = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    outcome = ntp("train", "-m", "hydra/launcher=basic", *tiny, *devices, "seed=0,1")
    assert outcome.status == 2
    assert "trainer.devices: hydra/launcher=basic takes one device a job; isolated takes any number" in outcome.stderr


def test_shell_completion_offers_commands_keys_and_options(tmp_path):
    def complete(line: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-m", "ntp", "-sc", "query=bash"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"COMP_LINE": line},
        )
        return done.stdout.split()

    assert "train" in complete("ntp tr")
    assert complete("ntp train objective=cau") == ["objective=causal"]
    assert "data.sequence_length=" in complete("ntp train data.seq")
    assert "temperature=" in complete("ntp generate temp")


@pytest.mark.parametrize("command", ["train", "explain"])
def test_a_group_without_an_option_is_refused_in_one_line(ntp, command):
    outcome = ntp(command, "objective=null")
    assert outcome.status == 2
    assert outcome.stderr == f"ntp {command}: objective: is a group, and needs one of its options; --help lists them\n"
