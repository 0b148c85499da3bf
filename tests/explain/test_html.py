"""The page is one file that fetches nothing, and shows text as text."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntp.explain.html import page, path
from ntp.objectives.causal import Causal
from tests.explain.conftest import TWO_DOCUMENTS, Chosen, Masked, TwoCopies

VOID = {"meta", "br"}
NASTY = "<script>alert('x')</script> & \"quotes\" </style> {{ 7 * 7 }} </button>"


class Reader(HTMLParser):
    """Checks that tags nest, and keeps attributes and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.text, self.tags = [], [], {}, []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *one) for one in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *one) for one in attributes]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.setdefault(self.open[-1] if self.open else "", []).append(data)


@pytest.mark.parametrize("objective", [Causal, Masked, TwoCopies, Chosen])
def test_the_page_is_well_formed_and_asks_for_nothing(explained, objective):
    text = page(explained(objective()))
    reader = Reader(text)
    assert not {"link", "img", "iframe", "object", "embed"} & set(reader.tags)
    assert [
        one for one in reader.attributes if one[1] in ("src", "href", "action") and not one[2].startswith("#")
    ] == []
    assert not re.search(r"@import|url\(|https?://|fetch\(|XMLHttpRequest|import\(", text)
    assert "default-src 'none'" in text
    assert len(set(re.findall(r' id="([^"]+)"', text))) == len(re.findall(r' id="', text))


def test_it_follows_the_readers_colours_and_fits_a_phone(explained):
    text = page(explained(Masked()))
    assert "@media (prefers-color-scheme: dark)" in text
    assert 'name="viewport" content="width=device-width' in text


def test_text_cannot_become_markup(explained):
    explanation = explained(Masked(), NASTY, length=96, name=NASTY, options={"note": NASTY})
    reader = Reader(page(explanation))
    assert reader.tags.count("script") == 2  # the rule's numbers, and the page's own
    assert NASTY in "".join(reader.text["pre"])
    assert reader.text["h1"] == [NASTY]


def test_every_position_and_its_target_are_in_the_strip(explained):
    (row,) = (explanation := explained(TwoCopies())).rows
    text = page(explanation)
    shown = [str(index) for index in range(min(len(row.used) + 2, 48))]
    assert re.findall(r'<span class="index"><span>(\d+)</span>', text) == shown
    assert text.count('class="cell trained') == row.counts.targets
    assert text.count("×2.5") == row.counts.targets
    assert len(re.findall(r'class="cell[^"]* private"', text)) - 1 == len(row.used) // 2  # and one in the key


@pytest.mark.parametrize("objective", [Causal, Masked, TwoCopies])
def test_the_rule_that_the_page_evaluates_is_the_matrix(explained, objective):
    (row,) = (explanation := explained(objective(), TWO_DOCUMENTS)).rows
    rule = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page(explanation)).group(1))
    size = len(rule["order"])
    order, segments, private = (np.array(rule[name]) for name in ("order", "segments", "private"))
    below = (order[None] == order[:, None]) | ((order[None] < order[:, None]) & ~private[None])
    np.testing.assert_array_equal(below & (segments[None] == segments[:, None]), row.sees[:size, :size])


def painted(drawing, size):
    """The entries that a path covers."""
    cells = np.zeros((size, size), dtype=int)
    for left, top, right, bottom, back in re.findall(r"M(\d+) (\d+)H(\d+)V(\d+)H(\d+)z", drawing):
        assert left == back
        cells[int(top) : int(bottom), int(left) : int(right)] += 1
    return cells


@given(
    st.integers(1, 12).flatmap(
        lambda size: st.lists(st.lists(st.booleans(), min_size=size, max_size=size), min_size=size, max_size=size)
    )
)
def test_a_path_covers_each_true_entry_once_and_nothing_else(entries):
    cells = np.array(entries)
    np.testing.assert_array_equal(painted(path(cells), len(cells)), cells)


def test_the_picture_parts_what_is_seen_by_whether_there_is_a_target(explained):
    (row,) = (explanation := explained(Masked(), "abcdef", length=8)).rows
    sees, trained = re.findall(r'<path class="(?:sees|trained)" d="([^"]*)"', page(explanation))
    targets = np.array([one.predicts is not None for one in row.positions])[:, None]
    np.testing.assert_array_equal(painted(trained, 8), row.sees & targets)
    np.testing.assert_array_equal(painted(sees, 8), row.sees & ~targets)


def test_the_page_of_a_long_row_stays_small(explained):
    explanation = explained(TwoCopies(), "a text " * 200, length=1024, sampled=1)
    text = page(explanation)
    assert "The first 512 of 1024 positions are drawn" in text
    assert len(text) < 2_000_000


def test_a_mixture_leads_from_its_components_to_their_rows(explained):
    text = page(explained(Chosen()))
    for anchor in re.findall(r'href="#([^"]+)"', text):
        assert f'id="{anchor}"' in text
    assert text.count('<section class="row"') == 2
