import ast
import builtins
import json
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ntp.config.errors import ConfigError
from ntp.evaluation.examinee import Examinee, Scores, TextQuestion
from ntp.evaluation.exams.exam import Exam
from ntp.evaluation.exams.minimal_pairs import MinimalPairs, pair_texts
from ntp.evaluation.exams.mutations import PHENOMENA
from ntp.objectives.question import QuestionKind, Way
from tests.conftest import Outcome

SOURCES = [Path(module).read_text() for module in (ast.__file__, json.__file__, textwrap.__file__)]


class Judge(Examinee):
    """Knows the nats of each text, and remembers what it was asked."""

    def __init__(
        self, nats: Callable[[str], float], likelihood: str = "exact", kind: QuestionKind = "continue"
    ) -> None:
        self.nats, self.likelihood, self.kind = nats, likelihood, kind
        self.asked: list[list[TextQuestion]] = []

    def way(self, kind: QuestionKind) -> Way | None:
        return Way(self.likelihood, drawn=self.likelihood == "bound") if kind == self.kind else None  # type: ignore[arg-type]

    def score(self, questions: Sequence[TextQuestion]) -> Scores:
        self.asked.append(list(questions))
        nats = np.array([self.nats(one.target) for one in questions])
        size = len(nats)
        return Scores(nats, np.zeros(size), np.ones(size, dtype=np.int64), np.zeros(size, dtype=bool))


@pytest.fixture(scope="module")
def exam() -> Exam:
    return MinimalPairs(pairs=8).make("minimal_pairs", SOURCES)


def parses(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def compiles(text: str) -> bool:
    try:
        compile(text, "", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


def test_real_source_gives_pairs_of_every_kind(exam: Exam) -> None:
    assert {item["group"] for item in exam.items} == {one.name for one in PHENOMENA}


def test_every_pair_holds_what_its_kind_claims(exam: Exam) -> None:
    claims = {
        "only the right one parses": lambda good, bad: parses(good) and not parses(bad),
        "both parse, only the right one compiles": lambda good, bad: (
            compiles(good) and parses(bad) and not compiles(bad)
        ),
        "both compile, only in the right one is the name bound": lambda good, bad: compiles(good) and compiles(bad),
    }
    for item in exam.items:
        good, bad = pair_texts(exam, item)
        assert claims[item["holds"]](good, bad), (item, good, bad)


@pytest.mark.parametrize("group", ["name_misspelt", "self_missing"])
def test_a_wrong_name_stands_nowhere_in_its_document(exam: Exam, group: str) -> None:
    for item in exam.items:
        if item["group"] == group:
            good, bad = (
                {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
                for text in pair_texts(exam, item)
            )
            document = ast.parse(exam.documents[item["document"]].content)
            stored = {
                node.id for node in ast.walk(document) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            }
            (wrong,) = bad - good
            assert wrong not in stored | set(dir(builtins))


def test_the_right_text_is_what_stands_in_the_document(exam: Exam) -> None:
    for item in exam.items:
        lines = exam.text(item["document"], *item["window"]).splitlines()
        good, _ = pair_texts(exam, item)
        assert [line.strip() for line in lines] == [line.strip() for line in good.splitlines()]
        assert len(good.encode()) <= 256


def test_the_same_text_gives_the_same_exam(exam: Exam, tmp_path: Path) -> None:
    assert MinimalPairs(pairs=8).make("minimal_pairs", reversed(SOURCES)).digest == exam.digest
    exam.save(tmp_path)
    assert Exam.load(tmp_path).digest == exam.digest


def test_no_group_has_more_pairs_than_asked_for() -> None:
    exam = MinimalPairs(pairs=2).make("minimal_pairs", SOURCES)
    groups = [item["group"] for item in exam.items]
    assert max(groups.count(one) for one in groups) == 2


def test_text_without_python_is_said_to_have_none() -> None:
    with pytest.raises(ConfigError, match="none is Python that parses"):
        MinimalPairs().make("minimal_pairs", ["No, this is ~ English.", "And so is this: or not?"])


def test_who_knows_the_grammar_gets_all_pairs_of_grammar_right(exam: Exam) -> None:
    result = MinimalPairs().grade(exam, Judge(lambda text: 1.0 if parses(text) else 2.0))
    assert result.primary == "accuracy"
    assert result.measures["bracket_kind/accuracy"].value == 1.0
    assert result.measures["tokens_swapped/accuracy"].value == 1.0
    assert result.measures["name_misspelt/accuracy"].value == 0.0  # a tie is no right answer


def test_who_sees_no_difference_has_half_of_the_ties(exam: Exam) -> None:
    result = MinimalPairs().grade(exam, Judge(lambda text: 3.0))
    assert result.measures["accuracy"].value == 0.0
    assert result.measures["accuracy_ties_half"].value == 0.5


def test_who_counts_bytes_prefers_no_text_per_byte(exam: Exam) -> None:
    result = MinimalPairs().grade(exam, Judge(lambda text: float(len(text.encode()))))
    assert result.measures["accuracy"].value > 0
    assert result.measures["accuracy_per_byte"].value == 0.0


def test_both_texts_of_a_pair_are_asked_under_one_number(exam: Exam) -> None:
    judge = Judge(lambda text: 1.0)
    MinimalPairs().grade(exam, judge)
    right, wrong = judge.asked
    assert [(one.target, other.target) for one, other in zip(right, wrong, strict=True)] == [
        pair_texts(exam, item) for item in exam.items
    ]
    assert all(one.starts and one.ends and not one.before for one in right + wrong)


def test_bounds_are_said_to_be_bounds(exam: Exam) -> None:
    result = MinimalPairs().grade(exam, Judge(lambda text: 1.0, "bound", "any_order"))
    assert result.likelihood == "none"
    assert any("a bound is compared with a bound" in note for note in result.notes)


def test_pairs_that_are_too_long_are_left_out(exam: Exam) -> None:
    longest = max(len(pair_texts(exam, item)[0]) for item in exam.items)
    result = MinimalPairs().grade(exam, Judge(lambda text: np.nan if len(text) >= longest else 1.0))
    assert result.measures["accuracy"].weights.sum() < len(exam.items)
    assert any("longer than a row" in caveat for caveat in result.caveats)


def test_who_has_no_likelihood_of_texts_cannot_take_it(exam: Exam) -> None:
    result = MinimalPairs().grade(exam, Judge(lambda text: 1.0, kind="cloze"))
    assert result.refusal == "it has no likelihood of whole texts"


def blimp(number: int, uid: str = "island", term: str = "movement") -> dict[str, Any]:
    return {
        "sentence_good": f"Who has {number} seen?",
        "sentence_bad": f"Who seen {number} has?",
        "field": "syntax",
        "linguistics_term": term,
        "UID": uid,
        "simple_LM_method": True,
        "one_prefix_method": False,
        "two_prefix_method": False,
        "lexically_identical": True,
        "pairID": str(number),
    }


def write(path: Path, *lines: Any) -> Path:
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines))
    return path


def test_a_file_in_blimps_format_is_an_exam_of_its_phenomena(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *(blimp(one) for one in range(5)), blimp(7, "wh", "questions"))
    exam = MinimalPairs(path=str(path)).make("minimal_pairs", [])
    result = MinimalPairs().grade(exam, Judge(lambda text: 1.0 if text.startswith("Who has") else 2.0))
    assert result.measures["accuracy"].value == 1.0
    assert result.groups is not None
    assert sorted(result.groups) == ["movement"] * 5 + ["questions"]
    assert [row["paradigm"] for row in result.details["paradigms"]] == ["island", "wh"]
    assert result.details["fields"][0]["field"] == "syntax"


def test_each_paradigm_of_a_directory_has_its_share(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", *(blimp(one) for one in range(5)))
    write(tmp_path / "b.jsonl", *(blimp(one, "wh") for one in range(5)))
    exam = MinimalPairs(pairs=3, path=str(tmp_path)).make("minimal_pairs", [])
    assert [item["paradigm"] for item in exam.items] == ["island"] * 3 + ["wh"] * 3


def test_other_pairs_are_another_exam(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", blimp(1))
    before = MinimalPairs(path=str(path)).identity()
    write(path, blimp(2))
    assert MinimalPairs(path=str(path)).identity() != before


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"sentence_good": "a', r"a.jsonl, line 2 is not JSON: Unterminated string starting at \(character 19\)"),
        ("[" * 200_000, r"a.jsonl, line 2 can't be read as JSON"),
        ("[1]", r"a.jsonl, line 2 is not a JSON object"),
        ({"sentence_good": "a"}, r"a.jsonl, line 2 has no field 'sentence_bad'; its fields: sentence_good"),
        ({"sentence_good": "a", "sentence_bad": 3}, r"a.jsonl, line 2: 'sentence_bad' is no text"),
        ({"sentence_good": "", "sentence_bad": "a"}, r"a.jsonl, line 2: 'sentence_good' is empty"),
        ({"sentence_good": "a", "sentence_bad": "a"}, r"a.jsonl, line 2: .* are equal"),
    ],
)
def test_a_corrupt_line_is_named(tmp_path: Path, line: Any, problem: str) -> None:
    path = write(tmp_path / "a.jsonl", blimp(1), line)
    with pytest.raises(ConfigError, match=problem) as caught:
        MinimalPairs(path=str(path)).make("minimal_pairs", [])
    assert caught.value.key == "evaluation.exams.minimal_pairs.path"


def test_a_line_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", blimp(1), blimp(2))
    path.write_bytes(path.read_bytes() + b'{"sentence_good": "\xff"}\n')
    with pytest.raises(ConfigError, match=r"a\.jsonl is not UTF-8: byte 0xff at offset \d+ \(line 3\)$"):
        MinimalPairs(path=str(path)).make("minimal_pairs", [])


def test_a_run_takes_it(ntp: Callable[..., Outcome], trained: Path, tmp_path: Path) -> None:
    for number, source in enumerate(SOURCES):
        (tmp_path / f"{number}.txt").write_text(source)
    outcome = ntp(
        "evaluate",
        f"run={trained}",
        "data=files",
        f"data.path={tmp_path}",
        "evaluation/exams=[minimal_pairs]",
        "evaluation.exams.minimal_pairs.pairs=2",
    )
    assert outcome.status == 0, outcome.stderr
    assert "bracket kind/accuracy" in outcome.stdout
    assert "decided by exact likelihoods" in outcome.stdout


def test_a_missing_file_is_said_in_one_line(ntp: Callable[..., Outcome], trained: Path) -> None:
    outcome = ntp(
        "evaluate", f"run={trained}", "evaluation/exams=[minimal_pairs]", "evaluation.exams.minimal_pairs.path=no.jsonl"
    )
    assert outcome.status == 2
    assert "evaluation.exams.minimal_pairs.path: there is no 'no.jsonl'" in outcome.stderr


@pytest.mark.filterwarnings("error")
def test_two_infinite_likelihoods_are_a_tie(exam: Exam) -> None:
    result = MinimalPairs().grade(exam, Judge(lambda text: np.inf))
    assert result.measures["accuracy"].value == 0
    assert result.measures["accuracy_ties_half"].value == 0.5
    count = len(exam.items)
    assert f"of {count} of {count} pairs a likelihood is not finite" in result.caveats
