"""Baselines that count: uniform, unigrams, and n-grams with Kneser-Ney smoothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ntp.baselines.baseline import Baseline, Fit, TrainingText
from ntp.baselines.kneser_ney import KneserNey, fit
from ntp.baselines.sequences import Sequences
from ntp.baselines.token_models import LeftToRight, words_of
from ntp.config.types import PositiveInt
from ntp.data.prepare import Prepared
from ntp.data.store import TokenStore
from ntp.evaluation.examinee import Examinee


class NGram(Baseline):
    """Interpolated modified Kneser-Ney over the tokens of the run; see `ntp.baselines.kneser_ney`.

    Args:
        order: tokens of the longest n-grams, the predicted one included.
        tokens: of the training text that are read, from its beginning; None for all. About 160 bytes of memory each.
    """

    def __init__(self, order: PositiveInt = 5, tokens: PositiveInt | None = None) -> None:
        self.order, self.tokens = order, tokens

    def fit(self, text: TrainingText, folder: Path) -> Fit:
        """Count the training text."""
        tokenizer, store = text.prepared.tokenizer, text.prepared.train
        sequences = Sequences.of_store(store, tokenizer.end_of_text, self.tokens)
        model = fit(sequences, self.order, tokenizer.vocabulary_size, words_of(tokenizer))
        model.save(folder)
        return Fit(
            bytes_of(store, self.tokens),
            model.ngrams,
            f"interpolated modified Kneser-Ney, order {model.order}",
        )

    def open(self, folder: Path, prepared: Prepared) -> Examinee:
        """Map the n-grams into memory."""
        return LeftToRight(KneserNey.load(folder).nats, prepared.tokenizer)


class Unigram(Baseline):
    """How often each token occurs, and one more (Laplace's add-one)."""

    def fit(self, text: TrainingText, folder: Path) -> Fit:
        """Count the training text."""
        tokenizer, store = text.prepared.tokenizer, text.prepared.train
        words = words_of(tokenizer)
        counts = np.bincount(store.tokens, minlength=tokenizer.vocabulary_size)
        counts[words] += 1
        np.save(folder / "unigrams.npy", counts / counts.sum())
        return Fit(store.total_bytes, len(words), "how often each token occurs, add-one")

    def open(self, folder: Path, prepared: Prepared) -> Examinee:
        """Read the probabilities."""
        probabilities = np.load(folder / "unigrams.npy", allow_pickle=False)
        return LeftToRight(lambda sequences: -np.log(probabilities[sequences.tokens]), prepared.tokenizer)


class Uniform(Baseline):
    """All tokens of which a text can be made, and its end, alike."""

    def fit(self, text: TrainingText, folder: Path) -> Fit:
        """Read nothing."""
        count = len(words_of(text.prepared.tokenizer))
        return Fit(0, 0, f"each of {count} tokens alike")

    def open(self, folder: Path, prepared: Prepared) -> Examinee:
        """Know the vocabulary."""
        nats = float(np.log(len(words_of(prepared.tokenizer))))
        return LeftToRight(lambda sequences: np.full(len(sequences.tokens), nats), prepared.tokenizer)


def bytes_of(store: TokenStore, tokens: int | None) -> int:
    """Of text that so many tokens from its beginning stand for."""
    return int(np.asarray(store.bytes[:tokens]).sum(dtype=np.int64))
