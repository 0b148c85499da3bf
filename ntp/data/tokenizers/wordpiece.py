"""WordPiece, the tokenizer of BERT, over bytes."""

from collections.abc import Iterable

from ntp.config.types import Count, PositiveInt
from ntp.data.tokenizers.byte_counts import byte_alphabet
from ntp.data.tokenizers.byte_level import byte_level_words, numbered
from ntp.data.tokenizers.documents import in_pieces
from ntp.data.tokenizers.recipe import Recipe
from ntp.data.tokenizers.tokenizer import Tokenizer

CONTINUATION = "⁀"
"""Marks a piece inside a word. BERT's ``##`` can stand in a text and would then be mistaken for the mark; U+2040 stands
for no byte."""

LONGEST_WORD = 64
"""In characters. The search for pieces takes time quadratic in the length of a word, and BERT gives up at 100; here a
longer word is cut."""


class WordPiece(Recipe):
    """Learns pieces as `BytePair` does and encodes a word by the longest piece first.

    Differs from BERT's in what makes it lossless: nothing is lowercased or dropped, words are bytes with the space
    before them, and no word is unknown.

    Args:
        vocabulary_size: of the whole vocabulary, special tokens included; smaller if the text has no more pieces.
        min_frequency: how often a pair of pieces must occur to be merged.
        pattern: regular expression (Oniguruma) of what is one word; None for GPT-2's.
        sentinels: how many sentinel tokens are reserved.
        extra_special_tokens: special tokens reserved after ntp's own.

    Raises:
        ConfigError: the vocabulary is too small; when it trains, the pattern is wrong.
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
        self.room(vocabulary_size, 2 * len(byte_alphabet()))

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Learn the pieces."""
        from tokenizers import Tokenizer as Backend
        from tokenizers import decoders, models, trainers

        # Every byte at the start of a word and inside one. Given as special tokens of the training, the latter get
        # fixed ids; the trainer alone would number them in the random order of a hash table.
        alphabet = [*byte_alphabet(), *(CONTINUATION + one for one in byte_alphabet())]
        scratch = Backend(models.WordPiece())
        scratch.pre_tokenizer = byte_level_words(self.pattern, LONGEST_WORD)
        trainer = trainers.WordPieceTrainer(
            vocab_size=self.room(self.vocabulary_size, len(alphabet)),
            min_frequency=self.min_frequency,
            special_tokens=alphabet,
            continuing_subword_prefix=CONTINUATION,
            show_progress=False,
        )
        scratch.train_from_iterator(in_pieces(texts), trainer)
        learned = scratch.get_vocab()
        tokens = [*self.special_tokens, *sorted(learned, key=learned.__getitem__)]
        model = models.WordPiece(
            vocab=numbered(tokens), continuing_subword_prefix=CONTINUATION, max_input_chars_per_word=4 * LONGEST_WORD
        )
        backend = Backend(model)
        backend.pre_tokenizer = byte_level_words(self.pattern, LONGEST_WORD)
        backend.decoder = decoders.Sequence([decoders.Replace(CONTINUATION, ""), decoders.ByteLevel()])
        return self.finish(backend)
