"""A linear classifier on frozen hidden states: what can be told of a text from them without learning much more."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from ntp.evaluation.extras import require

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Inverse strengths of the regularisation (scikit-learn's ``C``) to choose from."""

_USUAL = 1e-2
_ITERATIONS = 300
_LEAST_VARIANCE = 1e-3  # added to that of each direction, in variances of a channel


@dataclass(frozen=True)
class Fitted:
    """What a probe says.

    Attributes:
        predicted: [Q] what it takes each test position for.
        strength: inverse strength of the regularisation that was chosen.
        converged: whether the optimum was reached.
    """

    predicted: np.ndarray
    strength: float
    converged: bool


def check_installed(key: str) -> None:
    """Whether scikit-learn is there.

    Args:
        key: of the config, for messages.

    Raises:
        ConfigError: it is not, or can't be imported.
    """
    require("sklearn.linear_model", package="scikit-learn", extra="exams", key=key)


def fit_probe(train_ND: np.ndarray, labels_N: np.ndarray, owners_N: np.ndarray, test_QD: np.ndarray) -> Fitted:
    """Multinomial logistic regression on standardised and whitened features (Alain & Bengio 2016, arXiv 1610.01644).

    A linear map of the states changes nothing that a linear classifier could say, but much of what one says whose
    weights are penalised: states of a short run vary a hundred million times more in one direction than in another, and
    what stands in the narrow ones would be out of reach. So all directions are given about the same variance (those
    that have next to none excepted), and models are compared by what their states hold and not by how they lie.

    The regularisation is chosen on the last quarter of the training documents, in the order of their hashes; of
    strengths that do equally well the strongest. Then all of them are learned from. Deterministic.

    Args:
        train_ND, test_QD: hidden states.
        labels_N: of the training positions; at least two different ones.
        owners_N: the document of each.
    """
    train_ND, test_QD = _whitened(train_ND, test_QD)
    documents = np.unique(owners_N)
    held_N = np.isin(owners_N, documents[len(documents) - len(documents) // 4 :])
    strength = _USUAL
    if held_N.any() and len(np.unique(labels_N[~held_N])) > 1:
        parts = train_ND[~held_N], labels_N[~held_N], train_ND[held_N]
        predictions = [_fit(*parts[:2], one, parts[2])[0] for one in STRENGTHS]
        right = [np.count_nonzero(one == labels_N[held_N]) for one in predictions]
        strength = STRENGTHS[int(np.argmax(right))]
    predicted, converged = _fit(train_ND, labels_N, strength, test_QD)
    return Fitted(predicted, strength, converged)


def _whitened(train_ND: np.ndarray, test_QD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both by the mean and the covariance of the first, in float64."""
    mean_D, scale_D = train_ND.mean(0, dtype=np.float64), train_ND.std(0, dtype=np.float64)
    scale_D[scale_D < 1e-12] = 1.0  # a channel that says nothing
    train_ND, test_QD = ((states - mean_D) / scale_D for states in (train_ND, test_QD))
    variance_D, direction_DD = np.linalg.eigh(train_ND.T @ train_ND / len(train_ND))
    map_DD = direction_DD / np.sqrt(np.maximum(variance_D, 0) + _LEAST_VARIANCE)
    return train_ND @ map_DD, test_QD @ map_DD


def _fit(train_ND: np.ndarray, labels_N: np.ndarray, strength: float, test_QD: np.ndarray) -> tuple[np.ndarray, bool]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=_ITERATIONS, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train_ND, labels_N)
    return model.predict(test_QD), bool(model.n_iter_.max() < _ITERATIONS)
