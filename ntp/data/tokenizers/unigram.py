"""The unigram language model of SentencePiece (Kudo 2018, arXiv 1804.10959), over bytes."""

import json
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from ntp.config.types import Count, PositiveInt
from ntp.data.tokenizers.byte_counts import byte_alphabet
from ntp.data.tokenizers.byte_level import byte_level_words
from ntp.data.tokenizers.documents import in_pieces
from ntp.data.tokenizers.recipe import Recipe
from ntp.data.tokenizers.tokenizer import Tokenizer

_NEVER = -1e6  # log-probability of a special token as a piece of text


class Unigram(Recipe):
    """Begins with many pieces, drops those that the text's likelihood misses least, encodes by the likeliest pieces.

    Every text can be encoded, and decodes to itself: pieces are bytes, and all 256 single bytes are among them.

    Args:
        vocabulary_size: of the whole vocabulary, special tokens included; smaller if the text has fewer pieces.
        max_piece_length: of a piece, in bytes.
        shrinking_factor: how much of the vocabulary survives each round of dropping.
        pattern: regular expression (Oniguruma) of what is one word; None for GPT-2's.
        sentinels: how many sentinel tokens are reserved.
        extra_special_tokens: special tokens reserved after ntp's own.

    Raises:
        ConfigError: the vocabulary is too small; when it trains, the pattern is wrong.
    """

    def __init__(
        self,
        vocabulary_size: PositiveInt = 2048,
        max_piece_length: PositiveInt = 16,
        shrinking_factor: Annotated[float, Field(gt=0, lt=1)] = 0.75,
        pattern: str | None = None,
        sentinels: Count = 128,
        extra_special_tokens: list[str] | None = None,
    ) -> None:
        super().__init__(sentinels, extra_special_tokens)
        self.vocabulary_size = vocabulary_size
        self.max_piece_length = max_piece_length
        self.shrinking_factor = shrinking_factor
        self.pattern = pattern
        self.room(vocabulary_size, len(byte_alphabet()))

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Learn the pieces and their probabilities."""
        from tokenizers import Tokenizer as Backend
        from tokenizers import decoders, models, trainers

        scratch = Backend(models.Unigram())
        scratch.pre_tokenizer = byte_level_words(self.pattern)
        trainer = trainers.UnigramTrainer(
            vocab_size=self.room(self.vocabulary_size, len(byte_alphabet())),
            initial_alphabet=list(byte_alphabet()),
            max_piece_length=self.max_piece_length,
            shrinking_factor=self.shrinking_factor,
            show_progress=False,
        )
        scratch.train_from_iterator(in_pieces(texts), trainer)
        learned = json.loads(scratch.to_str())["model"]["vocab"]
        vocabulary = [*((one, _NEVER) for one in self.special_tokens), *_in_order(learned)]
        backend = Backend(models.Unigram(vocabulary))
        backend.pre_tokenizer = byte_level_words(self.pattern)
        backend.decoder = decoders.ByteLevel()
        return self.finish(backend)


def _in_order(learned: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """The pieces in an order and with scores that do not depend on the trainer's hash tables and threads.

    It sums probabilities in no fixed order, so that last digits vary; and it gives single bytes that it had dropped
    the lowest score plus 0.0001 for each, in random order.
    """
    lowest = min(score for _, score in learned)
    restored = lowest + 0.0001 * (len(byte_alphabet()) + 1)
    scores = {piece: round(lowest if len(piece) == 1 and score <= restored else score, 6) for piece, score in learned}
    return sorted(scores.items(), key=lambda one: (-one[1], one[0]))
