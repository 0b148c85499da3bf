"""`ntp generate`: text from a run."""

import pytest

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


def test_an_objective_that_cannot_continue_says_so(ntp, tiny, tmp_path):
    outcome = ntp(
        "train",
        *tiny,
        "objective._target_=tests.commands.silent.Silent",
        "allow_targets=[tests]",
        "run_dir=run",
    )
    assert outcome.status == 0, outcome.stderr
    assert not (tmp_path / "run/sample.txt").exists()
    outcome = ntp("generate", "run=run", PROMPT, "allow_targets=[tests]")
    assert outcome.status == 2
    assert "cannot continue a text" in outcome.stderr
