"""A text for benchmarks of speed: characters at random, as many different ones as a vocabulary needs."""

from pathlib import Path

import numpy as np

from ntp.data.special_tokens import reserved_tokens

SENTINELS = 0
"""Reserved for objectives that remove spans; the benchmark's tokenizer goes without."""

_SEED = 20260101


def write_corpus(path: Path, vocabulary: int, characters: int) -> None:
    """Write a text for which a character tokenizer has exactly ``vocabulary`` tokens.

    Args:
        path: of the file.
        vocabulary: tokens, special tokens included.
        characters: length of the text.

    Raises:
        SystemExit: the special tokens alone are more.
    """
    special = len(reserved_tokens(SENTINELS)) + 1  # and the token for unknown characters
    different = vocabulary - special
    if different < 1:
        raise SystemExit(f"--vocabulary: {special} tokens are special, so the least is {special + 1}")
    alphabet = [chr(code) for code in range(33, 0x30000) if chr(code).isalnum()][:different]
    rng = np.random.default_rng(_SEED)
    # Frequencies as in text, so that embeddings are looked up as unevenly; each character comes at least once.
    frequencies = 1 / np.arange(1, different + 1)
    drawn = rng.choice(different, size=characters - different, p=frequencies / frequencies.sum())
    # The rare ones stand in front: the held-out part is the end of the text.
    numbers = np.concatenate((np.arange(different), drawn))
    path.write_text("".join(alphabet[number] for number in numbers), encoding="utf-8")
