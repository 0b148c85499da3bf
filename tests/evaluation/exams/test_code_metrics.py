"""What is a program, the beginning of one, or neither."""

import ast
import inspect
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntp.evaluation.exams.code_metrics import (
    begins_program,
    complete_statements,
    is_program,
    parses,
    whole_lines,
)
from ntp.evaluation.exams.python_tokens import compiles

UNFINISHED = [
    "def f():\n",
    "@wraps\n",
    "if x:\n    pass\nelse:\n",
    "try:\n    x\n",
    "x = [1,\n",
    'x = """text\n',
    "x = 1 + \\\n",
    "class A:\n    def f(self):\n        '''a text\n",
]
WRONG = [
    "x = )\n",
    "def f(:\n",
    "hello there world\n",
    "def f():\n    x\n  y\n",
    "x = 1 +\n",
    "x = (hello there\n",
    "else:\n",
    "x = 'text\n",
    "x\0",
]


@pytest.mark.parametrize("text", UNFINISHED)
def test_what_has_not_ended_begins_a_program_and_is_none(text: str) -> None:
    assert begins_program(text)
    assert not parses(text)


@pytest.mark.parametrize("text", WRONG)
def test_what_no_end_could_make_right_begins_no_program(text: str) -> None:
    assert not begins_program(text)


@given(st.integers(min_value=0))
@settings(max_examples=40)
def test_every_beginning_of_a_program_in_whole_lines_begins_one(place: int) -> None:
    lines = inspect.getsource(textwrap).splitlines(keepends=True)

    assert begins_program("".join(lines[: place % (len(lines) + 1)]))


def test_compiling_finds_what_parsing_does_not() -> None:
    for text in ("return 1\n", "def f(a, a): pass\n", "def f():\n    global x\n    x: int = 1\n", "break\n"):
        assert parses(text)
        assert not compiles(text)
    assert compiles("def f(a): return a\n")


def test_code_is_not_run_and_warns_nobody(recwarn: pytest.WarningsRecorder) -> None:
    assert compiles("raise SystemExit\n")
    assert parses("x = '\\d'\nassert (1, 2)\n")
    assert not recwarn.list


@pytest.mark.parametrize("text", ["(" * 500, "-" * 100_000 + "1", "x" + "[0" * 400, "\ud800"])
def test_what_the_parser_gives_up_on_is_no_program(text: str) -> None:
    assert not parses(text)
    assert not compiles(text)
    assert begins_program(text) in (True, False)  # it says something, and does not end the process


def test_prose_that_happens_to_parse_is_no_program() -> None:
    assert parses("Hello\n")
    assert not is_program("Hello\n")
    assert is_program("x = 1\n")


def test_only_the_last_line_may_be_cut() -> None:
    assert whole_lines("def f", "():\n    retu") == "def f():\n"
    assert whole_lines("x = ", "1") == "x = 1"
    assert whole_lines("x = 1\n", "") == "x = 1\n"


def test_complete_statements_reach_into_what_was_written() -> None:
    before, sample = "x = 1\n", "y = 2\nz = (3,\n"

    assert complete_statements(before + sample, len(before)) == "x = 1\ny = 2\n"
    assert complete_statements(before + "z = (3,\n", len(before)) is None
    assert complete_statements(before + sample) == "x = 1\ny = 2\n"


@given(st.text(alphabet="xy =()\n:", max_size=40))
@settings(max_examples=100)
def test_complete_statements_are_the_longest_whole_lines_that_parse(text: str) -> None:
    found = complete_statements(text)
    lines = text.splitlines(keepends=True)

    def right(count: int) -> bool:
        try:
            ast.parse("".join(lines[:count]))
        except SyntaxError:
            return False
        return True

    best = max((count for count in range(1, len(lines) + 1) if right(count)), default=None)
    assert found == (None if best is None else "".join(lines[:best]))
