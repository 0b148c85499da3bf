"""What is printed can be read on any terminal, and says what the explanation says."""

import io
import re

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from ntp.explain.terminal import show
from ntp.objectives.causal import Causal
from tests.explain.conftest import TWO_DOCUMENTS, Chosen, Masked, TwoCopies

SIGNS = {"█": (1, 1), "▀": (1, 0), "▄": (0, 1), " ": (0, 0)}


def printed(explanation, width=80, **options):
    file = io.StringIO()
    show(explanation, Console(file=file, width=width, highlight=False, **options))
    return file.getvalue()


def section(text, title):
    """The lines below a heading, down to the next."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(title))
    behind = [number for number, line in enumerate(lines) if "──" in line and number > start]
    return lines[start + 1 : behind[0] if behind else None]


@pytest.mark.parametrize("objective", [Causal, Masked, TwoCopies, Chosen])
@pytest.mark.parametrize("width", [40, 80, 160])
def test_no_line_is_wider_than_the_terminal(explained, objective, width):
    text = printed(explained(objective(), TWO_DOCUMENTS * 2 + "日本語の文", length=64), width)
    assert max(cell_len(line.rstrip()) for line in text.splitlines()) <= width


def test_title_sentence_facts_and_text_are_there(explained):
    text = printed(explained(Masked(), name="hiding"))
    for words in (
        "hiding",
        "tests.explain.conftest.Masked",
        "Every third token is hidden, and predicted from all others.",
        "pseudo: the loss looks like",
        "def area(width):",
        "x = 'é'",
        "⟨end⟩",
    ):
        assert words in text
    assert "second paragraph" not in text


def test_reads_and_targets_stand_below_each_other(explained):
    text = printed(explained(Masked(), "abcde", length=6))
    index, reads, predicts = section(text, "what it reads")[:3]
    for name, token, target in (("0", "⟨mask⟩", "a"), ("1", "b", "–"), ("3", "⟨mask⟩", "d"), ("5", "⟨end⟩", "–")):
        column = re.search(rf"(?<=\s){name}(?=\s|$)", index).start()
        assert reads[column:].split()[0] == token
        assert predicts[column:].split()[0] == target


def test_every_position_is_in_the_strip_and_further_padding_is_counted(explained):
    lines = section(printed(explained(TwoCopies(), "abc é\n", length=48)), "what it reads")
    indices = [int(one) for line in lines for one in line.split() if re.fullmatch(r"[\d +]+", line) and one.isdigit()]
    assert indices == list(range(18))  # twice eight, and two of padding
    assert any("+30" in line for line in lines)


def test_weights_ranks_and_further_targets_have_lines_of_their_own(explained):
    text = printed(explained(TwoCopies(), "abc", length=8))
    lines = {line.split()[0]: line for line in section(text, "what it reads")[:7]}
    assert "2.5" in lines["weight"]
    assert "(4)" in lines["rank"]
    assert lines["place"].split()[1:] == ["0", "1", "2", "3", "0", "1", "2", "3"]
    assert lines["further_targets"].split()[1:] == ["a", "b", "c", "⟨end⟩", "–", "–", "–", "–"]
    assert "float32 [8]" in text


@pytest.mark.parametrize("objective", [Causal, Masked, TwoCopies])
@pytest.mark.parametrize("text", [TWO_DOCUMENTS, "abc", "a"])
def test_the_picture_is_the_matrix(explained, objective, text):
    (row,) = (explanation := explained(objective(), text, length=48)).rows
    shown = min(len(row.used) + 2, 48)
    top, *lines = section(printed(explanation, no_color=True), "who sees whom")
    margin = top.index("0")
    drawn = []
    for line in lines[: -(-shown // 2)]:
        signs = [SIGNS[sign] for sign in line.ljust(margin + shown)[margin : margin + shown]]
        drawn += zip(*signs, strict=True)
    np.testing.assert_array_equal(np.array(drawn[:shown]), row.sees[:shown, :shown])


def test_positions_with_a_target_are_marked_beside_the_picture(explained):
    (row,) = (explanation := explained(Masked(), "abcdefg", length=8)).rows
    top, *lines = section(printed(explanation, no_color=True), "who sees whom")
    marks = [SIGNS[line[top.index("0") - 2]] for line in lines[:4]]
    assert [bool(one) for pair in marks for one in pair] == [one.predicts is not None for one in row.positions]


def test_a_long_row_is_drawn_smaller_and_says_so(explained):
    text = printed(explained(Causal(), "ab " * 200, length=256, sampled=1))
    assert "a sign is 4 positions wide, 8 high" in text


def test_colours_change_nothing_but_colours(explained):
    explanation = explained(TwoCopies())
    plain = printed(explanation, color_system=None)
    coloured = printed(explanation, force_terminal=True, color_system="truecolor")
    assert "\x1b[" in coloured
    assert "\x1b[" not in plain
    bare = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    assert section(bare, "what it reads") == section(plain, "what it reads")
    assert section(bare, "in numbers") == section(plain, "in numbers")


def test_no_colour_on_request_keeps_no_colour_code(explained):
    text = printed(explained(TwoCopies()), force_terminal=True, color_system="truecolor", no_color=True)
    assert not re.search(r"\x1b\[[\d;]*(38|48);", text)


def test_a_terminal_without_unicode_gets_signs_that_it_can_show(explained):
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding="ascii"), width=80)
    show(explained(Masked(), "ab é\n"), console)
    console.file.flush()
    text = raw.getvalue().decode("ascii")
    assert "(mask)" in text
    assert "#" in text


def test_markup_and_control_characters_of_the_text_are_shown_as_they_are(explained):
    text = printed(explained(Masked(), "[bold]a[/bold]\x1b[31m\x07", length=64))
    assert "[bold]a[/bold]" in text
    assert "\x07" not in text
    assert "\x1b" not in text


def test_a_mixture_ends_with_a_table_of_its_components(explained):
    lines = section(printed(explained(Chosen(), sampled=100)), "components")
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:] if line.strip()}
    assert rows.keys() == {"hidden", "copied", "all"}
    assert int(rows["hidden"][0]) + int(rows["copied"][0]) == int(rows["all"][0]) == 100
