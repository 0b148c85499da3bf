"""What makes a tokenizer."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ntp.config.errors import ConfigError
from ntp.config.types import Count
from ntp.data.special_tokens import reserved_tokens
from ntp.data.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend


class Recipe(ABC):
    """Makes a tokenizer whose first ids are the special tokens of all objectives.

    Args:
        sentinels: how many sentinel tokens are reserved.
        extra_special_tokens: special tokens reserved after ntp's own.

    Attributes:
        special_tokens: all of them, in the order of their ids.
    """

    def __init__(self, sentinels: Count = 128, extra_special_tokens: list[str] | None = None) -> None:
        extra = list(extra_special_tokens or [])
        if "" in extra:
            raise ConfigError("data.tokenizer.extra_special_tokens", "a special token cannot be empty")
        self.special_tokens = list(dict.fromkeys([*reserved_tokens(sentinels), *extra]))

    @abstractmethod
    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Make the tokenizer; the same texts in the same order always make the same.

        Args:
            texts: training documents or parts of them, iterated once.

        Raises:
            ConfigError: it cannot be made as asked for.
        """

    def identity(self) -> dict[str, Any]:
        """What decides, beside the texts, which tokenizer is made: plain values that JSON can hold."""
        return {"recipe": f"{type(self).__module__}.{type(self).__qualname__}", **vars(self)}

    def room(self, vocabulary_size: int, alphabet: int) -> int:
        """What a vocabulary has left for the model beside the special tokens.

        Args:
            vocabulary_size: of the whole vocabulary.
            alphabet: tokens that the model cannot do without.

        Raises:
            ConfigError: it is too small; says the smallest that is not.
        """
        smallest = len(self.special_tokens) + alphabet
        if vocabulary_size < smallest:
            problem = (
                f"{vocabulary_size} has no room for {len(self.special_tokens)} special tokens and {alphabet} of the "
                f"alphabet; the smallest is {smallest}"
            )
            raise ConfigError("data.tokenizer.vocabulary_size", problem)
        return vocabulary_size - len(self.special_tokens)

    def finish(self, backend: "Backend") -> Tokenizer:
        """Mark the special tokens and prove that text cannot produce them.

        Args:
            backend: with a vocabulary that begins with the special tokens.

        Raises:
            ConfigError: the model can read a special token in plain text.
        """
        from tokenizers import AddedToken

        backend.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in self.special_tokens])
        tokenizer = Tokenizer(backend)
        forbidden = tokenizer.special_ids - {tokenizer.unknown}
        contexts = [text for one in self.special_tokens for text in (one, f" {one}", f"a{one}a", f"{one} {one}")]
        for ids, _ in tokenizer.encode_batch(contexts):
            if read := forbidden.intersection(ids.tolist()):
                name = tokenizer.id_to_token(min(read)) or ""
                problem = f"'{name}' is found in plain text; call it <|{name.strip('<|>')}|>"
                raise ConfigError("data.tokenizer.extra_special_tokens", problem)
        return tokenizer
