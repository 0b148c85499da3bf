"""Weights that are cut over two processes train as whole ones do, and their checkpoints are those of whole ones."""

import json
from pathlib import Path

import pytest
import torch

from tests.conftest import call, read_metrics, spawn
from tests.training.several import DDP, FSDP, assert_same_curve, stopped_at

SHAPE = (
    "budget.steps=6",
    "evaluation.rows=9",
    "evaluation.final_rows=9",
    "data.documents=isolate",
    "data.micro_batch_size=1",
    "callbacks.checkpoint.every_steps=2",
    "callbacks.checkpoint.keep_last=9",
)


@pytest.fixture(scope="module")
def shape(tiny, packed):
    """Two micro-batches a step, an odd number of validation rows, and uneven numbers of targets."""
    return (*tiny, *packed, *SHAPE)


@pytest.fixture(scope="module")
def whole(shape, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "run"
    outcome = call("train", *shape, f"run_dir={path}")
    assert outcome.status == 0, outcome.stderr
    return path


@pytest.fixture(scope="module")
def cut(shape, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("cut") / "run"
    outcome = spawn("train", *shape, *FSDP, f"run_dir={path}", cwd=path.parent)
    assert outcome.status == 0, outcome.stderr
    return path


def load(run: Path) -> dict:
    return torch.load(run / "checkpoints/last.ckpt", weights_only=True)


def test_a_cut_model_trains_as_a_whole_one_does(whole, cut):
    assert_same_curve(whole, cut)


def test_a_checkpoint_is_what_one_process_would_have_written(whole, cut):
    ours, theirs = load(whole), load(cut)
    assert ours.keys() == theirs.keys()
    torch.testing.assert_close(theirs["state_dict"], ours["state_dict"], rtol=1e-3, atol=1e-5)
    (one,), (other,) = ours["optimizer_states"], theirs["optimizer_states"]
    assert one["param_groups"] == other["param_groups"]
    assert one["state"].keys() == other["state"].keys()
    for number, state in one["state"].items():
        torch.testing.assert_close(other["state"][number], state, rtol=1e-3, atol=1e-6)


def test_one_process_evaluates_and_generates_with_a_cut_models_checkpoint(cut):
    outcome = call("evaluate", f"run={cut}", "checkpoint=last", "rows=2")
    assert outcome.status == 0, outcome.stderr
    outcome = call("generate", f"run={cut}", "checkpoint=last", "prompt=x1", "tokens=4")
    assert outcome.status == 0, outcome.stderr


def test_the_run_ends_with_the_sample_that_a_whole_model_writes(whole, cut):
    assert (cut / "sample.txt").read_text() == (whole / "sample.txt").read_text()


def test_one_process_goes_on_with_a_cut_run(cut, tmp_path):
    run = stopped_at(cut, 2, tmp_path / "run")
    outcome = call("train", f"resume={run}", "trainer=cpu", "trainer.progress_bar=false", "trainer.log_every_steps=1")
    assert outcome.status == 0, outcome.stderr
    assert_same_curve(cut, run)


@pytest.mark.slow
def test_a_cut_run_goes_on_with_that_of_one_process(whole, tmp_path):
    run = stopped_at(whole, 2, tmp_path / "run")
    outcome = spawn("train", f"resume={run}", *FSDP, cwd=tmp_path)
    assert outcome.status == 0, outcome.stderr
    assert_same_curve(whole, run)


def test_muon_is_refused(ntp, tiny):
    outcome = ntp("train", *tiny, *FSDP, "optimizer=muon")
    assert outcome.status == 2
    assert "optimizer: muon turns whole matrices, which fsdp cuts; take adamw, or trainer=ddp" in outcome.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("objective=mlm",),
        ("objective=multi_token",),
        ("objective=replaced_token",),
        ("objective=masked_diffusion",),
        ("objective=permutation",),
        ("objective=block_diffusion",),
        ("objective=span_corruption",),
        ("objective=prefix_lm", "model=t5_nano", "model.heads=2"),
        ("objective=mixture",),
        # Rows of two components that run the model by themselves, one of them with blocks of its own.
        (
            "objective=mixture",
            "+objective@objective.components.further=multi_token",
            "+objective@objective.components.electra=replaced_token",
        ),
        ("model.activation_checkpointing=true",),
        ("model.tie_embeddings=false", "trainer.gradient_clip_norm=0.1"),
    ],
    ids=lambda options: " ".join(options),
)
def test_whatever_is_trained_is_trained_alike(shape, pair, tmp_path, options):
    options = (*shape, "data.sequence_length=64", "evaluation.sample_tokens=0", *options)
    if "model=t5_nano" in options:
        options = tuple(one for one in options if not one.startswith("model.layers"))
    outcome = call("train", *options, f"run_dir={tmp_path / 'one'}")
    assert outcome.status == 0, outcome.stderr
    outcome = pair("train", *options, *FSDP, "run_dir=two", cwd=tmp_path)
    assert outcome.status == 0, outcome.stderr
    assert_same_curve(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
def test_mixed_precision_is_that_of_ddp(shape, pair, tmp_path, checkpointing):
    options = (*shape, f"model.activation_checkpointing={checkpointing}", "trainer.precision=bf16-mixed")
    for name, devices in (("whole", DDP), ("cut", FSDP)):
        devices = [one for one in devices if not one.startswith("trainer.precision")]
        outcome = pair("train", *devices, *options, f"run_dir={name}", cwd=tmp_path)
        assert outcome.status == 0, outcome.stderr
    first, other = (read_metrics(tmp_path / name)[0] for name in ("whole", "cut"))
    assert other["train/loss"] == pytest.approx(first["train/loss"], rel=1e-6)
    assert other["train/gradient_norm"] == pytest.approx(first["train/gradient_norm"], rel=1e-6)
    # Later a weight that differs in its last bit may round to another bfloat16.
    assert_same_curve(tmp_path / "whole", tmp_path / "cut", rel=1e-3)


@pytest.mark.slow
def test_compiled_parts_train_as_others_do(whole, shape, tmp_path):
    outcome = spawn("train", *shape, *FSDP, "trainer.compile=true", f"run_dir={tmp_path / 'run'}", cwd=tmp_path)
    assert outcome.status == 0, outcome.stderr
    assert_same_curve(whole, tmp_path / "run", rel=1e-4)


@pytest.mark.slow
def test_a_cut_run_goes_back_to_an_earlier_checkpoint(tiny, pair, tmp_path):
    poisoned = ("objective._target_=tests.training.poisoned.Poisoned", "+objective.total=8", "allow_targets=[tests]")
    options = (*tiny, *poisoned, "budget.steps=8", "evaluation.every_steps=null", "callbacks.checkpoint.every_steps=1")
    outcome = call("train", *options, "+objective.steps=[6]", f"run_dir={tmp_path / 'rows'}")
    assert outcome.status == 0, outcome.stderr
    ((at_six,),) = [step["rows"][:1] for step in json.loads((tmp_path / "rows/nonfinite.json").read_text())]
    spoilt = (f"+objective.rows=[{at_six['row']}]", "callbacks.health.stop_after=1", "callbacks.health.rewind=true")
    for name, devices in (("whole", DDP), ("cut", FSDP)):
        outcome = pair("train", *options, *devices, *spoilt, f"run_dir={name}", cwd=tmp_path)
        assert outcome.status == 0, outcome.stderr
        assert "going on from step 4, with the data behind step 6" in outcome.stderr
    assert_same_curve(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("trainer", ["ddp", "fsdp"])
def test_gpus_train_and_one_process_on_the_cpu_goes_on(tiny, tmp_path, trainer):
    gpus = (f"trainer={trainer}", "trainer.accelerator=gpu", "trainer.precision=32-true", "data.batch_size=48")
    gpus += ("trainer.matmul_precision=highest", "callbacks.checkpoint.every_steps=2")
    outcome = spawn(
        "train", *tiny, *gpus, "evaluation.rows=48", "evaluation.final_rows=48", "run_dir=run", cwd=tmp_path
    )
    assert outcome.status == 0, outcome.stderr
    run = stopped_at(tmp_path / "run", 2, tmp_path / "stopped")
    outcome = call("train", f"resume={run}", "trainer=cpu", "trainer.progress_bar=false", "trainer.log_every_steps=1")
    assert outcome.status == 0, outcome.stderr
    assert_same_curve(tmp_path / "run", run, rel=1e-3)
