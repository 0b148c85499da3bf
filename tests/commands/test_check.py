"""`ntp check`: what would run, without running it."""

import pytest


def test_it_says_what_would_run_and_trains_nothing(ntp, tiny, tmp_path):
    outcome = ntp("check", *tiny)
    assert outcome.status == 0, outcome.stderr
    for words in ("parameters", "4 rows of 32 = 128 tokens", "4 steps", "FLOPs", "memory", "weights"):
        assert words in outcome.stdout
    assert not (tmp_path / "outputs").exists()


def test_a_model_too_large_for_this_machine_is_described_all_the_same(ntp, tiny):
    data = [one for one in tiny if not one.startswith("model.")]
    outcome = ntp("check", *data, "model=llama_1b")
    assert outcome.status == 0, outcome.stderr
    assert "parameters (973,4" in outcome.stdout  # the published 1.24 billion, less the larger vocabulary


def test_only_a_table_of_positions_limits_the_length_of_rows(ntp, tiny):
    assert ntp("check", *tiny, "model.positions=rotary", "model.context_length=16").status == 0


@pytest.mark.parametrize("model", ["nano", "micro", "small", "gpt2_124m", "llama_1b"])
def test_every_model_config_is_good(ntp, tiny, model):
    data = [one for one in tiny if not one.startswith("model.")]
    assert ntp("check", *data, f"model={model}").status == 0


def test_memory_counts_weights_gradients_and_both_averages_of_adam(ntp, tiny):
    outcome = ntp("check", *tiny)
    line = next(line for line in outcome.stdout.splitlines() if "optimizer:" in line or "weights:" in line)
    assert "weights: 103 kB" in line
    assert "optimizer: 207 kB" in line


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["model.vocabulary_size=10"], "model.vocabulary_size: 10 is less than the tokenizer's"),
        (
            ["model.positions=learned", "model.context_length=16"],
            "data.sequence_length: 32 is longer than the model's context; at most 16 fits",
        ),
        (["data.sequence_length=100000"], "data.sequence_length"),
        (["model.heads=3"], "model.heads"),
        (["objective._target_=ntp.models.transformer.Transformer"], "is not a subclass of"),
        (["model._target_=torch.nn.Linear"], "Linear takes no such argument"),
        (["+callbacks.x._target_=torch.nn.Identity"], "callbacks.x._target_: torch.nn.Identity is not a subclass of"),
        (["trainer.strategy=ddpp"], "trainer.strategy: there is no 'ddpp' (did you mean 'ddp'?)"),
        (
            ["schedule=wsd", "schedule.warmup_fraction=0.9", "schedule.decay_fraction=0.9"],
            "schedule: warmup_fraction 0.9 and decay_fraction 0.9",
        ),
        (["data.tokenizer=char"], "choose one with a slash: data/tokenizer=char"),
    ],
)
def test_parts_that_do_not_fit_are_refused_by_name(ntp, tiny, overrides, expected):
    outcome = ntp("check", *tiny, *overrides)
    assert outcome.status == 2
    assert expected in outcome.stderr
    assert len(outcome.stderr.strip().splitlines()) == 1


def test_an_objective_whose_special_tokens_are_missing_says_how_to_add_them(ntp, tiny):
    objective = ("objective._target_=tests.commands.needy.Needy", "allow_targets=[tests]")
    outcome = ntp("check", *tiny, *objective)
    assert outcome.status == 2
    assert "lacks <|mine|>" in outcome.stderr
    command = outcome.stderr.split('"')[1]
    assert ntp("check", *tiny, *objective, command).status == 0


def test_a_tokenizer_without_what_is_reserved_says_how_to_get_it(ntp, tiny, tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={one: index for index, one in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.add_special_tokens(["<|endoftext|>"])
    backend.save(str(tmp_path / "tokenizer.json"))
    pretrained = ("objective=fim", "data/tokenizer=pretrained", f"data.tokenizer.path={tmp_path}")
    outcome = ntp("check", *tiny, *pretrained, "data.tokenizer.add_special_tokens=false")
    assert outcome.status == 2
    assert "lacks <|fim_prefix|>, <|fim_suffix|>, <|fim_middle|>, which the objective needs; " in outcome.stderr
    assert "data.tokenizer.add_special_tokens=true" in outcome.stderr
    assert ntp("check", *tiny, *pretrained, "data.tokenizer.add_special_tokens=true").status == 0

    outcome = ntp("check", *tiny, "objective=span_corruption", "data.tokenizer.sentinels=0")
    assert outcome.status == 2
    assert "lacks <|sentinel_0|>, which the objective needs; data.tokenizer.sentinels=128" in outcome.stderr
