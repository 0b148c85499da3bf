"""`ntp generate`: text from a run."""

from importlib.resources import files

import pytest
import torch

from ntp.training.load import load_run

OBJECTIVES = sorted(file.name.removesuffix(".yaml") for file in files("ntp.conf").joinpath("objective").iterdir())
PROMPT = "prompt='def f'"


def text_of(ntp, trained, *overrides):
    outcome = ntp("generate", f"run={trained}", "tokens=20", *overrides)
    assert outcome.status == 0, outcome.stderr
    return outcome.stdout


def test_the_same_seed_writes_the_same_text(ntp, trained):
    first = text_of(ntp, trained, PROMPT)
    assert first.startswith("def f")
    assert first == text_of(ntp, trained, PROMPT)
    assert first != text_of(ntp, trained, PROMPT, "seed=1")


def test_greedy_text_does_not_depend_on_the_seed(ntp, trained):
    assert text_of(ntp, trained, "greedy=true") == text_of(ntp, trained, "greedy=true", "seed=1")


def test_several_samples_differ(ntp, trained):
    samples = text_of(ntp, trained, "samples=3", PROMPT).split("sample ")[1:]
    assert len(samples) == 3
    assert len({one[1:] for one in samples}) == 3


@pytest.mark.parametrize("option", ["top_k=1", "top_p=0.001", "min_p=1.0"])
def test_narrow_sampling_is_greedy(ntp, trained, option):
    assert text_of(ntp, trained, option) == text_of(ntp, trained, "greedy=true")


def test_streamed_text_is_the_same_text(ntp, trained):
    assert text_of(ntp, trained, PROMPT, "stream=true") == text_of(ntp, trained, PROMPT, "stream=false")


def test_markup_in_text_is_printed_as_it_is(ntp, trained):
    assert text_of(ntp, trained, "prompt='x[bold]y[/bold]'").startswith("x[bold]y[/bold]")


def test_an_empty_prompt_and_none_are_a_new_document(ntp, trained):
    assert text_of(ntp, trained) == text_of(ntp, trained, "prompt=") == text_of(ntp, trained, "prompt=''")


def refusal(ntp, *arguments):
    outcome = ntp("generate", *arguments)
    assert outcome.status == 2
    assert outcome.stdout == ""
    assert outcome.stderr.count("\n") == 1
    return outcome.stderr


def test_an_objective_that_cannot_write_says_so(ntp, tiny, tmp_path):
    outcome = ntp(
        "train",
        *tiny,
        "objective._target_=tests.commands.silent.Silent",
        "allow_targets=[tests]",
        "run_dir=run",
    )
    assert outcome.status == 0, outcome.stderr
    assert "ntp generate" not in outcome.stdout
    assert not (tmp_path / "run/sample.txt").exists()
    assert "cannot write text" in refusal(ntp, "run=run", PROMPT, "allow_targets=[tests]")


def test_an_objective_that_cannot_infill_says_what_it_can(ntp, trained):
    said = refusal(ntp, f"run={trained}", "prefix='def '", "suffix='(x)'")
    assert "this run's objective cannot infill a text; it can continue a text (prompt='...')" in said


def test_a_prompt_beside_a_suffix_is_refused(ntp, trained):
    assert "prompt: " in refusal(ntp, f"run={trained}", PROMPT, "suffix=x")


def test_what_does_not_apply_is_refused(ntp, trained):
    assert "method: " in refusal(ntp, f"run={trained}", PROMPT, "method=confidence")
    assert "speculate: " in refusal(ntp, f"run={trained}", PROMPT, "speculate=true")
    assert "method: " in refusal(ntp, f"run={trained}", PROMPT, "method=magic")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_writes_what_it_says_it_can_and_refuses_the_rest(ntp, tiny, tmp_path, objective):
    size = ("data.sequence_length=64", "budget.steps=2", "evaluation.rows=4", "evaluation.final_rows=4")
    trained = ntp("train", *tiny, *size, f"objective={objective}", "run_dir=run")
    assert trained.status == 0, trained.stderr
    can = load_run("run", "last", [], torch.device("cpu")).objective.inference
    before, behind = "def f[1](", "{x}:\n"
    questions = {"continue": (f"prompt={before}",), "infill": (f"prefix={before}", f"suffix={behind}")}
    for way, question in questions.items():
        assert (question[-1].split("=")[0] + "='...'" in trained.stdout) == (way in can)
        arguments = ("run=run", *question, "tokens=8", "samples=2")
        if way not in can:
            refusal(ntp, *arguments)
            continue
        done = ntp("generate", *arguments)
        assert done.status == 0, done.stderr
        for sample in done.stdout.split("sample ")[1:]:
            text = sample.split("\n", 1)[1]
            assert text.startswith(before)
            assert text.endswith(behind + "\n" if way == "infill" else "\n")
    assert (tmp_path / "run/sample.txt").exists() == bool(can)


def test_an_objective_that_can_only_infill_ends_its_run_with_a_stretch_written_anew(ntp, tiny, tmp_path):
    outcome = ntp("train", *tiny, "objective=mlm", "run_dir=run")
    assert outcome.status == 0, outcome.stderr
    assert "between dim texts" in outcome.stdout
    # Tokens are characters: a quarter of a row, as many as a sample has, and a quarter of a row.
    assert len((tmp_path / "run/sample.txt").read_text()) == 8 + 8 + 8


def test_texts_are_texts_whatever_they_look_like(ntp, tiny):
    assert ntp("train", *tiny, "objective=masked_diffusion", "run_dir=run").status == 0
    for before, behind in (("12", "null"), ("true", "1.50"), ("a=b", "[x, {y}"), ("'", '"')):
        done = ntp("generate", "run=run", f"prefix={before}", f"suffix={behind}", "tokens=4")
        assert done.status == 0, done.stderr
        assert done.stdout.startswith(before)
        assert done.stdout.endswith(behind + "\n")


@pytest.mark.parametrize("kind", ["sequential", "parallel"])
def test_speculation_writes_the_same_text_and_counts_what_it_saves(ntp, tiny, kind):
    options = (f"objective.kind={kind}", "objective.depth=2", "budget.steps=20", "optimizer.learning_rate=0.01")
    outcome = ntp("train", *tiny, "objective=multi_token", *options, "run_dir=run")
    assert outcome.status == 0, outcome.stderr
    for sampling in ("greedy=true", "temperature=0.9"):
        question = ("run=run", PROMPT, "tokens=40", sampling)
        plain, quick = ntp("generate", *question), ntp("generate", *question, "speculate=true")
        assert quick.status == 0, quick.stderr
        assert quick.stdout == plain.stdout
        assert "guesses accepted" in quick.stderr
    once = ntp("generate", "run=run", PROMPT, "tokens=1", "speculate=true")
    assert once.stderr == "0 of 0 guesses accepted; the model was asked 1 time for 1 token\n"


def test_masks_are_filled_as_asked(ntp, tiny):
    outcome = ntp("train", *tiny, "objective=masked_diffusion", "run_dir=run")
    assert outcome.status == 0, outcome.stderr
    texts = set()
    for options in (
        (),
        ("method=confidence",),
        ("steps=2",),
        ("block=3",),
        ("method=confidence", "steps=4", "block=2"),
    ):
        done = ntp("generate", "run=run", "prefix=def", "suffix=:", "tokens=12", *options)
        assert done.status == 0, done.stderr
        assert len(done.stdout) == len("def") + 12 + len(":") + 1
        texts.add(done.stdout)
    assert len(texts) > 1


def test_a_middle_without_an_end_is_remarked_on_beside_the_text(ntp, tiny):
    assert ntp("train", *tiny, "objective=fim", "run_dir=run").status == 0
    done = ntp("generate", "run=run", "prefix=def", "suffix=:", "tokens=1", "form=spm", "greedy=true")
    assert done.status == 0, done.stderr
    assert ("found no end within 1 tokens" in done.stderr) == (len(done.stdout) == len("def:\n") + 1)
    assert "form: this run's objective has no form 'smp'" in refusal(ntp, "run=run", "suffix=:", "form=smp")
