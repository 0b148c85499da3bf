"""Compressors: the lengths are those of streams that can be read again, and obey the chain rule."""

import lzma
import math
import zlib

import numpy as np
import pytest
import zstandard

from ntp.baselines.code_lengths import BEST, code_lengths
from ntp.baselines.compressors import CodeLengths, Compressor, tail
from ntp.evaluation.examinee import TextQuestion

FORMATS = sorted(BEST)
TEXT = "".join(f"def f{number}(x):\n    return x + {number * 7 % 13}\n" for number in range(300))


def bits(format, before, *questions):
    return CodeLengths(format, BEST[format], before).score(questions).nats / math.log(2)


def stream(format, text):
    """As short as the libraries make it when they are asked plainly."""
    if format == "gzip":
        compressor = zlib.compressobj(9, wbits=-15, memLevel=9)
        return compressor.compress(text) + compressor.flush()
    if format == "xz":
        one = {"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME}
        return lzma.compress(text, format=lzma.FORMAT_RAW, filters=[one])
    return zstandard.ZstdCompressor(level=22, write_content_size=False).compress(text)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("before", ["", TEXT], ids=["fresh", "behind a text"])
def test_lengths_are_those_of_streams_of_the_whole_text(format, before):
    texts = [b"", b"x", TEXT[:500].encode(), b"something else, 123"]
    lengths = code_lengths(format, BEST[format], before.encode(), texts)
    header = {"gzip": 0, "xz": 0, "zstd": 4}[format]  # zstd's magic number
    expected = [len(stream(format, before.encode() + text)) - header for text in texts]
    assert np.abs(np.subtract(lengths, expected)).max() <= {"gzip": 0, "xz": 0, "zstd": 3}[format]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("before", [b"", TEXT.encode()], ids=["fresh", "behind a text"])
def test_a_text_costs_what_its_parts_cost_one_after_the_other(format, before):
    text, cut = TEXT[200:900], 311
    whole, first, rest = bits(
        format,
        before,
        TextQuestion("continue", "", text),
        TextQuestion("continue", "", text[:cut], ends=False),
        TextQuestion("continue", text[:cut], text[cut:]),
    )
    assert whole == pytest.approx(first + rest)
    assert whole > 0


@pytest.mark.parametrize("format", FORMATS)
def test_what_has_been_read_before_costs_next_to_nothing(format):
    question = TextQuestion("continue", "", TEXT[1000:1600], ends=False)
    fresh, primed = bits(format, b"", question)[0], bits(format, TEXT.encode(), question)[0]
    assert primed < 0.2 * fresh
    assert fresh < 8 * 600


@pytest.mark.parametrize("format", FORMATS)
def test_an_answer_does_not_depend_on_what_else_is_asked(format):
    questions = [TextQuestion("continue", TEXT[:50], TEXT[50:100]), TextQuestion("continue", "", "tail " * 200)]
    together = bits(format, TEXT.encode(), *questions)
    np.testing.assert_array_equal(together, [bits(format, TEXT.encode(), one)[0] for one in questions])


def test_the_end_of_a_document_is_charged_and_that_of_a_gap_is_not():
    examinee = CodeLengths("xz", 9, b"")
    ended, open_end, gap = examinee.score(
        [
            TextQuestion("continue", "a", "bcd"),
            TextQuestion("continue", "a", "bcd", ends=False),
            TextQuestion("infill", "a", "bcd", "e"),
        ]
    ).tokens
    assert (ended, open_end, gap) == (4, 3, 3)


def test_no_order_but_from_left_to_right_is_answered():
    examinee = CodeLengths("gzip", 9, b"")
    assert examinee.way("any_order") is None
    way = examinee.way("infill")
    assert way is not None
    assert (way.likelihood, way.given) == ("exact", ("left",))


def test_the_tail_of_a_text_is_its_last_bytes_with_the_ends_of_documents():
    assert tail(["abc", "é", "xyz"], 7) == "é".encode() + b"\xffxyz\xff"
    assert tail(["abc"] * 1000, 5) == b"\xffabc\xff"
    assert tail(["ab"], 100) == b"ab\xff"


def test_a_level_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="level 12 is higher than the highest of gzip, 9"):
        Compressor("gzip", level=12)
