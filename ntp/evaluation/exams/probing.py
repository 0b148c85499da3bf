"""From the items of a probe to hidden states and labels, and from these to accuracies and controls.

Legend: N training positions, Q test positions, D width.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ntp.evaluation.candidate import Candidate
from ntp.evaluation.exams.exam import Exam
from ntp.evaluation.exams.linear_probe import fit_probe
from ntp.evaluation.hidden_states import Reading, hidden_states


@dataclass(frozen=True, eq=False)
class Labelled:
    """Positions with labels.

    Attributes:
        states: [N, D] float32.
        labels: [N] str.
        owners: [N] str, the document of each.
        words: [N] str, the text that is labelled; empty where that is a whole document.
    """

    states: np.ndarray
    labels: np.ndarray
    owners: np.ndarray
    words: np.ndarray


@dataclass(frozen=True, eq=False)
class LabelSet:
    """What is learned from, and what is tested on."""

    train: Labelled
    test: Labelled

    @property
    def finite(self) -> bool:
        """Whether all states are numbers; those of a model that has diverged are not."""
        return all(bool(np.isfinite(one.states).all()) for one in (self.train, self.test))


def gather_sets(exam: Exam, candidate: Candidate, layer: int | None) -> dict[str, LabelSet]:
    """The hidden states of all labels, by the names of their sets.

    Raises:
        ValueError: the model has no such layer.
    """
    ends: dict[tuple[str, int, int], set[int]] = defaultdict(set)
    for item in exam.items:
        ends[_window(item)].update(end for _, end, _ in item.get("labels", ()))
    pooled = {_window(item) for item in exam.items if "label" in item}
    readings: list[Reading] = []
    place: dict[tuple[tuple[str, int, int], bool], int] = {}  # of a window, and whether its mean is asked for
    for window in sorted(ends):
        text, begin = exam.text(*window), window[1]
        if ends[window]:
            place[window, False] = len(readings)
            readings.append(Reading(text, np.array(sorted(ends[window])) - begin))
        if window in pooled:
            place[window, True] = len(readings)
            readings.append(Reading(text, None))
    states = hidden_states(candidate, readings, layer)

    found: dict[tuple[str, str], list[tuple[np.ndarray, str, str, str]]] = defaultdict(list)
    for item in exam.items:
        window, own = _window(item), found[item["group"], item["part"]]
        if "label" in item:
            own.append((states[place[window, True]][0], item["label"], item["document"], ""))
            continue
        known = np.array(sorted(ends[window]))
        for begin, end, value in item["labels"]:
            state = states[place[window, False]][np.searchsorted(known, end)]
            own.append((state, value, item["document"], exam.text(item["document"], begin, end)))
    names = dict.fromkeys(item["group"] for item in exam.items)
    return {name: LabelSet(_stack(found[name, "train"]), _stack(found[name, "test"])) for name in names}


def _window(item: Mapping[str, Any]) -> tuple[str, int, int]:
    begin, end = item["window"]
    return item["document"], begin, end


def _stack(found: list[tuple[np.ndarray, str, str, str]]) -> Labelled:
    states, labels, owners, words = zip(*found, strict=True)
    return Labelled(np.stack(states), np.array(labels), np.array(owners), np.array(words))


def probe_set(own: LabelSet, untrained: LabelSet | None, controls: bool) -> tuple[np.ndarray, dict[str, Any]]:
    """Learn a set of labels.

    Args:
        own: with the states of the trained model.
        untrained: with those of the model before training; None to leave it out.
        controls: whether a control task is learned too.

    Returns:
        What each test position is taken for, [Q], and a table with the accuracy and what it is to be compared with:
        that of the commonest label of the training positions, of the untrained model, and of the control task (Hewitt
        & Liang 2019, arXiv 1909.03368, section 2): each word has a random label, always the same one, drawn from the
        distribution of the real ones. The difference to the latter is the probe's selectivity: a probe that could learn
        anything learns both.
    """
    train, test = own.train, own.test
    fitted = fit_probe(train.states, train.labels, train.owners, test.states)
    counts = Counter(train.labels.tolist())
    common = min(counts, key=lambda label: (-counts[label], label))
    accuracy = _accuracy(fitted.predicted, test.labels)
    classes = sorted(counts)
    table: dict[str, Any] = {
        "classes": classes,
        "train": len(train.labels),
        "test": len(test.labels),
        "train_documents": len(np.unique(train.owners)),
        "test_documents": len(np.unique(test.owners)),
        "accuracy": accuracy,
        "majority": _accuracy(np.full(len(test.labels), common), test.labels),
        "strength": fitted.strength,
        "converged": fitted.converged,
        # Rows are what it is, columns what it is taken for.
        "confusion": [
            [int(np.count_nonzero((test.labels == real) & (fitted.predicted == said))) for said in classes]
            for real in classes
        ],
    }
    if untrained is not None:
        before = fit_probe(untrained.train.states, train.labels, train.owners, untrained.test.states)
        table["untrained"] = _accuracy(before.predicted, test.labels)
    if controls and all(train.words):
        shares = np.array([counts[label] for label in classes]) / len(train.labels)
        drawn = {word: classes[_draw(word, shares)] for word in {*train.words.tolist(), *test.words.tolist()}}
        random = np.array([drawn[word] for word in train.words.tolist()])
        if len(np.unique(random)) > 1:
            control = fit_probe(train.states, random, train.owners, test.states)
            wanted = np.array([drawn[word] for word in test.words.tolist()])
            table["control"] = _accuracy(control.predicted, wanted)
            table["selectivity"] = accuracy - table["control"]
    return fitted.predicted, table


def _draw(word: str, shares: np.ndarray) -> int:
    """A label for a word: always the same one."""
    place = int.from_bytes(hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64
    return min(int(np.searchsorted(np.cumsum(shares), place, side="right")), len(shares) - 1)


def _accuracy(predicted: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.mean(predicted == wanted))
