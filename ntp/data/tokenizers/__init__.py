"""Text to token ids and back. Each recipe is an option of ``data/tokenizer``; see ``conf/data/tokenizer``."""

from ntp.data.tokenizers.bpe import BytePair
from ntp.data.tokenizers.bytes import Bytes
from ntp.data.tokenizers.char import Characters
from ntp.data.tokenizers.pretrained import Pretrained
from ntp.data.tokenizers.recipe import Recipe
from ntp.data.tokenizers.tokenizer import Tokenizer
from ntp.data.tokenizers.unigram import Unigram
from ntp.data.tokenizers.wordpiece import WordPiece

__all__ = ["BytePair", "Bytes", "Characters", "Pretrained", "Recipe", "Tokenizer", "Unigram", "WordPiece"]
