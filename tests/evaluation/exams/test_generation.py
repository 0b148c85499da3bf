"""What runs write when an exam asks them to: models that know the text, models that don't, and who can't write."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ntp.config.errors import ConfigError
from ntp.evaluation.candidate import Candidate
from ntp.evaluation.examinee import TextQuestion
from ntp.evaluation.exams.generation import Continuations, Generation, Infillings
from ntp.evaluation.exams.result import Result
from ntp.evaluation.exams.writing import Blank, write
from ntp.generation.sampling import Sampling
from ntp.objectives.base import Objective
from ntp.objectives.fim import FillInTheMiddle
from ntp.objectives.masked_diffusion import MaskedDiffusion
from ntp.objectives.mlm import MaskedLanguageModel
from ntp.training.load import load_run
from tests.conftest import Outcome, call
from tests.evaluation.company import together
from tests.evaluation.exams.texts import Told
from tests.evaluation.tables import SIZE, Bigrams, candidate
from tests.objectives.making import LETTERS, transformer

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
CODE = "".join(f"def f{number}(x):\n    y = x + {number}\n    return y\n\n\n" for number in range(12))
GREEDY = Sampling(greedy=True)


class Reciting(Bigrams):
    """Knows the alphabet: the next letter behind each one, or each by its place."""

    def __init__(self, by_place: bool = False) -> None:
        logits_VV = np.full((SIZE, SIZE), -60.0)
        for letter, following in zip(LETTERS, np.roll(LETTERS, -1), strict=True):
            logits_VV[letter, following] = 60.0
        super().__init__(logits_VV)
        self.by_place, self.device = by_place, nn.Parameter(torch.zeros(1))

    def forward(self, tokens_BL: Tensor, **rule: Any) -> Tensor:
        if not self.by_place:
            return super().forward(tokens_BL, **rule)
        # The row that was read may begin anywhere; a known token tells where.
        rows = []
        for tokens in tokens_BL.tolist():
            known = next(place for place, one in enumerate(tokens) if one in LETTERS)
            first = (int(np.flatnonzero(np.equal(LETTERS, tokens[known]))[0]) - known) % 26
            rows.append([LETTERS[(first + place) % 26] for place in range(len(tokens))])
        return 60.0 * torch.eye(SIZE)[torch.tensor(np.array(rows))]


def graded(recipe: Generation, model: nn.Module, objective: Objective | None = None, **changes: Any) -> Result:
    texts = changes.pop("texts", [ALPHABET * 2])
    return recipe.grade(recipe.make("writing", texts), candidate(model, objective, **changes))  # type: ignore[arg-type]


def test_a_model_that_knows_the_text_continues_it_word_for_word() -> None:
    result = graded(Continuations(greedy=True), Reciting())
    [sample] = result.details["samples"]

    assert sample["prefix"] + sample["sample"] == ALPHABET * 2 == sample["prefix"] + sample["reference"]
    assert result.primary == "chrf"
    assert result.measures["chrf"].value == pytest.approx(100)
    assert result.measures["rouge_l"].value == pytest.approx(1)
    assert (result.given, result.likelihood, result.refusal) == (("left",), "none", None)


def test_a_model_that_knows_the_text_infills_it_exactly() -> None:
    recipe = Infillings(gaps=["span"], greedy=True)
    result = graded(recipe, Reciting(by_place=True), MaskedDiffusion())
    [sample] = result.details["samples"]

    assert sample["prefix"] + sample["sample"] + sample["suffix"] == ALPHABET * 2
    assert result.primary == "edit_similarity"
    assert result.measures["edit_similarity"].value == result.measures["exact_match"].value == 1
    assert result.given == ("left", "right", "length")  # it has to know how long the gap is


def test_who_does_not_know_the_text_scores_less() -> None:
    result = graded(Infillings(gaps=["span"]), transformer(), MaskedDiffusion())

    assert result.measures["exact_match"].value == 0
    assert result.measures["edit_similarity"].value < 0.5


def test_who_ends_by_itself_is_not_told_the_length() -> None:
    result = graded(Infillings(gaps=["span"]), transformer(), FillInTheMiddle(rate=0.5))

    assert result.given == ("left", "right")
    assert 0 <= result.details["ended"] <= 1


@pytest.mark.parametrize(
    ("recipe", "objective", "why"),
    [
        (Infillings(gaps=["span"]), None, "write between two texts"),
        (Continuations(), MaskedLanguageModel(), "continue a text"),
    ],
)
def test_an_objective_says_what_it_cannot(recipe: Generation, objective: Objective | None, why: str) -> None:
    assert why in str(graded(recipe, transformer(), objective).refusal)


def test_what_knows_no_objective_writes_no_text() -> None:
    exam = Continuations().make("writing", [ALPHABET])

    assert Continuations().grade(exam, Told([1.0])).refusal == "it writes no text"


def test_the_same_is_written_every_time_and_something_else_under_another_seed() -> None:
    recipe = Continuations(samples=3, shown=100, windows=4, window_bytes=32)
    first, again, other = (graded(recipe, transformer(), seed=seed) for seed in (0, 0, 1))

    assert first.to_json() == again.to_json()
    assert len(first.details["samples"]) == 3 * len(first.documents)
    assert len({one["sample"] for one in first.details["samples"][:3]}) == 3
    assert first.details["samples"] != other.details["samples"]


@pytest.mark.parametrize("objective", [None, MaskedDiffusion()])
def test_what_is_written_depends_on_nothing_else_that_is_asked(objective: Objective | None) -> None:
    blanks = [Blank("abc", "defgh"), Blank("xy", "zab"), Blank("k", "l" * 9)]
    who = candidate(transformer(), objective, batch_size=2)
    alone = write(who, blanks[:1], 20, Sampling())

    assert write(who, blanks, 20, Sampling())[:1] == alone
    assert write(candidate(transformer(), objective, batch_size=7), blanks[:1], 20, Sampling()) == alone
    assert alone[0] is not None
    assert len(set(alone[0].texts)) > 16  # also those that are drawn together with other seeds differ


def test_two_processes_write_what_one_does() -> None:
    exam = Continuations(windows=3, window_bytes=32).make("writing", [ALPHABET * 4, CODE])
    alone = Continuations().grade(exam, candidate(transformer()))
    both = [candidate(transformer(), process=process, processes=2) for process in range(2)]
    found = together(2, lambda process, gather: Continuations().grade(exam, replace(both[process], gather=gather)))

    assert found[0].to_json() == found[1].to_json() == alone.to_json()


def test_how_tokens_are_chosen_is_a_part_of_the_exam() -> None:
    digests = {
        recipe.make("writing", [ALPHABET]).digest
        for recipe in (
            Continuations(),
            Continuations(temperature=0.5),
            Continuations(samples=2),
            Infillings(gaps=["span"]),
        )
    }

    assert len(digests) == 4
    assert Continuations(shown=3).make("a", [ALPHABET]).digest == Continuations(shown=9).make("b", [ALPHABET]).digest


def test_too_much_context_is_cut_and_that_is_said() -> None:
    recipe = Continuations(greedy=True, given=0.9)
    result = graded(recipe, Reciting(), texts=[ALPHABET * 4], room=32)
    [sample] = result.details["samples"]

    assert sample["sample"] == sample["reference"]
    assert any("1 of 1 questions were answered with less context" in caveat for caveat in result.caveats)


def test_a_gap_that_is_longer_than_a_row_is_left_out() -> None:
    who = candidate(transformer(), MaskedDiffusion(), room=16)
    long, short = write(who, [Blank("a", "b" * 40, "c"), Blank("a", "b", "c")], 1, GREEDY)

    assert long is None
    assert short is not None
    assert len(short.texts[0]) <= 1


def test_code_is_judged_where_it_stands_in_its_document() -> None:
    class Silent(Reciting):
        """Writes blank lines."""

        def forward(self, tokens_BL: Tensor, **rule: Any) -> Tensor:
            hidden_BLV = torch.full((*tokens_BL.shape, SIZE), -60.0)
            hidden_BLV[..., candidate(self).tokenizer.encode("\n")[0]] = 60.0
            return hidden_BLV

    recipe = Continuations(greedy=True, windows=8, window_bytes=64)
    noise = graded(recipe, transformer(), texts=[CODE]).measures
    silent = graded(recipe, Silent(), texts=[CODE]).measures

    assert noise["parses"].value < 1
    assert noise["parses"].weights.sum() == len(noise["parses"].weights)
    assert silent["parses"].value >= silent["compiles"].value
    assert silent["compiles"].value > 0
    assert "parses" not in graded(recipe, transformer(), texts=[ALPHABET * 4]).measures


def test_the_real_text_of_code_passes_what_is_asked_of_samples() -> None:
    for recipe in (Continuations(windows=8, window_bytes=64), Infillings(windows=8, window_bytes=64)):
        exam = recipe.make("writing", [CODE])
        document = exam.documents[exam.items[0]["document"]].content.decode()
        for item in exam.items:
            first, last = item["asked"]
            assert item["code"]
            assert recipe.is_code(document[:first], document[first:last], document[last:]) == (True, True)
            assert recipe.is_code(document[:first], " ) nonsense\n", document[last:]) == (False, False)


@pytest.fixture(scope="module")
def unable(tmp_path_factory: pytest.TempPathFactory, tiny: tuple[str, ...]) -> Path:
    """A run that can't say how likely a continuation is."""
    path = tmp_path_factory.mktemp("unable") / "run"
    outcome = call("train", *tiny, "objective=replaced_token", "evaluation.sample_tokens=0", f"run_dir={path}")
    assert outcome.status == 0, outcome.stderr
    return path


def test_a_judge_says_how_likely_it_finds_the_samples(trained: Path) -> None:
    recipe = Continuations(judge=str(trained), shown=99, windows=4, window_bytes=40)
    result = graded(recipe, transformer(), texts=[CODE, CODE[:90]])
    run = load_run(str(trained), "best", [], torch.device("cpu"))
    judge = Candidate(
        run.model,
        run.objective,
        run.tokenizer,
        isolated=run.config.data.documents == "isolate",
        room=run.config.data.sequence_length,
    )
    asked = [
        TextQuestion("continue", one["prefix"], one["sample"], ends=False)
        for one in result.details["samples"]
        if one["sample"]
    ]
    bits = judge.score(asked).nats / np.log(2)

    measure = result.measures["judge_bits_per_byte"]
    assert measure.value == pytest.approx(bits.sum() / sum(one.target_bytes for one in asked), rel=1e-5)
    assert measure.better is None  # dull text is likely, too
    assert result.details["real"]["judge_bits_per_byte"] > 0
    assert recipe.make("a", [CODE]).digest != Continuations(windows=4, window_bytes=40).make("a", [CODE]).digest


def test_a_judge_that_cannot_judge_and_one_that_is_none_are_errors_before_anything_is_asked(
    unable: Path, trained: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"continuations\.judge: the objective of .* cannot say how likely"):
        Continuations(judge=str(unable))
    with pytest.raises(ConfigError, match=r"infillings\.judge: .* is not a run directory: it has no config\.yaml"):
        Infillings(judge=str(tmp_path))
    young = shutil.copytree(trained, tmp_path / "young")
    shutil.rmtree(young / "checkpoints")
    with pytest.raises(ConfigError, match=r"continuations\.judge: .*young has no checkpoints/best\.ckpt to judge with"):
        Continuations(judge=str(young))


@pytest.mark.parametrize("command", ["train", "check"])
def test_with_a_wrong_judge_nothing_starts(ntp: Any, tiny: tuple[str, ...], tmp_path: Path, command: str) -> None:
    judge = "evaluation.exams.infillings.judge=nowhere"
    outcome = ntp(command, *tiny, "evaluation/exams=[generation]", judge, f"run_dir={tmp_path / 'run'}")

    assert outcome.status == 2
    assert (
        "evaluation.exams.infillings.judge: nowhere is not a run directory: there is no such directory"
        in outcome.stderr
    )
    assert not (tmp_path / "run").exists()


def test_the_command_takes_both_exams_and_keeps_samples(trained: Path, ntp: Any) -> None:
    key = "evaluation.exams.continuations"
    outcome: Outcome = ntp(
        "evaluate",
        f"run={trained}",
        "evaluation/exams=[generation]",
        *(f"{key}.{one}" for one in ("windows=2", "window_bytes=48", "samples=2")),
        "evaluation.exams.infillings.windows=1",
    )

    assert outcome.status == 0, outcome.stderr
    assert "continuations" in outcome.stdout
    assert "chrf" in outcome.stdout
    assert "write between two texts" in outcome.stdout


def test_the_command_names_a_model_that_is_not_there(trained: Path, ntp: Any) -> None:
    key = "evaluation.exams.infillings.bert_score_model"
    outcome = ntp("evaluate", f"run={trained}", "evaluation/exams=[generation]", f"{key}=/nowhere")

    assert outcome.status == 2
    assert outcome.stderr.startswith(f"ntp evaluate: {key}: '/nowhere' is no directory")
