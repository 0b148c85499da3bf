"""Multinomial logistic regression over n-gram features: the maximum-entropy language model (Rosenfeld 1996, "A maximum
entropy approach to adaptive statistical language modelling", section 2), fitted by scikit-learn."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ntp.baselines.baseline import Baseline, Fit, TrainingText, Unsuitable
from ntp.baselines.ngram import bytes_of
from ntp.baselines.sequences import Sequences
from ntp.baselines.token_models import LeftToRight, words_of
from ntp.config.errors import ConfigError
from ntp.config.types import PositiveFloat, PositiveInt
from ntp.data.prepare import Prepared
from ntp.evaluation.examinee import Examinee
from ntp.evaluation.extras import require

_CHUNK = 4096  # positions whose weights are summed at a time


class MaxEnt(Baseline):
    """Predicts the next token from which tokens, pairs, triples ... stand before it.

    A feature says that the last 1, 2, ... tokens are these; the most frequent ones of the sample are kept. Each class
    is a token, so that the vocabulary must be small. What the regression says is mixed with the uniform distribution as
    if every token had occurred once more, since a token that the sample lacks would have probability 0.

    Args:
        order: tokens of the longest n-grams, the predicted one included; at least 2.
        features: that are kept, at most.
        examples: places of the training text that are learned from, spread evenly over it.
        inverse_penalty: scikit-learn's ``C``: how little the weights are drawn to 0.
        iterations: of L-BFGS, at most.
        most_classes: larger vocabularies are refused.
    """

    def __init__(
        self,
        order: PositiveInt = 4,
        features: PositiveInt = 8192,
        examples: PositiveInt = 50_000,
        inverse_penalty: PositiveFloat = 1.0,
        iterations: PositiveInt = 100,
        most_classes: PositiveInt = 512,
    ) -> None:
        if order < 2:
            raise ValueError("order 1 reads nothing of what stands before; take at least 2, or baseline=unigram")
        self.order, self.features, self.examples = order, features, examples
        self.inverse_penalty, self.iterations, self.most_classes = inverse_penalty, iterations, most_classes

    def check(self, text: TrainingText) -> None:
        """Refuse many classes.

        Raises:
            Unsuitable: the vocabulary is too large, or scikit-learn is missing or can't be imported.
            ConfigError: the order is too high for the vocabulary.
        """
        tokenizer = text.prepared.tokenizer
        words = words_of(tokenizer)
        if len(words) > self.most_classes:
            raise Unsuitable(
                "data.tokenizer",
                f"{len(words):,} tokens are too many classes for a logistic regression; data/tokenizer=char or bytes "
                f"has few (or raise most_classes, now {self.most_classes}, and have memory and patience)",
            )
        try:
            require("sklearn.linear_model", package="scikit-learn", extra="exams", key="baseline")
        except ConfigError as error:
            raise Unsuitable(error.key, error.problem) from error
        if (tokenizer.vocabulary_size + 1) ** (self.order - 1) >= 2**63:
            raise ConfigError("order", f"{self.order} is too high for {tokenizer.vocabulary_size} tokens")

    def fit(self, text: TrainingText, folder: Path) -> Fit:
        """Fit the regression to a sample of the training text."""
        tokenizer, store = text.prepared.tokenizer, text.prepared.train
        sequences = Sequences.of_store(store, tokenizer.end_of_text)
        places = np.flatnonzero(sequences.depth > 0)
        chosen = places[np.unique(np.linspace(0, len(places) - 1, min(self.examples, len(places))).astype(np.int64))]
        histories = histories_of(sequences, tokenizer.vocabulary_size, self.order)[chosen]
        known, counts = np.unique(histories[histories >= 0], return_counts=True)
        most_frequent = np.argsort(-counts, kind="stable")[: self.features]
        features = np.sort(known[most_frequent])
        classes, weights, intercepts, steps = self._regression(
            incidence(histories, features), sequences.tokens[chosen], len(features)
        )
        np.save(folder / "features.npy", features)
        np.save(folder / "classes.npy", classes)
        np.save(folder / "weights.npy", weights)
        np.save(folder / "intercepts.npy", intercepts)
        np.save(folder / "examples.npy", np.array(len(chosen)))
        notes = (f"stopped after {steps} iterations, not yet converged",) if steps >= self.iterations else ()
        return Fit(
            bytes_of(store, None),
            weights.size + intercepts.size,
            f"multinomial logistic regression, order {self.order}, {len(features):,} features, "
            f"{len(chosen):,} examples",
            notes,
        )

    def _regression(self, x: Any, y: np.ndarray, features: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Classes [C], weights [features + 1, C] with a row of zeros at the end, intercepts [C], iterations."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        classes = np.unique(y)
        if len(classes) < 2:
            return classes, np.zeros((features + 1, 1), np.float32), np.zeros(1), 0
        model = LogisticRegression(C=self.inverse_penalty, max_iter=self.iterations)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, y)
        coefficients, intercepts = model.coef_, model.intercept_
        if len(classes) == 2:  # scikit-learn keeps the logit of the second class alone
            coefficients = np.concatenate([np.zeros_like(coefficients), coefficients])
            intercepts = np.concatenate([np.zeros_like(intercepts), intercepts])
        weights = np.concatenate([coefficients.T, np.zeros((1, len(classes)))]).astype(np.float32)
        return classes, weights, intercepts, int(model.n_iter_.max())

    def open(self, folder: Path, prepared: Prepared) -> Examinee:
        """Answer by `load`'s model."""
        return LeftToRight(self.load(folder, prepared).nats, prepared.tokenizer)

    def load(self, folder: Path, prepared: Prepared) -> Regression:
        """Read the weights."""
        names = ("features", "classes", "weights", "intercepts", "examples")
        return Regression(
            order=self.order,
            vocabulary_size=prepared.tokenizer.vocabulary_size,
            words=words_of(prepared.tokenizer),
            **{name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in names},
        )


@dataclass(frozen=True)
class Regression:
    """A fitted model.

    Attributes:
        order: tokens of the longest n-grams.
        vocabulary_size: ids are below it.
        words: [W] ids that a text can hold.
        features: [F] int64, sorted; see `histories_of`.
        classes: [C] int64, ids that have weights.
        weights: [F + 1, C], those of no feature last: zeros.
        intercepts: [C].
        examples: [] int64, how many it has seen.
    """

    order: int
    vocabulary_size: int
    words: np.ndarray
    features: np.ndarray
    classes: np.ndarray
    weights: np.ndarray
    intercepts: np.ndarray
    examples: np.ndarray

    def nats(self, sequences: Sequences) -> np.ndarray:
        """[T] float64, -log p of each token given those before it in its sequence."""
        histories = histories_of(sequences, self.vocabulary_size, self.order)
        nats = np.empty(len(histories))
        for begin in range(0, len(histories), _CHUNK):
            part = slice(begin, begin + _CHUNK)
            tokens = sequences.tokens[part]
            nats[part] = -np.log(self.distributions(histories[part])[np.arange(len(tokens)), tokens])
        return nats

    def distributions(self, histories: np.ndarray) -> np.ndarray:
        """[N, V] float64, of the token after each of some histories [N, order - 1]."""
        logits = self.intercepts + self.weights[columns(histories, self.features)].sum(1, dtype=np.float64)
        odds = np.exp(logits - logits.max(1, keepdims=True))
        mixed = np.zeros((len(histories), self.vocabulary_size))
        mixed[:, self.classes] = odds / odds.sum(1, keepdims=True) * self.examples
        mixed[:, self.words] += 1
        probabilities: np.ndarray = mixed / (self.examples + len(self.words))
        return probabilities


def histories_of(sequences: Sequences, vocabulary_size: int, order: int) -> np.ndarray:
    """[T, order - 1] int64, the last 1, 2, ... tokens before each as one number; -1 where there are not so many.

    The digits of the number, to the base of the vocabulary and one more, are the ids and one more, so that no two
    histories share a number, whatever their lengths.
    """
    base, count = vocabulary_size + 1, len(sequences.tokens)
    numbers = np.full((count, order - 1), -1, dtype=np.int64)
    so_far = np.zeros(count, dtype=np.int64)
    for length in range(1, order):
        here = np.flatnonzero(sequences.depth >= length)
        so_far[here] += (sequences.tokens[here - length] + 1) * base ** (length - 1)
        numbers[here, length - 1] = so_far[here]
    return numbers


def columns(histories: np.ndarray, features: np.ndarray) -> np.ndarray:
    """The place of each history among the features [F]; F where it is none of them."""
    place = np.minimum(np.searchsorted(features, histories), len(features) - 1)
    return np.where(features[place] == histories, place, len(features))


def incidence(histories: np.ndarray, features: np.ndarray) -> Any:
    """[N, F] sparse matrix of ones: which features hold."""
    from scipy.sparse import csr_matrix

    found = columns(histories, features)
    held = found < len(features)
    ends = np.concatenate([[0], held.sum(1).cumsum()])
    return csr_matrix((np.ones(int(held.sum()), np.float32), found[held], ends), shape=(len(histories), len(features)))
