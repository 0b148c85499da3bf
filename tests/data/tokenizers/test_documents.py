import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntp.data.tokenizers import Tokenizer, documents
from tests.data.tokenizers.conftest import TEXTS


@given(text=st.text(alphabet="ab \n", max_size=200), limit=st.integers(2, 20))
def test_pieces_are_the_text_and_no_longer_than_the_limit(text: str, limit: int) -> None:
    pieces = list(documents.pieces(text, limit))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= limit for piece in pieces) or text == ""


@settings(deadline=None)
@given(text=st.text(alphabet="ab1. \n'é", min_size=60, max_size=300))
def test_a_cut_between_two_lines_of_text_changes_no_token(tokenizers: dict[str, Tokenizer], text: str) -> None:
    cuts = [
        index + 1
        for index in range(1, len(text) - 1)
        if text[index] == "\n" and not text[index - 1].isspace() and not text[index + 1].isspace()
    ]
    for name in ("bpe", "wordpiece", "unigram"):
        whole = tokenizers[name].encode(text)
        for cut in cuts:
            parts = [tokenizers[name].encode(part) for part in (text[:cut], text[cut:])]
            assert np.array_equal(np.concatenate(parts), whole)


def test_a_long_document_is_encoded_as_one(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(TEXTS)
    monkeypatch.setattr(documents, "_BATCH", 1000)
    monkeypatch.setattr(documents.pieces, "__defaults__", (700,))
    encoded = list(documents.encode_documents(tokenizer, [text, "short"]))
    assert len(encoded) > 20
    assert [end for _, _, end in encoded] == [False] * (len(encoded) - 2) + [True, True]
    assert sum(int(counts.sum()) for _, counts, _ in encoded) == len(text.encode()) + 5
    if tokenizer.lossless:
        ids = np.concatenate([ids for ids, _, _ in encoded[:-1]])
        assert tokenizer.decode(ids) == text


def test_progress_counts_characters_and_shows_nothing_outside_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with documents.Progress("working", 6) as progress:
        progress.patience = -1
        assert list(progress.over(["abc", "def"])) == ["abc", "def"]
    assert progress.done == 6
    assert capfd.readouterr().err == ""
