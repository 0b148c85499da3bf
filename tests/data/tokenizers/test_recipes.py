"""What holds for the tokenizers of all recipes."""

import os
import subprocess
import sys

import pytest

from ntp.config.errors import ConfigError
from ntp.data.special_tokens import END_OF_TEXT, MASK, PADDING, reserved_tokens
from ntp.data.tokenizers import BytePair, Bytes, Characters, Recipe, Tokenizer, Unigram, WordPiece
from tests.data.tokenizers.conftest import LOSSLESS, RECIPES, TEXTS


def test_the_special_tokens_of_all_objectives_have_the_first_ids(tokenizer: Tokenizer) -> None:
    names = reserved_tokens(128)
    assert [tokenizer.token_to_id(name) for name in names] == list(range(len(names)))
    assert tokenizer.missing_special_tokens(names) == []
    assert (tokenizer.end_of_text, tokenizer.padding) == (0, 1)


def test_text_cannot_produce_a_special_token(tokenizer: Tokenizer) -> None:
    text = f"x{END_OF_TEXT}y {PADDING}\n{MASK}<|sentinel_0|>"
    forbidden = tokenizer.special_ids - {tokenizer.unknown}
    assert forbidden.isdisjoint(tokenizer.encode(text).tolist())


def test_special_tokens_in_text_survive_a_round_trip(tokenizers: dict[str, Tokenizer]) -> None:
    for name in LOSSLESS:
        text = f"x{END_OF_TEXT}y"
        assert tokenizers[name].decode(tokenizers[name].encode(text)) == text


@pytest.mark.parametrize("kind", [BytePair, WordPiece, Unigram])
def test_the_vocabulary_has_the_size_asked_for(kind: type[BytePair]) -> None:
    words = [f"{number * number * 7919:x}" for number in range(3000)]
    assert kind(700).train([" ".join(words)]).vocabulary_size == 700


@pytest.mark.parametrize("kind", [BytePair, WordPiece, Unigram])
def test_a_text_without_enough_to_learn_makes_a_smaller_vocabulary(kind: type[BytePair]) -> None:
    tokenizer = kind(2000).train(["ab ab ab"])
    assert tokenizer.vocabulary_size < 2000
    assert tokenizer.decode(tokenizer.encode("xyz ab é")) == "xyz ab é"


@pytest.mark.parametrize(("kind", "smallest"), [(BytePair, 393), (WordPiece, 649), (Unigram, 393)])
def test_a_vocabulary_without_room_is_refused_with_the_smallest(kind: type[BytePair], smallest: int) -> None:
    with pytest.raises(ConfigError, match=rf"data\.tokenizer\.vocabulary_size: 300 .* the smallest is {smallest}"):
        kind(300)
    text = "any text é"
    tokenizer = kind(smallest).train([text])
    assert tokenizer.vocabulary_size == smallest
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("kind", [BytePair, WordPiece, Unigram, Characters, Bytes])
def test_special_tokens_of_the_users_own_are_reserved(kind: type[Recipe]) -> None:
    tokenizer = kind(sentinels=2, extra_special_tokens=["<|mine|>"]).train(TEXTS)
    assert tokenizer.missing_special_tokens(["<|mine|>", "<|sentinel_1|>", "<|sentinel_2|>"]) == ["<|sentinel_2|>"]
    assert tokenizer.token_to_id("<|mine|>") not in tokenizer.encode("a <|mine|>")


def test_a_special_token_that_text_would_produce_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"extra_special_tokens: 'a' is found in plain text; call it <\|a\|>"):
        Characters(extra_special_tokens=["a"]).train(["abc"])


def test_an_empty_special_token_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be empty"):
        Bytes(extra_special_tokens=[""])


@pytest.mark.parametrize("kind", [BytePair, WordPiece, Unigram])
def test_a_pattern_that_is_no_regular_expression_is_refused(kind: type[BytePair]) -> None:
    with pytest.raises(ConfigError, match=r"data\.tokenizer\.pattern"):
        kind(700, pattern="(").train(TEXTS)


def test_no_token_reaches_across_words_of_the_pattern() -> None:
    tokenizer = BytePair(420, pattern=r"\d|\D+").train(["1234 " * 100])
    assert len(tokenizer.encode("1234")) == 4


def test_recipes_that_differ_have_different_identities() -> None:
    identities = [BytePair(600), BytePair(601), BytePair(600, sentinels=3), WordPiece(900), Unigram(600), Bytes()]
    assert len({repr(one.identity()) for one in identities}) == len(identities)


DIGESTS = """
from tests.data.tokenizers.conftest import RECIPES, TEXTS
for name, recipe in RECIPES.items():
    print(name, recipe.train(TEXTS * 3).digest())
"""


def test_training_twice_gives_the_same_tokenizer_in_any_process() -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-c", DIGESTS],
            env=os.environ | {"PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, threads in (("1", "1"), ("2", "2"), ("3", "4"))
    ]
    assert len(runs[0].splitlines()) == len(RECIPES)
    assert runs[0] == runs[1] == runs[2]
