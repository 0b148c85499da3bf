"""Gaps in texts: where they begin and end, and what is around them."""

import ast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntp.config.errors import ConfigError
from ntp.config.instantiate import build
from ntp.evaluation.exams.exam import Document
from ntp.evaluation.exams.infill import GAPS, Infill
from ntp.evaluation.exams.likelihood import text_question
from ntp.evaluation.exams.python_parts import syntax_parts
from tests.evaluation.exams.texts import PROGRAM, PROSE

CONTENT = PROGRAM.encode()


def gaps(text, seed=0, **arguments):
    """(group, text) of the questions about a text."""
    document = Document.of(text)
    recipe = Infill(**arguments)
    items = list(recipe.items(document, np.random.default_rng(seed)))
    return [(item["group"], document.content[slice(*item["asked"])]) for item in items]


@given(st.text(st.sampled_from("ab1=() π\n\r€😀"), max_size=200), st.integers(0, 9), st.integers(8, 100))
def test_there_is_text_on_both_sides_of_every_gap_and_in_it(text, seed, size):
    document = Document.of(text)
    items = list(Infill(window_bytes=size, questions=3).items(document, np.random.default_rng(seed)))
    for item in items:
        (begin, end), (first, last) = item["window"], item["asked"]
        assert begin < first < last < end
        for part in (document.content[:first], document.content[first:last]):
            part.decode("utf-8", "surrogatepass")  # between two characters
        assert document.content[first:last].strip()
    assert len({(item["group"], *item["asked"]) for item in items}) == len(items)


@given(st.integers(0, 30))
def test_single_lines_are_whole_and_not_blank(seed):
    lines = PROSE.splitlines(keepends=True)
    found = gaps(PROSE, seed, gaps=["single_line"], window_bytes=400)
    assert found
    assert all(text.decode() in lines and text.strip() for _, text in found)


@given(st.integers(0, 30))
def test_several_lines_are_whole_and_at_least_two(seed):
    for _, text in gaps(PROSE, seed, gaps=["several_lines"], window_bytes=400, questions=2):
        assert text.endswith(b"\n")
        assert text.count(b"\n") >= 2
        assert text.decode() in PROSE


def test_every_pair_of_places_is_as_likely_to_be_a_span():
    found = [text for seed in range(400) for _, text in gaps("abcde", seed, gaps=["span"])]
    counts = {text: found.count(text) for text in set(found)}
    assert set(counts) == {b"b", b"c", b"d", b"bc", b"cd", b"bcd"}
    assert min(counts.values()) > 40  # 67 are expected, with a deviation of 7.5


def test_all_kinds_of_gaps_are_asked_of_a_program():
    assert {group for group, _ in gaps(PROGRAM, window_bytes=1000)} == set(GAPS)


@pytest.mark.parametrize(
    "text",
    [
        PROSE,
        "word\n(1, 2)\n",
        "{'a': [1, 2]}\n",
        PROGRAM.replace("\n", "\r\n"),
        "\ufeff" + PROGRAM,
        "def f(:\n" + PROGRAM,
    ],
    ids=["prose", "expressions", "data", "other-lines", "mark", "mistake"],
)
def test_what_is_no_program_has_no_syntax(text):
    assert "syntax" not in {group for group, _ in gaps(text, window_bytes=1000)}


@pytest.mark.parametrize("kind", ["expression", "statement", "arguments", "body"])
def test_syntax_nodes_are_what_they_are_called(kind):
    parts = [CONTENT[part.begin : part.end].decode() for part in syntax_parts(CONTENT) if part.kind == kind]
    expected = {
        "expression": [
            "math.pi * (radius * scale) ** 2",
            'f"a radius of {radius + 0} is for another world"',
            "radius < 0",
        ],
        "statement": ["import math", "self.radius = radius", "return Circle(self.radius)"],
        "arguments": ["radius: float, *, scale: float = 1.0", "self, factor=2, *others", "self.radius"],
        "body": ["self.radius *= one", "self.radius = radius"],
    }
    assert set(expected[kind]) <= set(parts)
    assert "radius + 0" not in parts  # in an f-string
    if kind == "expression":
        for one in parts:
            ast.parse(f"f({one})")
    elif kind in ("statement", "body"):
        for one in parts:
            wrapped = f"def f():\n    for x in y:\n        {one}"
            ast.parse(wrapped if "\n" not in one else "pass")


def test_long_nodes_are_not_drawn_more_often_than_short_ones():
    kinds = {}
    for part in syntax_parts(CONTENT):
        kinds.setdefault(CONTENT[part.begin : part.end], part.kind)
    found = [kinds[text] for seed in range(200) for _, text in gaps(PROGRAM, seed, gaps=["syntax"], window_bytes=1000)]
    assert all(found.count(kind) > 20 for kind in ("expression", "arguments", "statement"))


def test_several_questions_of_a_kind_are_about_several_gaps():
    found = gaps(PROGRAM, gaps=["syntax"], window_bytes=1000, questions=5)
    assert len(found) == 5


def test_questions_have_the_text_on_both_sides():
    exam = Infill(window_bytes=2000).make("infill", [PROGRAM])
    for item in exam.items:
        question = text_question(exam, item, "infill")
        assert question.before + question.target + question.after == PROGRAM
        assert question.ends


@pytest.mark.parametrize(
    ("value", "problem"), [(["lines"], "single_line"), ([], "names no kind of gap")], ids=["unknown", "none"]
)
def test_gaps_that_there_are_not_are_refused(ntp, trained, value, problem):
    if not value:
        with pytest.raises(ConfigError, match=problem):
            build({"_target_": "ntp.evaluation.exams.infill.Infill", "gaps": value}, "evaluation.exams.infill")
        return
    gaps = f"evaluation.exams.infill.gaps=[{','.join(value)}]"
    outcome = ntp("evaluate", f"run={trained}", "evaluation/exams=[infill]", gaps)
    assert outcome.status == 2
    assert problem in outcome.stderr
