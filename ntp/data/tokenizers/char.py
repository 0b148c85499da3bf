"""One token a character."""

from collections.abc import Iterable

from ntp.config.types import Count
from ntp.data.tokenizers.byte_level import numbered
from ntp.data.tokenizers.recipe import Recipe
from ntp.data.tokenizers.tokenizer import Tokenizer

UNKNOWN = "<|unknown|>"
"""Stands for every character that the training text does not have."""


class Characters(Recipe):
    """The characters (Unicode code points) of the training text are the vocabulary, in the order of their numbers.

    Characters that the training text does not have become the token ``<|unknown|>``, and are lost in decoding.

    Args:
        sentinels: how many sentinel tokens are reserved.
        extra_special_tokens: special tokens reserved after ntp's own.
    """

    def __init__(self, sentinels: Count = 128, extra_special_tokens: list[str] | None = None) -> None:
        super().__init__(sentinels, extra_special_tokens)
        if UNKNOWN not in self.special_tokens:
            self.special_tokens.append(UNKNOWN)

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Collect the characters."""
        from tokenizers import Tokenizer as Backend
        from tokenizers import decoders, models, pre_tokenizers

        found: set[str] = set()
        for text in texts:
            found.update(text)
        vocabulary = numbered([*self.special_tokens, *sorted(found.difference(self.special_tokens))])
        backend = Backend(models.WordLevel(vocab=vocabulary, unk_token=UNKNOWN))
        backend.pre_tokenizer = pre_tokenizers.FixedLength(length=1)
        backend.decoder = decoders.Fuse()
        return self.finish(backend)
