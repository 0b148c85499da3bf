"""`ntp evaluate`: the numbers of a run on its own text and on any other."""

import json
import shutil

import pytest
import torch
import yaml

from tests.conftest import TEXT, read_summary


def last_record(run_dir):
    return json.loads((run_dir / "evaluations.jsonl").read_text().splitlines()[-1])


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "copy")


def test_the_validation_text_gives_what_training_said_last(ntp, run):
    assert ntp("evaluate", f"run={run}", "rows=8", "checkpoint=last").status == 0
    record, summary = last_record(run), read_summary(run)
    for name in ("loss", "perplexity", "bits_per_token", "bits_per_byte"):
        assert record[name] == pytest.approx(summary[f"val/{name}"], rel=1e-6)


def test_rows_at_a_time_change_nothing_but_rounding(ntp, run):
    values = []
    for size in (1, 3, 64):
        assert ntp("evaluate", f"run={run}", "split=all", f"batch_size={size}").status == 0
        values.append(last_record(run)["loss"])
    assert values == pytest.approx([values[0]] * 3, rel=1e-6)


def test_other_data_is_read_with_the_runs_tokenizer_and_wholly(ntp, run, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text(TEXT[:500])
    outcome = ntp("evaluate", f"run={run}", "data=files", f"data.path={other}")
    assert outcome.status == 0, outcome.stderr
    record = last_record(run)
    assert record["bytes"] == 499  # nothing stands before the first character, so nobody predicts it
    assert record["targets"] == 500  # the end of the text is predicted too, and stands for no byte
    assert "bits per byte" in outcome.stdout


def test_every_character_is_predicted_exactly_once_however_long_the_rows_are(ntp, run):
    config = yaml.safe_load((run / "config.yaml").read_text())
    targets = set()
    for length in (7, 32, 500):
        config["data"]["sequence_length"] = length
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        assert ntp("evaluate", f"run={run}", "split=all").status == 0
        targets.add((last_record(run)["targets"], last_record(run)["bytes"]))
    assert targets == {(len(TEXT), len(TEXT) - 1)}


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_bfloat16_is_close(ntp, run, precision):
    for one in ("32-true", precision):
        assert ntp("evaluate", f"run={run}", f"precision={one}", "rows=8").status == 0
    records = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    assert records[1]["loss"] == pytest.approx(records[0]["loss"], abs=0.05)


def test_a_checkpoint_of_another_architecture_is_refused(ntp, run):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["width"] = 64
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    outcome = ntp("evaluate", f"run={run}")
    assert outcome.status == 2
    assert "checkpoint: is of another architecture" in outcome.stderr
    assert "x32 in it and" in outcome.stderr


def test_a_damaged_checkpoint_is_refused(ntp, run):
    path = run / "checkpoints/best.ckpt"
    path.write_bytes(path.read_bytes()[:1000])
    outcome = ntp("evaluate", f"run={run}")
    assert outcome.status == 2
    assert "is not a readable checkpoint" in outcome.stderr


def test_a_checkpoint_that_would_run_code_is_refused(ntp, run, tmp_path):
    class Evil:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'evil')!r}, 'w')",))

    torch.save({"state_dict": Evil(), "global_step": 1}, run / "checkpoints/best.ckpt")
    outcome = ntp("evaluate", f"run={run}")
    assert outcome.status == 2
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("key", ["width", "extra"])
def test_a_run_of_somebody_elses_builds_nothing_but_its_model(ntp, run, tmp_path, key):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["allow_targets"] = ["subprocess"]
    config["model"][key] = {"_target_": "subprocess.Popen", "args": ["touch", str(tmp_path / "evil")]}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    outcome = ntp("evaluate", f"run={run}")
    assert outcome.status == 2
    assert not (tmp_path / "evil").exists()


def test_an_object_where_a_number_belongs_is_refused(ntp, run):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["width"] = {"_target_": "torch.nn.Identity"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    outcome = ntp("evaluate", f"run={run}")
    assert outcome.status == 2
    assert "model.width: should be a valid integer" in outcome.stderr


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("config.yaml", "", "holds no configuration"),
        ("config.yaml", "a: [", "config.yaml is damaged"),
        ("tokenizer/tokenizer.json", "{", "has no readable tokenizer"),
        ("tokenizer/tokenizer.json", None, "has no readable tokenizer"),
    ],
)
def test_a_damaged_run_is_one_line(ntp, run, file, content, expected):
    (run / file).unlink()
    if content is not None:
        (run / file).write_text(content)
    outcome = ntp("evaluate", f"run={run}")
    assert outcome.status == 2
    assert expected in outcome.stderr
    assert len(outcome.stderr.strip().splitlines()) == 1


def test_any_other_file_of_torchs_is_no_checkpoint(ntp, run):
    torch.save({"weights": torch.zeros(2)}, run / "checkpoints/best.ckpt")
    outcome = ntp("evaluate", f"run={run}")
    assert outcome.status == 2
    assert "is not a checkpoint of ntp's" in outcome.stderr


def test_a_run_without_checkpoints_is_refused(ntp, run):
    shutil.rmtree(run / "checkpoints")
    outcome = ntp("evaluate", f"run={run}")
    assert outcome.status == 2
    assert "checkpoint: there is no checkpoint" in outcome.stderr


def test_several_draws_give_a_standard_error(ntp, tiny, tmp_path):
    outcome = ntp("train", *tiny, "objective=masked_diffusion", "run_dir=run")
    assert outcome.status == 0, outcome.stderr
    outcome = ntp("evaluate", "run=run", "draws=3")
    assert outcome.status == 0, outcome.stderr
    record = last_record(tmp_path / "run")
    assert record["draws"] == 3
    assert 0 < record["bits_per_byte_stderr"] < record["bits_per_byte"]
    assert f"{record['bits_per_byte']:.4f} ± {record['bits_per_byte_stderr']:.4f}" in outcome.stdout


def test_one_draw_has_no_error_to_show(ntp, run):
    outcome = ntp("evaluate", f"run={run}")
    assert "±" not in outcome.stdout
    assert not any("stderr" in name for name in last_record(run))


def test_no_draws_are_refused(ntp, run):
    outcome = ntp("evaluate", f"run={run}", "draws=0")
    assert outcome.status == 2
    assert "draws: should be greater than 0, not 0" in outcome.stderr
