"""What a run answers: the same however it is asked, in one process or in several, and no more often than is needed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ntp.comparison.matrix import Row, build_column
from ntp.config.errors import ConfigError
from ntp.evaluation.candidate import Candidate
from ntp.evaluation.examinee import TextQuestion
from ntp.evaluation.exams.calibration import Calibration
from ntp.evaluation.exams.cloze import Cloze
from ntp.evaluation.exams.exam import Exam, ExamRecipe
from ntp.evaluation.exams.infill import Infill
from ntp.evaluation.exams.length_extrapolation import LengthExtrapolation
from ntp.evaluation.exams.likelihood import AnyOrder, Continue
from ntp.evaluation.exams.minimal_pairs import MinimalPairs
from ntp.evaluation.exams.result import Result, StoredResult, read_results
from ntp.evaluation.printing import said
from ntp.evaluation.taking import take
from ntp.objectives.base import Objective
from ntp.objectives.causal import Causal
from ntp.objectives.masked_diffusion import MaskedDiffusion
from ntp.objectives.mlm import MaskedLanguageModel
from tests.evaluation.company import together
from tests.evaluation.exams.texts import PACKED, PROGRAM, PROSE
from tests.objectives.answering import answering

OBJECTIVES: list[type[Objective]] = [Causal, MaskedLanguageModel, MaskedDiffusion]
WINDOWS = {"documents": 6, "windows": 2, "window_bytes": 48}
RECIPES: dict[str, ExamRecipe] = {
    "continue": Continue(**WINDOWS),
    "any_order": AnyOrder(**WINDOWS),
    "infill": Infill(**WINDOWS),
    "cloze": Cloze(**WINDOWS),
    "minimal_pairs": MinimalPairs(documents=6, pairs=2),
    "calibration": Calibration(**WINDOWS),
    "length_extrapolation": LengthExtrapolation(2, 256, 128, (1, 2)),
}
EXAMS = {name: (recipe, recipe.make(name, [PROGRAM, PROSE, *PACKED[:8]])) for name, recipe in RECIPES.items()}
every_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda one: one.__name__)


class Counting(Candidate):
    """Counts the rows that its model reads."""

    read_rows = 0

    def _look(self, part: Any, examples: Any, look: Any) -> Any:
        self.read_rows += len(examples)
        return super()._look(part, examples, look)


def counting(objective: Objective, **options: Any) -> Counting:
    one = answering(objective, draws=4, **options)
    return Counting(**{name: getattr(one, name) for name in one.__dataclass_fields__ if not name.startswith("_")})


def taken(candidate: Candidate, *names: str) -> dict[str, Result]:
    exams: dict[str, tuple[ExamRecipe, Exam]] = {name: EXAMS[name] for name in names}
    return {one.result.exam: one.result for one in take(exams, candidate, 0)}


@every_objective
def test_the_same_exam_twice_gives_identical_numbers(objective: type[Objective]) -> None:
    first, again = (taken(answering(objective(), draws=4), *EXAMS) for _ in range(2))
    for name, one in first.items():
        assert one.to_json() == again[name].to_json()


@every_objective
def test_numbers_are_the_same_at_any_batch_size(objective: type[Objective]) -> None:
    one_by_one, *others = (taken(answering(objective(), draws=4, batch_size=size), *EXAMS) for size in (1, 3, 16))
    for name, result in one_by_one.items():
        for other in others:
            assert other[name].refusal == result.refusal
            for measure, one in result.measures.items():
                np.testing.assert_allclose(other[name].measures[measure].value, one.value, rtol=1e-6, err_msg=measure)


@every_objective
@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_come_to_the_bits_of_one(objective: type[Objective], processes: int) -> None:
    alone = taken(answering(objective(), draws=4, batch_size=5), *EXAMS)
    # Made one after the other: random weights come from one generator of the whole process.
    candidates = [
        answering(objective(), draws=4, batch_size=5, process=one, processes=processes) for one in range(processes)
    ]
    for shares in together(
        processes, lambda process, gather: taken(replace(candidates[process], gather=gather), *EXAMS)
    ):
        assert {name: one.to_json() for name, one in shares.items()} == {
            name: one.to_json() for name, one in alone.items()
        }


@pytest.mark.parametrize(
    ("error", "seen"), [(ConfigError("run", "is odd"), ConfigError), (OSError("full"), RuntimeError)]
)
def test_an_error_in_one_process_ends_all(error: Exception, seen: type[Exception]) -> None:
    class Failing(Candidate):
        def _look(self, part: Any, examples: Any, look: Any) -> Any:
            raise error

    candidates = [answering(Causal(), process=one, processes=2, batch_size=1) for one in range(2)]

    def run(process: int, gather: Callable[[Any], list[Any]]) -> Any:
        one = replace(candidates[process], gather=gather)
        fields = {name: getattr(one, name) for name in one.__dataclass_fields__ if not name.startswith("_")}
        kind = Failing if process == 1 else Candidate
        return kind(**fields).score([TextQuestion("continue", "", text) for text in ("one", "other")])

    first, second = together(2, run)
    assert second is error
    assert type(first) is seen
    assert str(error) in str(first)


@pytest.mark.parametrize("objective", [MaskedLanguageModel, MaskedDiffusion], ids=lambda one: one.__name__)
def test_what_two_exams_ask_is_read_once_and_is_what_each_gets_alone(objective: type[Objective]) -> None:
    both, first, second = (counting(objective()) for _ in range(3))
    results = taken(both, "continue", "any_order")
    alone = taken(first, "continue") | taken(second, "any_order")

    assert {name: one.to_json() for name, one in results.items()} == {
        name: one.to_json() for name, one in alone.items()
    }
    assert second.read_rows > 0
    assert both.read_rows == first.read_rows  # the whole texts of the first exam are all that the second asks about
    whole, everything = results["continue"].measures["bits_per_byte"], results["any_order"].measures["bits_per_byte"]
    assert whole.value == everything.value


def test_an_exam_of_other_windows_asks_anew() -> None:
    both, alone = counting(MaskedDiffusion()), counting(MaskedDiffusion())
    other = AnyOrder(**{**WINDOWS, "documents": 5})
    exam = other.make("any_order", [PROGRAM, PROSE, *PACKED[:8]])
    Continue(**WINDOWS).grade(EXAMS["continue"][1], both)
    before = both.read_rows
    together_with, by_itself = other.grade(exam, both), other.grade(exam, alone)

    assert together_with.to_json() == by_itself.to_json()
    assert before < both.read_rows <= before + alone.read_rows


@pytest.mark.parametrize("objective", [MaskedLanguageModel, MaskedDiffusion], ids=lambda one: one.__name__)
def test_an_answer_is_drawn_the_same_whatever_else_is_asked(objective: type[Objective]) -> None:
    asked = TextQuestion("infill", "so they ", "went on", " for a day")
    others = [TextQuestion("any_order", "", text) for text in ("first of all", "and then")]
    candidate = answering(objective(), draws=4)
    alone = candidate.score([asked])
    among = candidate.score([*others, asked])

    assert among.nats[2] == pytest.approx(alone.nats[0], rel=1e-6)
    assert among.variances[2] == pytest.approx(alone.variances[0], rel=1e-4)


def test_a_question_that_is_asked_twice_at_once_gets_two_estimates() -> None:
    asked = TextQuestion("any_order", "", "some words that say much")
    nats = answering(MaskedDiffusion(), draws=2).score([asked, asked]).nats

    assert nats[0] != nats[1]


def test_a_question_may_be_answered_with_the_draws_of_another() -> None:
    candidate = counting(MaskedDiffusion())
    right = TextQuestion("any_order", "", "the cat sat there")
    wrong, alike = (TextQuestion("any_order", "", "the dog sat there", like=like) for like in (None, right))
    by_itself, with_its_draws = ([one.example for one in _rows(candidate, question)] for question in (wrong, alike))
    hidden = [one.example.targets >= 0 for one in _rows(candidate, right)]

    assert all(
        (one.targets >= 0).tolist() == places.tolist() for one, places in zip(with_its_draws, hidden, strict=True)
    )
    assert any((one.targets >= 0).tolist() != places.tolist() for one, places in zip(by_itself, hidden, strict=True))


def _rows(candidate: Candidate, question: TextQuestion) -> list[Any]:
    found: list[Any] = []
    read = candidate.read

    def noted(part: Any, rows: Any, *rest: Any) -> Any:
        found.extend(rows)
        return read(part, rows, *rest)

    candidate.read = noted  # type: ignore[method-assign]
    candidate.score([question])
    candidate.read = read  # type: ignore[method-assign]
    return found


def diverged(objective: Objective, **options: Any) -> Candidate:
    """A run whose weights are no numbers."""
    one = answering(objective, draws=4, **options)
    for weight in one.model.parameters():
        weight.data.fill_(np.nan)
    return one


@every_objective
def test_answers_that_are_not_finite_are_not_taken_for_questions_that_did_not_fit(objective: type[Objective]) -> None:
    for name, result in taken(diverged(objective()), *EXAMS).items():
        if result.measures and result.likelihood != "none":
            assert all(np.isinf(one.value) for one in result.measures.values()), name
            assert any("not finite" in caveat for caveat in result.caveats)
        elif result.measures:
            assert any("not finite" in caveat for caveat in result.caveats), name
        else:
            assert "longer than a row" not in (result.refusal or ""), name


def test_what_is_not_finite_is_so_still_when_it_has_been_kept(tmp_path: Path) -> None:
    result = taken(diverged(Causal()), "continue")["continue"]
    StoredResult(result, 0, {}, 0.0).write(tmp_path)
    (kept,) = read_results(tmp_path)
    row = Row("arm", False, [{"continue": kept}], (0,))
    assert build_column("continue", [row]).cells["arm"].reason == "its number is not finite"
    assert said(kept.result.measures["bits_per_byte"]) == "not finite"
