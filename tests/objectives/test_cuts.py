from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntp.objectives.cuts import CharacterCuts
from tests.objectives.texts import ANY_TEXT, BYTES, LETTERS, PROSE, SUBWORDS, distance

LOSSLESS = {"bytes": BYTES, "subwords": SUBWORDS}
CUTS = {name: CharacterCuts(tokenizer) for name, tokenizer in LOSSLESS.items()}
KIND = st.sampled_from(sorted(LOSSLESS))
LONG = "".join(PROSE[:60])


def places(kind, text):
    """Every place between two characters of a text, by walking along it."""
    tokens = LOSSLESS[kind].encode(text)
    ends = np.cumsum(LOSSLESS[kind].token_bytes[tokens])
    found, distance = [], 0
    for character in ["", *text]:
        distance += len(character.encode())
        token = int(np.searchsorted(ends, distance, side="right"))
        found.append((token, distance - (int(ends[token - 1]) if token else 0)))
    return found


LONG_PLACES = places("subwords", LONG)


def spelled(kind, tokens, parts):
    """The text of what `between` gives."""
    return "".join(one if isinstance(one, str) else LOSSLESS[kind].decode(tokens[one]) for one in parts)


def encoded(kind, tokens, parts):
    return np.concatenate([LOSSLESS[kind].encode(one) if isinstance(one, str) else tokens[one] for one in parts])


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("text", ["a", "naïve 日本語 🙂🙃, the ship", "aboard " * 5])
def test_every_place_between_two_characters_is_equally_likely(kind, text):
    tokens, rng = LOSSLESS[kind].encode(text), np.random.default_rng(0)
    _, end = CUTS[kind].edges(tokens)
    drawn = [CUTS[kind].draw(tokens, end, rng) for _ in range(3000)]
    every = places(kind, text)
    assert len(set(every)) == len(text) + 1
    assert distance(drawn, dict.fromkeys(every, 1 / len(every))) < 5


@settings(deadline=None, max_examples=100)
@given(kind=KIND, text=ANY_TEXT)
def test_a_whole_text_has_its_edges_at_its_ends(kind, text):
    tokens = LOSSLESS[kind].encode(text)
    assert CUTS[kind].edges(tokens) == ((0, 0), (len(tokens), 0))
    assert CUTS[kind].character_length(tokens) == len(text)
    assert CUTS[kind].byte_length(tokens) == len(text.encode())


@settings(deadline=None, max_examples=200)
@given(text=st.text(alphabet="aé日🙂", max_size=6), data=st.data())
def test_parts_of_characters_lie_outside_of_the_edges(text, data):
    whole = text.encode()
    begin = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(begin, len(whole)))
    part = whole[begin:end]
    tokens = BYTES.encode(text)[begin:end]
    first, last = CUTS["bytes"].edges(tokens)
    # A byte is a token, so that all places are at the beginning of one.
    kept = part[first[0] : last[0]]
    assert kept.decode() == part.decode(errors="ignore")
    assert CUTS["bytes"].character_length(tokens) == len(kept.decode())
    assert (first == last) == (not kept)


@settings(deadline=None, max_examples=200)
@given(kind=KIND, text=ANY_TEXT, data=st.data())
def test_the_parts_of_a_text_spell_it(kind, text, data):
    every, tokens = places(kind, text), LOSSLESS[kind].encode(text)
    first, second = sorted(data.draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    bounds = [(0, 0), every[first], every[second], (len(tokens), 0)]
    parts = [spelled(kind, tokens, CUTS[kind].between(tokens, *pair)) for pair in pairwise(bounds)]
    assert parts == [text[:first], text[first:second], text[second:]]


@settings(deadline=None, max_examples=30)
@given(cut=st.integers(0, len(LONG)))
def test_a_long_part_is_encoded_as_if_it_were_encoded_whole(cut):
    tokens, place = SUBWORDS.encode(LONG), LONG_PLACES[cut]
    for begin, end, text in (((0, 0), place, LONG[:cut]), (place, (len(tokens), 0), LONG[cut:])):
        parts = CUTS["subwords"].between(tokens, begin, end)
        assert encoded("subwords", tokens, parts).tolist() == SUBWORDS.encode(text).tolist()


def test_little_of_a_long_part_is_encoded():
    tokens = SUBWORDS.encode(LONG)
    parts = CUTS["subwords"].between(tokens, (3, 1), (len(tokens) - 5, 0))
    assert [type(one) for one in parts] == [str, slice, str]
    assert len(SUBWORDS.encode(parts[0])) < 80
    assert len(SUBWORDS.encode(parts[2])) < 80


def test_what_stays_as_it_is_begins_and_ends_between_two_words():
    text = "".join(f"{'  ' * (number % 4)}unpronounceable = {number}\n" for number in range(60))
    tokens, every = SUBWORDS.encode(text), places("subwords", text)
    for cut in range(400, 500):
        _, kept, _ = CUTS["subwords"].between(tokens, every[cut], every[-cut])
        for seam in (kept.start, kept.stop):
            assert SUBWORDS.token_texts[tokens[seam]].startswith(b" ")
            assert not SUBWORDS.token_texts[tokens[seam - 1]][-1:].isspace()


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_long_text_without_spaces_keeps_its_characters(kind):
    text = "日本語🙂" * 200
    tokens, every = LOSSLESS[kind].encode(text), places(kind, text)
    for cut in range(300, 304):
        parts = CUTS[kind].between(tokens, every[cut], (len(tokens), 0))
        assert len(parts) == 3
        assert spelled(kind, tokens, parts) == text[cut:]


def test_a_tokenizer_that_does_not_give_its_text_back_cannot_be_cut():
    with pytest.raises(ValueError, match="do not tell the text"):
        CharacterCuts(LETTERS)
