"""What the byte-level recipes share: text is cut into words, and each word becomes its UTF-8 bytes."""

from typing import Any

from ntp.config.errors import ConfigError

# https://github.com/openai/gpt-2/blob/master/src/encoder.py: contractions, words, numbers and other signs, each with
# the space before it, and runs of whitespace.
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def byte_level_words(pattern: str | None, longest: int | None = None) -> Any:
    """The pre-tokenizer.

    Args:
        pattern: regular expression (Oniguruma) of one word; what it does not match is a word too. None for GPT-2's.
        longest: characters above which a word is cut; None for no limit.

    Raises:
        ConfigError: the pattern is not a regular expression.
    """
    from tokenizers import Regex, pre_tokenizers

    try:
        regex = Regex(GPT2_PATTERN if pattern is None else pattern)
    except Exception as error:  # the library raises nothing more specific
        raise ConfigError("data.tokenizer.pattern", f"'{pattern}' is not a regular expression: {error}") from error
    steps: list[Any] = [pre_tokenizers.Split(regex, behavior="isolated")]
    if longest is not None:
        steps.append(pre_tokenizers.FixedLength(length=longest))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    return pre_tokenizers.Sequence(steps)


def numbered(tokens: list[str]) -> dict[str, int]:
    """A vocabulary: each token with its place as id."""
    return {token: index for index, token in enumerate(tokens)}
