"""Names of sweeps and jobs: readable, safe as directories, and the same for the same thing."""

import pytest

from ntp.config.naming import LONGEST_NAME, job_name, overrides_by_key, sweep_name


def name_of(*overrides: str, **params: str) -> str:
    return sweep_name(overrides_by_key(overrides, {"params": params}))


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["model=small", "objective=causal", "seed=0"], "objective=causal,seed=0"),
        (["seed=0", "objective=causal"], "objective=causal,seed=0"),
        (["objective=mlm", "optimizer.learning_rate=0.001"], "objective=mlm,optimizer.learning_rate=0.001"),
        (["data/tokenizer=char"], "data.tokenizer=char"),
        (["+trainer.x=null"], "trainer.x=null"),
        (["seed=1", "sweep.trial={study:a,storage:b,number:3}", "hydra.verbose=true"], "seed=1"),
        (["data.path='über.txt'"], "data.path=über.txt"),
        (["model=small"], "single"),
    ],
)
def test_a_job_is_named_after_what_it_varies(overrides, name):
    assert job_name(overrides, ["model"]) == name


ODD = ["texts/a.txt", "texts_a.txt", "a,b", "a=b", "*", "?", "..", "'", "a b", "long" * 100, "ö" * 200, "long" * 101]


def test_odd_and_long_values_become_safe_and_stay_different():
    names = [job_name([f"data.path='{value.replace(chr(39), chr(92) + chr(39))}'"], []) for value in ODD]
    assert len(set(names)) == len(ODD)
    for name in names:
        assert len(name.encode()) <= LONGEST_NAME
        assert name.startswith("data.path=")
        assert not set(name.removeprefix("data.path=")) & set("/,=*?' \\\n")


def test_many_keys_make_no_name_longer_than_a_file_system_takes():
    overrides = [f"a.rather.long.key{number}={number}" for number in range(40)]
    assert len(job_name(overrides, []).encode()) <= LONGEST_NAME
    assert len(name_of(*(f"{one},99" for one in overrides)).encode()) <= LONGEST_NAME


def test_a_sweep_is_named_after_the_keys_that_vary():
    assert name_of("model=small", "objective=causal,mlm", "seed=range(3)").startswith("objective+seed-")


@pytest.mark.parametrize(
    "same",
    [
        ["seed=0,1,2,3", "objective=causal,mlm", "model=small"],
        ["objective=fim,causal", "model=small", "seed=0,1"],
        ["objective=causal,mlm", "seed=0,1", "model=small", "logger=wandb", "logger.wandb.project=p", "tags=[a]"],
        ["objective=causal,mlm", "seed=0,1", "model=small", "sweep.jobs=4", "trainer.progress_bar=false"],
        ["objective=causal,mlm", "seed=0,1", "model=small", "data.cache_dir=/tmp/x", "data.workers=2"],
    ],
)
def test_a_sweep_keeps_its_name_when_it_is_widened_or_only_watched_otherwise(same):
    assert name_of(*same) == name_of("objective=causal,mlm", "seed=0,1", "model=small")


@pytest.mark.parametrize(
    "other",
    [
        ["objective=causal,mlm", "seed=0,1", "model=micro"],
        ["objective=causal,mlm", "seed=0,1"],
        ["objective=causal,mlm", "seed=0", "model=small"],
        ["objective=causal,mlm", "seed=0,1", "model=small", "budget.steps=3"],
    ],
)
def test_another_sweep_has_another_name(other):
    assert name_of(*other) != name_of("objective=causal,mlm", "seed=0,1", "model=small")


def test_what_a_file_varies_counts_like_the_command_line():
    assert name_of("model=small", seed="0,1", model="micro") == name_of("model=small", "seed=0,1")
