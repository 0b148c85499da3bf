import pytest

from ntp.data.tokenizers import BytePair, Bytes, Characters, Recipe, Tokenizer, Unigram, WordPiece

TEXTS = [
    f"def function_{number}(argument, other={number}):\n    return argument * {number % 7}  # naïve ✓ 日本語\n\n\n"
    for number in range(300)
]
RECIPES: dict[str, Recipe] = {
    "bpe": BytePair(600),
    "wordpiece": WordPiece(900),
    "unigram": Unigram(600),
    "char": Characters(),
    "bytes": Bytes(),
}
LOSSLESS = [name for name in RECIPES if name != "char"]


@pytest.fixture(scope="session")
def tokenizers() -> dict[str, Tokenizer]:
    """A small tokenizer of every kind."""
    return {name: recipe.train(TEXTS) for name, recipe in RECIPES.items()}


@pytest.fixture(params=list(RECIPES))
def tokenizer(request: pytest.FixtureRequest, tokenizers: dict[str, Tokenizer]) -> Tokenizer:
    """Each of them in turn."""
    return tokenizers[request.param]
