"""One token a byte."""

from collections.abc import Iterable

from ntp.data.tokenizers.byte_counts import byte_alphabet
from ntp.data.tokenizers.byte_level import numbered
from ntp.data.tokenizers.recipe import Recipe
from ntp.data.tokenizers.tokenizer import Tokenizer


class Bytes(Recipe):
    """The 256 bytes of UTF-8, in order, behind the special tokens; nothing is learned from the text."""

    def train(self, texts: Iterable[str] = ()) -> Tokenizer:
        """Make the tokenizer; the texts are not read."""
        from tokenizers import Tokenizer as Backend
        from tokenizers import decoders, models, pre_tokenizers

        alphabet = sorted(byte_alphabet(), key=byte_alphabet().__getitem__)
        backend = Backend(models.BPE(vocab=numbered([*self.special_tokens, *alphabet]), merges=[]))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.decoder = decoders.ByteLevel()
        return self.finish(backend)
