"""Runs that differ by their seed only are one arm, named by what sets the arms apart."""

import pytest
import yaml

from ntp.comparison.arms import equal_settings, group
from ntp.comparison.collect import collect
from tests.comparison.made import make_run


def arms_of(path):
    return group(collect([str(path)]).runs)


def test_seeds_paths_and_logging_make_no_arm(tmp_path):
    for seed in (1, 0):
        run = make_run(tmp_path / f"any{seed}", seed=seed)
        config = yaml.safe_load((run / "config.yaml").read_text())
        config |= {"logger": {"wandb": {"project": f"p{seed}"}}, "tags": [str(seed)], "evaluation": {"rows": seed + 1}}
        (run / "config.yaml").write_text(yaml.safe_dump(config))
    arms, repeated = arms_of(tmp_path)
    assert [(arm.name, arm.seeds) for arm in arms] == [("causal", (0, 1))]
    assert repeated == []


def test_a_null_of_a_later_version_makes_no_arm(tmp_path):
    make_run(tmp_path / "old", seed=0)
    new = make_run(tmp_path / "new", seed=1)
    config = yaml.safe_load((new / "config.yaml").read_text())
    config["trainer"]["time_limit_minutes"] = None
    (new / "config.yaml").write_text(yaml.safe_dump(config))
    assert len(arms_of(tmp_path)[0]) == 1


def test_arms_are_named_by_their_objective_and_what_else_differs(tmp_path):
    make_run(tmp_path / "a", "causal", width=128)
    make_run(tmp_path / "b", "causal", width=64)
    make_run(tmp_path / "c", "mlm", width=64)
    arms, _ = arms_of(tmp_path)
    assert [arm.name for arm in arms] == ["causal width=64", "causal width=128", "mlm width=64"]


def test_what_follows_from_the_objective_is_not_in_the_names(tmp_path):
    make_run(tmp_path / "a", "causal")
    run = make_run(tmp_path / "b", "mlm")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["objective"]["rate"] = 0.15
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    arms, _ = arms_of(tmp_path)
    assert [arm.name for arm in arms] == ["causal", "mlm"]
    assert arms[1].settings["objective.rate"] == "0.15"
    assert "model.width" in equal_settings(arms)


def ask(run, *overrides, **config):
    """Let a run's user have asked for something, with these parts of the config."""
    content = yaml.safe_load((run / "config.yaml").read_text())
    for name, values in config.items():
        content[name] |= values
    (run / "config.yaml").write_text(yaml.safe_dump(content))
    (run / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))


@pytest.mark.parametrize("known", [True, False])
def test_a_key_that_is_made_from_another_is_not_in_the_names(tmp_path, known):
    for name in ("a", "b"):
        path = f"{name}.txt"
        run = make_run(tmp_path / name)
        ask(run, *([f"data.path={path}"] if known else []), data={"path": path, "corpus": {"path": path}})
    arms, _ = arms_of(tmp_path)
    assert [arm.name for arm in arms] == ["path=a.txt", "path=b.txt"]
    assert set(arms[0].settings) == {"data.path", "data.corpus.path"}


def test_keys_that_a_user_has_set_are_in_the_names_also_where_their_values_agree(tmp_path):
    for number in (2, 4):
        run = make_run(tmp_path / str(number))
        ask(run, f"model.heads={number}", f"model.layers={number}", model={"heads": number, "layers": number})
    assert [arm.name for arm in arms_of(tmp_path)[0]] == ["heads=2 layers=2", "heads=4 layers=4"]


def test_a_choice_stands_for_all_that_it_sets(tmp_path):
    for choice, width in (("nano", 64), ("micro", 128), ("micro", 96)):
        run = make_run(tmp_path / f"{choice}{width}", width=width)
        own = ["model.width=96"] if width == 96 else []
        ask(run, f"model={choice}", *own, "data/tokenizer=char", model={"layers": 4 if choice == "nano" else 6})
    assert [arm.name for arm in arms_of(tmp_path)[0]] == [
        "model=nano width=64",
        "model=micro width=96",
        "model=micro width=128",
    ]
    for choice, layers in (("a", 1), ("b", 2)):
        run = make_run(tmp_path / "tokenizers" / choice)
        ask(run, f"data/tokenizer={choice}", data={"tokenizer": {"vocabulary": layers, "merges": 9 * layers}})
    assert [arm.name for arm in arms_of(tmp_path / "tokenizers")[0]] == ["tokenizer=a", "tokenizer=b"]


def test_a_choice_that_does_not_tell_arms_apart_is_not_taken_for_what_differs(tmp_path):
    # Of equal choices two have become different, as where the file behind one has changed.
    for name, choice, layers in (("a", "nano", 2), ("b", "nano", 3), ("c", "micro", 4)):
        ask(make_run(tmp_path / name), f"model={choice}", model={"layers": layers})
    assert [arm.name for arm in arms_of(tmp_path)[0]] == ["layers=2", "layers=3", "layers=4"]


def test_of_a_long_path_its_end_is_in_the_name(tmp_path):
    for name in ("a", "b"):
        path = f"{'/folder' * 9}/{name}.txt"
        ask(make_run(tmp_path / name), f"data.path={path}", data={"path": path})
    first, second = (arm.name for arm in arms_of(tmp_path)[0])
    assert (first[-6:], second[-6:]) == ("/a.txt", "/b.txt")
    assert len(first) < 50


def test_one_objective_is_named_by_the_settings_alone(tmp_path):
    make_run(tmp_path / "a", width=64)
    make_run(tmp_path / "b", width=32)
    assert [arm.name for arm in arms_of(tmp_path)[0]] == ["width=32", "width=64"]


def test_the_same_seed_twice_is_one_observation(tmp_path):
    make_run(tmp_path / "long", steps=40)
    make_run(tmp_path / "short", steps=20)
    arms, repeated = arms_of(tmp_path)
    assert [run.path.name for run in arms[0].runs] == ["long"]
    ((name, reason),) = repeated
    assert name.endswith("short")
    assert "the same configuration and the same seed" in reason
