"""Tokens are shown so that nothing of them stays unseen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntp.data.special_tokens import reserved_tokens, sentinel
from ntp.data.tokenizers import Bytes, Tokenizer
from ntp.explain.pieces import Pieces, byte_level_text, visible


def test_whitespace_and_control_characters_become_visible():
    assert visible("a b\n\tc\r\x00\x85é") == "a·b↵→c␍\\x00\\x85é"


@given(st.text())
def test_what_is_visible_is_printable_and_on_one_line(text):
    shown = visible(text)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    assert len(shown) >= len(text)


@pytest.mark.parametrize(
    ("token", "shown", "kind"),
    [
        ("<|mask|>", "⟨mask⟩", "mask"),
        ("<|endoftext|>", "⟨end⟩", "end"),
        ("<|padding|>", "⟨padding⟩", "padding"),
        ("<|fim_prefix|>", "⟨pre⟩", "marker"),
        ("<|fim_suffix|>", "⟨suf⟩", "marker"),
        ("<|fim_middle|>", "⟨mid⟩", "marker"),
        ("<|mode_x|>", "⟨X⟩", "marker"),
        ("<|sentinel_12|>", "⟨S12⟩", "sentinel"),
        ("<|theirs|>", "⟨theirs⟩", "marker"),
    ],
)
def test_special_tokens_have_short_names(token, shown, kind):
    tokenizer = Bytes(extra_special_tokens=["<|theirs|>"]).train()
    piece = Pieces(tokenizer)[tokenizer.special_tokens[token]]
    assert (piece.plain, piece.kind, piece.token, piece.is_special) == (shown, kind, token, True)


def test_no_two_special_tokens_look_alike():
    tokenizer = Bytes().train()
    pieces = Pieces(tokenizer)
    shown = {pieces[tokenizer.special_tokens[one]].plain for one in reserved_tokens(128)}
    assert len(shown) == len(reserved_tokens(128))
    assert pieces[tokenizer.special_tokens[sentinel(127)]].plain == "⟨S127⟩"


def test_a_part_of_a_character_is_shown_as_its_bytes(tokenizer):
    pieces = Pieces(tokenizer)
    assert [pieces[index].text for index in tokenizer.encode("é ")] == ["\\xc3", "\\xa9", "·"]
    assert byte_level_text("Ã©") == "é"


def test_tokenizers_that_are_not_byte_level_show_their_own_signs():
    from tokenizers import Tokenizer as Backend
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import Metaspace

    vocabulary = {"[UNK]": 0, "</s>": 1, "▁some": 2, "##thing": 3}
    backend = Backend(WordPiece(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = Metaspace()
    backend.add_special_tokens(["</s>"])
    pieces = Pieces(Tokenizer(backend, {"<|endoftext|>": "</s>"}))
    assert [pieces[index].plain for index in (2, 3, 1)] == ["·some", "##thing", "⟨end⟩"]
    assert pieces[0].plain == "[UNK]"  # text, if of an unknown kind


def test_an_id_that_no_token_has_is_shown_as_a_number(tokenizer):
    assert Pieces(tokenizer)[10**6].text == "1000000"
