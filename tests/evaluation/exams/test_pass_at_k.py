"""Pass@k: the estimator against its definition, files of problems, and models whose programs are known."""

import gzip
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ntp.config.errors import ConfigError
from ntp.evaluation.exams.pass_at_k import PassAtK, pass_at_k
from ntp.evaluation.exams.problems import Problem, read_problems
from ntp.evaluation.sandbox.host import refusal
from ntp.objectives.masked_diffusion import MaskedDiffusion
from tests.evaluation.exams.texts import Told
from tests.evaluation.tables import SIZE, Bigrams, candidate
from tests.objectives.making import TOKENIZER

RETURNS = "def f():\n    return "
CHECK = "def check(candidate):\n    assert candidate() == {}\n"


def problem(name: str = "seven", right: int = 7, suffix: str | None = None, **changes: Any) -> dict[str, Any]:
    record = {
        "task_id": name,
        "prompt": RETURNS,
        "canonical_solution": f"{right}",
        "test": CHECK.format(right),
        "entry_point": "f",
    }
    return record | ({} if suffix is None else {"suffix": suffix}) | changes


def written(path: Path, *problems: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(one) + "\n" for one in problems))
    return str(path)


def recipe(path: str, **changes: Any) -> PassAtK:
    isolation = "namespaces" if refusal() is None else "limits"
    return PassAtK(path, **({"allow_execution": True, "isolation": isolation, "samples": 4, "tokens": 8} | changes))


class Digits(Bigrams):
    """Writes a digit behind a space, and then ends.

    Args:
        odds: of the digits, by their names.
    """

    def __init__(self, **odds: float) -> None:
        logits_VV = np.full((SIZE, SIZE), -60.0)
        logits_VV[:, TOKENIZER.end_of_text] = 0
        [space] = TOKENIZER.encode(" ")
        logits_VV[space] = -60.0
        for name, share in odds.items():
            logits_VV[space, TOKENIZER.encode(name[1:])[0]] = np.log(share)
        super().__init__(logits_VV)
        self.device = nn.Parameter(torch.zeros(1))


@given(st.integers(1, 9), st.data())
@settings(max_examples=80)
def test_the_estimate_is_the_share_of_sets_of_k_samples_with_one_that_passes(samples: int, data: st.DataObject) -> None:
    passed = data.draw(st.integers(0, samples))
    k = data.draw(st.integers(1, samples))
    sets = list(combinations([index < passed for index in range(samples)], k))

    assert pass_at_k(samples, passed, k) == pytest.approx(sum(map(any, sets)) / len(sets))


def test_the_estimate_does_not_overflow() -> None:
    assert pass_at_k(100_000, 1, 50_000) == pytest.approx(0.5)
    assert pass_at_k(10_000, 0, 100) == 0
    assert pass_at_k(10_000, 9_950, 100) == 1


def test_problems_that_are_solved_pass_and_others_do_not(tmp_path: Path) -> None:
    path = written(tmp_path / "p.jsonl", problem(), problem("eight", 8))
    exam = (made := recipe(path, k=(1, 4))).make("pass_at_k", [])
    result = made.grade(exam, candidate(Digits(_7=1.0)))

    assert result.measures["pass_at_1"].sums.tolist() == [1, 0]
    assert result.measures["pass_at_4"].value == 0.5
    assert result.details["reasons"] == {"passed": 4, "wrong answer": 4}
    assert result.details["samples"][0]["sample"] == "7"
    assert result.given == ("left",)


def test_of_several_samples_those_that_pass_are_counted(tmp_path: Path) -> None:
    made = recipe(written(tmp_path / "p.jsonl", problem()), samples=40, k=(1, 2))
    result = made.grade(made.make("pass_at_k", []), candidate(Digits(_7=0.5, _8=0.5)))
    passed = result.details["passed"]["seven"]

    assert 8 < passed < 32
    assert result.measures["pass_at_1"].value == pytest.approx(passed / 40)
    assert result.measures["pass_at_2"].value == pytest.approx(pass_at_k(40, passed, 2))


class ByPlace(Digits):
    """Writes sevens wherever it is asked."""

    def forward(self, tokens_BL: Tensor, **rule: Any) -> Tensor:
        hidden_BLV = torch.full((*tokens_BL.shape, SIZE), -60.0)
        hidden_BLV[..., TOKENIZER.encode("7")[0]] = 60.0
        return hidden_BLV


def test_what_stands_before_a_suffix_is_infilled(tmp_path: Path) -> None:
    problems = [problem(suffix=" + 1\n", test=CHECK.format(8)), problem("eight", 8, suffix="\n")]
    made = recipe(written(tmp_path / "p.jsonl", *problems))
    result = made.grade(made.make("pass_at_k", []), candidate(ByPlace(), MaskedDiffusion()))

    assert result.measures["pass_at_1"].sums.tolist() == [1, 0]
    assert result.given == ("left", "right", "length")


def test_who_cannot_infill_says_so_and_who_writes_nothing_too(tmp_path: Path) -> None:
    made = recipe(written(tmp_path / "p.jsonl", problem(suffix="\n")))
    exam = made.make("pass_at_k", [])

    assert "write between two texts" in str(made.grade(exam, candidate(Digits(_7=1.0))).refusal)
    assert made.grade(exam, Told([1.0])).refusal == "it writes no text"


def test_problems_that_it_cannot_answer_are_left_out_and_counted(tmp_path: Path) -> None:
    made = recipe(written(tmp_path / "p.jsonl", problem(), problem("gap", suffix="\n")))
    result = made.grade(made.make("pass_at_k", []), candidate(Digits(_7=1.0)))

    assert result.measures["pass_at_1"].weights.tolist() == [1, 0]
    assert result.measures["pass_at_1"].value == 1
    assert any("1 of 2 problems are left out: the objective" in caveat for caveat in result.caveats)


def test_problems_that_their_own_solutions_do_not_pass_are_left_out_and_named(tmp_path: Path) -> None:
    made = recipe(written(tmp_path / "p.jsonl", problem(), problem("odd", canonical_solution="8")))
    result = made.grade(made.make("pass_at_k", []), candidate(Digits(_7=1.0)))

    assert result.details["broken"] == {"odd": "wrong answer"}
    assert result.measures["pass_at_1"].weights.tolist() == [1, 0]
    only = recipe(written(tmp_path / "o.jsonl", problem("odd", canonical_solution="8")))
    assert "own solution" in str(only.grade(only.make("pass_at_k", []), candidate(Digits(_7=1.0))).refusal)


def test_a_continued_function_ends_where_the_next_thing_begins() -> None:
    continued, infilled = Problem("a", "", None, "", "", "f"), Problem("a", "", "x", "", "", "f")

    assert continued.ended("7\n    # here\n\ndef g(): pass") == "7\n    # here\n"
    assert continued.ended("7\nprint(f())\nclass A: pass") == "7"
    assert continued.ended("7") == "7"
    assert infilled.ended("7\ndef g(): pass") == "7\ndef g(): pass"


def test_compressed_files_are_the_same_exam_and_other_content_is_another(tmp_path: Path) -> None:
    plain = recipe(written(tmp_path / "p.jsonl", problem()))
    with gzip.open(tmp_path / "q.jsonl.gz", "wt") as file:
        file.write(json.dumps(problem()) + "\n")
    packed = recipe(str(tmp_path / "q.jsonl.gz"))
    other = recipe(written(tmp_path / "r.jsonl", problem(right=9)))

    assert plain.make("a", []).digest == packed.make("a", []).digest != other.make("a", []).digest
    assert plain.identity() == packed.identity() != other.identity()
    assert recipe(str(tmp_path / "p.jsonl"), problems=1, samples=5).make("a", []).digest != plain.make("a", []).digest


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 2 is not JSON"),
        ("[]", "line 2 is not a JSON object"),
        (json.dumps({"task_id": "x"}), "line 2 has no field 'prompt'"),
        (json.dumps(problem("x", prompt=3)), "line 2: 'prompt' is no text"),
        (json.dumps(problem("x", entry_point="a b")), "line 2: 'entry_point' is no name"),
        (json.dumps(problem("x", prompt="def f(")), "line 2: prompt, canonical_solution and suffix"),
        (json.dumps(problem("x", test="x = 1")), "line 2: 'test' defines no function check"),
        (json.dumps(problem("seven")), "line 2: the task_id 'seven' is that of"),
        (json.dumps(problem("x", prompt="\ud800")), "line 2: 'prompt' holds half of a surrogate pair"),
    ],
)
def test_a_wrong_line_is_named_with_its_file(line: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(problem()) + "\n" + line + "\n")

    with pytest.raises(ConfigError) as error:
        list(read_problems(str(path), "key"))
    assert str(error.value).startswith(f"key: {path}, {told}")


def test_an_empty_file_holds_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("\n\n")

    with pytest.raises(ConfigError, match="holds no problem"):
        recipe(str(path)).make("a", [])


def test_more_than_is_sampled_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"pass_at_k\.samples: 4 samples say nothing of pass@5; take at least 5"):
        recipe("p.jsonl", k=(1, 5))


def test_nothing_is_run_unless_it_is_allowed(trained: Path, tmp_path: Path, ntp: Any) -> None:
    path = written(tmp_path / "p.jsonl", problem(prompt=f"open({str(tmp_path / 'ran')!r}, 'w')\n{RETURNS}"))
    common = ("evaluate", f"run={trained}", "evaluation/exams=[pass_at_k]")
    key = "evaluation.exams.pass_at_k"
    refused = ntp(*common, f"{key}.path={path}")
    nowhere = ntp(*common)

    assert refused.status == nowhere.status == 2
    assert refused.stderr.startswith(f"ntp evaluate: {key}.allow_execution: runs programs that a model has written")
    assert nowhere.stderr.startswith(f"ntp evaluate: {key}.path: needs a value")
    assert not (tmp_path / "ran").exists()


def test_a_system_without_namespaces_must_be_allowed_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntp.evaluation.exams.pass_at_k.refusal", lambda: "unshare: not permitted")

    with pytest.raises(ConfigError, match=r"pass_at_k\.isolation: this system gives no namespaces \(unshare: not perm"):
        PassAtK("p.jsonl", allow_execution=True)
    assert PassAtK("p.jsonl", allow_execution=True, isolation="limits").isolation == "limits"


def test_the_command_runs_problems_of_a_file(trained: Path, tmp_path: Path, ntp: Any) -> None:
    key = "evaluation.exams.pass_at_k"
    path = written(
        tmp_path / "p.jsonl",
        problem(prompt="def f(x):\n    return x + ", test=CHECK.format("7 + 1").replace("candidate()", "candidate(1)")),
    )
    options = {"allow_execution": "true", "isolation": "limits", "samples": 2, "tokens": 4, "path": path}
    outcome = ntp(
        "evaluate",
        f"run={trained}",
        "evaluation/exams=[pass_at_k]",
        *(f"{key}.{name}={value}" for name, value in options.items()),
    )

    assert outcome.status == 0, outcome.stderr
    assert "pass at 1" in outcome.stdout
    assert "nothing around them but limits" in outcome.stdout
