"""Byte-pair encoding of bytes, the tokenizer of GPT-2 and most models since."""

import json
from collections.abc import Iterable

from ntp.config.types import Count, PositiveInt
from ntp.data.tokenizers.byte_counts import byte_alphabet
from ntp.data.tokenizers.byte_level import byte_level_words, numbered
from ntp.data.tokenizers.documents import in_pieces
from ntp.data.tokenizers.recipe import Recipe
from ntp.data.tokenizers.tokenizer import Tokenizer


class BytePair(Recipe):
    """Starts from the 256 bytes and merges the commonest pair of neighbours until the vocabulary is full.

    Every text can be encoded, and decodes to itself. Merges stay within words: see ``pattern``.

    Args:
        vocabulary_size: of the whole vocabulary, special tokens included; smaller if the text has no more pairs.
        min_frequency: how often a pair must occur to be merged.
        pattern: regular expression (Oniguruma) of what is one word; None for GPT-2's.
        sentinels: how many sentinel tokens are reserved.
        extra_special_tokens: special tokens reserved after ntp's own.

    Raises:
        ConfigError: when it trains: the vocabulary is too small, or the pattern is wrong.
    """

    def __init__(
        self,
        vocabulary_size: PositiveInt = 2048,
        min_frequency: PositiveInt = 2,
        pattern: str | None = None,
        sentinels: Count = 128,
        extra_special_tokens: list[str] | None = None,
    ) -> None:
        super().__init__(sentinels, extra_special_tokens)
        self.vocabulary_size = vocabulary_size
        self.min_frequency = min_frequency
        self.pattern = pattern
        self.room(vocabulary_size, len(byte_alphabet()))

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Count pairs and merge."""
        from tokenizers import Tokenizer as Backend
        from tokenizers import decoders, models, trainers

        room = self.room(self.vocabulary_size, len(byte_alphabet()))
        scratch = Backend(models.BPE())
        scratch.pre_tokenizer = byte_level_words(self.pattern)
        # The special tokens stay out of the training: as ordinary vocabulary they could be merged from text.
        trainer = trainers.BpeTrainer(
            vocab_size=room,
            min_frequency=self.min_frequency,
            initial_alphabet=list(byte_alphabet()),
            show_progress=False,
        )
        scratch.train_from_iterator(in_pieces(texts), trainer)
        learned = json.loads(scratch.to_str())["model"]
        tokens = [*self.special_tokens, *sorted(learned["vocab"], key=learned["vocab"].__getitem__)]
        merges = [(left, right) for left, right in learned["merges"]]
        backend = Backend(models.BPE(vocab=numbered(tokens), merges=merges))
        backend.pre_tokenizer = byte_level_words(self.pattern)
        backend.decoder = decoders.ByteLevel()
        return self.finish(backend)
