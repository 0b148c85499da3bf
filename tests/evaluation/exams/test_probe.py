import json
import sys
import textwrap
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ntp.config.errors import ConfigError
from ntp.data.corpora import Python
from ntp.data.corpora.base import text_digest
from ntp.evaluation.candidate import Candidate
from ntp.evaluation.exams.exam import Exam
from ntp.evaluation.exams.labels import code_labels
from ntp.evaluation.exams.linear_probe import fit_probe
from ntp.evaluation.exams.probe import Probe
from ntp.evaluation.exams.snippets import pieces
from ntp.evaluation.taking import candidate_of
from ntp.training.load import load_run
from tests.conftest import Outcome
from tests.evaluation.exams.test_minimal_pairs import Judge, write

PROGRAM = textwrap.dedent(
    """
    import os.path as p
    from sys import exit

    LIMIT = 3  # é

    class Box(dict):
        size = 1

        def get(self, key, *rest, other=None):
            found = [len(item) for item in self.items if item in rest]
            return p.join(found, key, sep=LIMIT)
    """
)


def documents(count: int = 12) -> list[str]:
    """Programs that differ."""
    return [PROGRAM.replace("Box", f"Box{number}").replace("found", f"found{number}") for number in range(count)]


@pytest.fixture(scope="module")
def candidate(trained: Path) -> Candidate:
    device = torch.device("cpu")
    return candidate_of(load_run(str(trained), "last", [], device), draws=1, precision="32-true", device=device)


@pytest.fixture(scope="module")
def exam() -> Exam:
    return Probe().make("probe", documents())


# -- labels --


def labelled(name: str) -> list[tuple[str, str]]:
    raw = PROGRAM.encode()
    return [(raw[one.begin : one.end].decode(), one.value) for one in code_labels(PROGRAM)[name]]


def test_each_name_is_of_the_kind_that_the_rules_of_scopes_give_it() -> None:
    assert labelled("identifier_kind") == [
        ("os", "import"),
        ("path", "import"),
        ("p", "import"),
        ("sys", "import"),
        ("exit", "import"),
        ("LIMIT", "global"),
        ("Box", "class"),
        ("dict", "builtin"),
        ("size", "attribute"),
        ("get", "function"),
        ("self", "parameter"),
        ("key", "parameter"),
        ("rest", "parameter"),
        ("other", "parameter"),
        ("found", "local"),
        ("len", "builtin"),
        ("item", "local"),
        ("item", "local"),
        ("self", "parameter"),
        ("items", "attribute"),
        ("item", "local"),
        ("rest", "parameter"),
        ("p", "import"),
        ("join", "attribute"),
        ("found", "local"),
        ("key", "parameter"),
        ("sep", "argument"),
        ("LIMIT", "global"),
    ]


def test_tokens_have_their_types_and_how_deep_they_are_nested() -> None:
    types, brackets, blocks = (labelled(name) for name in ("token_type", "bracket_depth", "indentation_depth"))
    assert ("LIMIT", "name") in types
    assert ("# é", "comment") in types
    assert ("class", "keyword") in types
    assert dict(brackets)["len"] == "1"
    assert [value for text, value in brackets if text == "item"] == ["2", "1", "1"]
    assert dict(blocks)["size"] == "1"
    assert dict(blocks)["return"] == "2"


def test_what_is_no_program_has_no_labels() -> None:
    assert code_labels("def f(:\n") == {}


def test_windows_are_whole_logical_lines() -> None:
    text = "x = [\n    1,\n    2,\n]\ny = 2\n" + "z = '" + "a" * 60 + "'\n" + "u = 3\n"
    found = [text[begin:end] for begin, end in pieces(text, 30)]
    assert found == ["x = [\n    1,\n    2,\n]\ny = 2\n", "u = 3\n"]


# -- the classifier --


def states(seed: int, labels: np.ndarray) -> np.ndarray:
    """Of 16 channels, one of which tells the label, in a narrow direction."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(len(labels), 16))
    noise[:, 0] += 4 * (labels == "b")
    return noise @ np.diag(np.geomspace(1e-3, 1, 16)) @ np.linalg.qr(np.random.default_rng(0).normal(size=(16, 16)))[0]


LABELS = np.array(["a", "b"] * 200)
OWNERS = np.repeat(np.arange(20), 20).astype(str)


def test_a_label_that_the_states_hold_is_found_however_narrow_its_direction() -> None:
    fitted = fit_probe(states(1, LABELS), LABELS, OWNERS, states(2, LABELS))
    assert np.mean(fitted.predicted == LABELS) > 0.95
    assert fitted.converged


def test_a_label_that_they_do_not_hold_is_not_found() -> None:
    random = np.random.default_rng(3).permutation(LABELS)
    fitted = fit_probe(states(1, LABELS), random, OWNERS, states(2, LABELS))
    assert 0.4 < np.mean(fitted.predicted == LABELS) < 0.6


def test_the_same_states_give_the_same_answers() -> None:
    one, other = (fit_probe(states(1, LABELS), LABELS, OWNERS, states(2, LABELS)) for _ in range(2))
    np.testing.assert_array_equal(one.predicted, other.predicted)


def test_the_missing_extra_is_named_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(ConfigError, match=r"pip install \"ntp\[exams\]\""):
        Probe()


# -- the exam --


def test_no_document_is_both_learned_from_and_tested_on(exam: Exam) -> None:
    parts: dict[str, set[str]] = {}
    for item in exam.items:
        parts.setdefault(item["part"], set()).add(item["document"])
    assert len(parts["train"]) == 8
    assert len(parts["test"]) == 4
    assert not parts["train"] & parts["test"]


def test_a_label_that_hardly_a_document_has_is_left_out() -> None:
    texts = [*documents(), "def only(x):\n    return x if x else {1: [2, (3, 4)]}\n"]
    exam = Probe(test=0.1).make("probe", texts)
    depths = {value for item in exam.items if item["group"] == "bracket_depth" for *_, value in item["labels"]}
    assert "3" not in depths


def test_an_exam_is_frozen_and_tells_its_layer(exam: Exam, tmp_path: Path) -> None:
    exam.save(tmp_path)
    assert Exam.load(tmp_path).digest == exam.digest
    assert Probe().make("probe", reversed(documents())).digest == exam.digest
    assert Probe(layer=1).make("probe", documents()).digest != exam.digest


def test_too_few_documents_are_said_to_be_too_few() -> None:
    wanted = (
        r"too few documents with labels.* 1 to learn from and 1 to test on among the held-out documents \(test=0.3\)"
    )
    with pytest.raises(ConfigError, match=wanted + ".*So hold out more"):
        Probe().make("probe", documents(2))


def test_probes_beat_the_commonest_label_and_say_what_to_compare_with(exam: Exam, candidate: Candidate) -> None:
    result = Probe().grade(exam, candidate)
    tables = {table["labels"]: table for table in result.details["sets"]}
    assert list(tables) == ["token_type", "bracket_depth", "indentation_depth", "identifier_kind"]
    for name, table in tables.items():
        assert result.measures[f"{name}/accuracy"].value == pytest.approx(table["accuracy"])
        assert table["accuracy"] > table["majority"] + 0.1
        assert sum(map(sum, table["confusion"])) == table["test"]
        assert {"untrained", "control", "selectivity"} <= set(table)
    assert result.primary == "accuracy"
    mean = np.mean([table["accuracy"] for table in tables.values()])
    assert result.measures["accuracy"].value == pytest.approx(mean)
    assert any("read causally" in note for note in result.notes)


def test_the_same_exam_twice_gives_the_same_numbers(exam: Exam, candidate: Candidate) -> None:
    one, other = (Probe(controls=False).grade(exam, candidate).to_json() for _ in range(2))
    assert one == other


def test_who_has_no_hidden_states_cannot_take_it(exam: Exam) -> None:
    assert Probe().grade(exam, Judge(lambda text: 1.0)).refusal == "it has no hidden states"


def test_a_layer_that_the_model_lacks_is_a_mistake_in_the_config(exam: Exam, candidate: Candidate) -> None:
    with pytest.raises(ConfigError, match="there is no layer 9") as caught:
        Probe(layer=9).grade(exam, candidate)
    assert caught.value.key == "evaluation.exams.probe.layer"


class Packaged(Python):
    """Two packages, of six files each."""

    def __init__(self) -> None:
        self.texts = documents()

    def origins(self) -> dict[str, str]:
        return {text_digest(text).hex(): f"package{number % 2}" for number, text in enumerate(self.texts)}


def test_the_package_of_a_file_is_a_label_where_the_corpus_knows_it(candidate: Candidate) -> None:
    corpus, recipe = Packaged(), Probe(test=0.4, controls=False)
    recipe.meet(corpus)
    exam = recipe.make("probe", corpus.texts)
    assert {item["label"] for item in exam.items if item["group"] == "source_package"} == {"package0", "package1"}
    assert "source_package/accuracy" in recipe.grade(exam, candidate).measures


def test_the_corpus_of_python_knows_the_package_of_each_file() -> None:
    corpus = Python()
    corpus.files = [file for file in corpus.files if file.name in ("asyncio/events.py", "textwrap.py")]
    assert {corpus.origins()[text_digest(text).hex()] for text in corpus.documents()} == {"asyncio", "textwrap"}


# -- labelled files --


def topics(count: int = 30) -> list[dict[str, Any]]:
    words = {"numbers": "return x + {n}", "names": "def f{n}(x):"}
    return [{"text": words[label].format(n=n), "label": label} for n in range(count) for label in words]


def test_labels_of_a_file_are_probed_by_the_mean_of_a_text(tmp_path: Path, candidate: Candidate) -> None:
    path = write(tmp_path / "topics.jsonl", *topics())
    recipe = Probe(path=str(path))
    result = recipe.grade(recipe.make("probe", []), candidate)
    assert result.measures["accuracy"].value == 1.0
    (table,) = result.details["sets"]
    assert table["majority"] < 0.7
    assert "selectivity" not in table


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", r"topics.jsonl, line 61 is not JSON"),
        ({"label": "names"}, r"topics.jsonl, line 61 has no field 'text'; its fields: label"),
        ({"text": "x"}, r"topics.jsonl, line 61 has no 'label'"),
        ({"text": "x", "label": [1]}, r"topics.jsonl, line 61 has a 'label' that is neither text nor a whole number"),
        (
            {"text": "def f1(x):", "label": "numbers"},
            r"line 61: the text has the label 'numbers', and had 'names' before",
        ),
    ],
)
def test_a_corrupt_line_is_named(tmp_path: Path, line: Any, problem: str) -> None:
    path = write(tmp_path / "topics.jsonl", *topics(), line)
    with pytest.raises(ConfigError, match=problem) as caught:
        Probe(path=str(path)).make("probe", [])
    assert caught.value.key == "evaluation.exams.probe.path"


def test_a_single_label_is_nothing_to_learn(tmp_path: Path) -> None:
    path = write(tmp_path / "topics.jsonl", *({"text": f"x{n}", "label": "one"} for n in range(20)))
    with pytest.raises(
        ConfigError, match=r"in .*topics.jsonl .*nearest, label, has 'one' in 14 and 6 of them\. So add texts"
    ):
        Probe(path=str(path)).make("probe", [])


def test_a_run_takes_it(ntp: Callable[..., Outcome], trained: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "topics.jsonl", *topics())
    outcome = ntp("evaluate", f"run={trained}", "evaluation/exams=[probe]", f"evaluation.exams.probe.path={path}")
    assert outcome.status == 0, outcome.stderr
    assert "the untrained model" in outcome.stdout
    (stored,) = (trained / "exams").glob("probe-*.json")
    assert json.loads(stored.read_text())["details"]["attention"] == "causal"


def test_states_that_are_not_finite_are_not_probed(exam: Exam, candidate: Candidate) -> None:
    lost = deepcopy(candidate.model)
    for weight in lost.parameters():
        weight.data.fill_(np.nan)
    assert Probe().grade(exam, replace(candidate, model=lost)).refusal == "its hidden states are not finite"
    result = Probe().grade(exam, replace(candidate, untrained=lambda: lost))
    assert result.measures
    assert not any("untrained" in table for table in result.details["sets"])
