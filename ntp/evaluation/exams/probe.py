"""Probe: what a linear classifier can tell of a text from frozen hidden states.

One classifier is learned for each set of labels, on some of the held-out documents, and tested on the others. Labels
come from Python source, or from files. No label has been seen in pre-training, and no document of the test in either.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ntp.config.errors import ConfigError
from ntp.config.types import PositiveInt
from ntp.data.corpora import Corpus
from ntp.evaluation.candidate import Candidate
from ntp.evaluation.examinee import Examinee
from ntp.evaluation.exams.exam import Document, Exam, ExamRecipe
from ntp.evaluation.exams.labels import LABEL_SETS, code_labels
from ntp.evaluation.exams.linear_probe import check_installed
from ntp.evaluation.exams.probing import LabelSet, gather_sets, probe_set
from ntp.evaluation.exams.python_tokens import PYTHON
from ntp.evaluation.exams.records import read_records, records_digest, text_field
from ntp.evaluation.exams.result import Measure, Result
from ntp.evaluation.exams.snippets import pieces

_KEY = "evaluation.exams.probe"
_PACKAGE = "source_package"
_LEAST = 3
"""Training documents in which a label must occur: what is seen in one alone may be the document and not the label."""


class Probe(ExamRecipe):
    """Learns labels of tokens or texts from frozen hidden states, with a linear classifier.

    The state of a token is that of the position that has read its last byte, so that all tokenizers are asked about the
    same bytes. The state of a text is the mean over its tokens. Texts are read by the run's own attention: a model that
    reads in both directions knows what stands behind, a causal one does not.

    Args:
        documents: how many held-out documents are used; None for all.
        windows: of each document, at most; whole lines of code that do not overlap.
        window_bytes: most bytes of a window.
        labels: of each set of labels and each window, at most.
        test: part of the documents that are tested on; the others are learned from.
        layer: behind which layer the states are taken, counted from 1; None for those that the model's head reads.
        controls: whether the untrained model and a control task are probed too, which takes three times as long.
        path: JSON lines with ``text`` and ``label`` instead of held-out text: file, directory or pattern. Each line is
            a document, of which the mean state is probed.
    """

    def __init__(
        self,
        documents: PositiveInt | None = 512,
        windows: PositiveInt = 8,
        window_bytes: PositiveInt = 512,
        labels: PositiveInt = 32,
        test: Annotated[float, Field(gt=0, lt=1)] = 0.3,
        layer: PositiveInt | None = None,
        controls: bool = True,
        path: str | None = None,
    ) -> None:
        super().__init__(documents)
        check_installed(_KEY)
        self.windows, self.window_bytes, self.labels, self.test = windows, window_bytes, labels, test
        self.layer, self.controls, self.path = layer, controls, path
        self._origins: Mapping[str, str] = {}

    def arguments(self) -> Mapping[str, Any]:
        """With files their content."""
        shared = {"documents": self.documents, "test": self.test, "layer": self.layer}
        if self.path is not None:
            return shared | {"records": records_digest(self.path, f"{_KEY}.path")}
        windows = {"windows": self.windows, "window_bytes": self.window_bytes, "labels": self.labels}
        return shared | windows | {"sets": list(LABEL_SETS), "python": PYTHON}

    def wanted(self) -> str:
        """Python."""
        return f"none is Python that parses, and {_KEY}.path is null"

    def meet(self, corpus: Corpus) -> None:
        """Which package each file is from is a label, too."""
        self._origins = {} if self.path is not None else corpus.origins()

    def make(self, name: str, texts: Iterable[str], source: Mapping[str, Any] | None = None) -> Exam:
        """Documents are put into training and test by the order of their hashes, and labels that are rare left out."""
        exam = super().make(name, texts, source) if self.path is None else self._of_records(name, self.path)
        documents = sorted({item["document"] for item in exam.items})
        testing = set(documents[len(documents) - math.ceil(self.test * len(documents)) :])
        items = [{**item, "part": "test" if item["document"] in testing else "train"} for item in exam.items]
        learnable = list(_learnable(items))
        if not learnable:
            raise ConfigError(f"evaluation.exams.{name}", self._too_few(items))
        items = learnable
        used = {item["document"] for item in items}
        return Exam(name, {key: one for key, one in exam.documents.items() if key in used}, items, exam.source)

    def _too_few(self, items: Sequence[Mapping[str, Any]]) -> str:
        """Why nothing can be learned, of the labels that come nearest, and what to do."""
        parts = {part: {item["document"] for item in items if item["part"] == part} for part in ("train", "test")}
        trained, tested = _occurrences(items)
        groups: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
        for group, value in {**trained, **tested}:
            groups[group].append((len(trained[group, value]), len(tested[group, value]), value))
        nearest, counts = max(groups.items(), key=lambda group: sorted(group[1])[-2:])
        found = ", ".join(f"'{value}' in {one} and {other} of them" for one, other, value in sorted(counts)[:-4:-1])
        if self.path is None:
            here, advice = "among the held-out documents", "hold out more (data.validation_fraction) or take more data"
        else:
            here, advice = f"in {self.path}", "add texts of each label"
        return (
            "there are too few documents with labels. It takes two labels that are each in at least "
            f"{_LEAST} documents to learn from, and one of the two in a document to test on. There are "
            f"{len(parts['train'])} to learn from and {len(parts['test'])} to test on {here} (test={self.test}); "
            f"the set that comes nearest, {nearest}, has {found}. So {advice}"
        )

    def items(self, document: Document, rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        """Of each window, and each set of labels, some labels and where they stand in the document."""
        text = document.content.decode("utf-8", "surrogatepass")
        sets = code_labels(text)
        windows = pieces(text, self.window_bytes) if sets else []
        for index in np.sort(rng.permutation(len(windows))[: self.windows]):
            begin, end = windows[index]
            own = {"document": document.sha256, "window": [begin, end], "layer": self.layer}
            for name in LABEL_SETS:
                inside = [one for one in sets[name] if begin <= one.begin and one.end <= end]
                chosen = np.sort(rng.permutation(len(inside))[: self.labels])
                if len(chosen):
                    places = [[inside[one].begin, inside[one].end, inside[one].value] for one in chosen]
                    yield own | {"group": name, "labels": places}
            if document.sha256 in self._origins:
                yield own | {"group": _PACKAGE, "label": self._origins[document.sha256]}

    def _of_records(self, name: str, path: str) -> Exam:
        key = f"{_KEY}.path"
        documents: dict[str, Document] = {}
        items: dict[str, Mapping[str, Any]] = {}
        for where, record in read_records(path, key):
            document = Document.of(text_field(record, "text", where, key))
            label = record.get("label")
            if not isinstance(label, str | int) or label == "":
                problem = "no 'label'" if label in (None, "") else "a 'label' that is neither text nor a whole number"
                raise ConfigError(key, f"{where} has {problem}")
            item = {
                "document": document.sha256,
                "window": [0, len(document.content)],
                "layer": self.layer,
                "group": "label",
                "label": str(label),
            }
            if items.setdefault(document.sha256, item) != item:
                before = items[document.sha256]["label"]
                raise ConfigError(key, f"{where}: the text has the label '{label}', and had '{before}' before")
            documents[document.sha256] = document
        if not items:
            raise ConfigError(key, f"{path} holds no text")
        chosen = sorted(items)[: self.documents]
        source = {"path": path, "recipe": self.identity()}
        return Exam(name, {one: documents[one] for one in chosen}, [items[one] for one in chosen], source)

    def grade(self, exam: Exam, examinee: Examinee) -> Result:
        """Accuracy of each probe, and their mean."""
        if not isinstance(examinee, Candidate):
            return Result.cannot(exam.name, exam.digest, "it has no hidden states")
        key = f"evaluation.exams.{exam.name}"
        try:
            sets = gather_sets(exam, examinee, self.layer)
        except ValueError as error:
            raise ConfigError(f"{key}.layer", str(error)) from error
        if not all(one.finite for one in sets.values()):
            return Result.cannot(exam.name, exam.digest, "its hidden states are not finite")
        untrained: Mapping[str, LabelSet] = {}
        if self.controls and examinee.untrained is not None:
            before = gather_sets(exam, replace(examinee, model=examinee.untrained()), self.layer)
            untrained = {name: one for name, one in before.items() if one.finite}
        documents: list[str] = []
        groups: list[str] = []
        right: list[float] = []
        asked: list[float] = []
        tables = []
        for name, one in sets.items():
            predicted, table = probe_set(one, untrained.get(name), self.controls)
            tables.append({"labels": name, **table})
            correct_Q = predicted == one.test.labels
            for document in dict.fromkeys(one.test.owners.tolist()):
                own = one.test.owners == document
                documents.append(document)
                groups.append(name)
                right.append(float(np.count_nonzero(correct_Q & own)))
                asked.append(float(np.count_nonzero(own)))
        attention = examinee.objective.reader.attention
        causal = attention == "causal"
        return Result(
            exam.name,
            exam.digest,
            "none",
            ("left",) if causal else ("left", "right"),
            _measures(np.array(right), np.array(asked), np.array(groups)),
            documents,
            groups,
            notes=tuple(_notes(tables, attention, self.layer)),
            details={"sets": tables, "attention": attention, "layer": self.layer},
        )


def _learnable(items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The items without labels that are too rare, and without sets in which then all are alike."""
    trained, tested = _occurrences(items)
    enough = {pair for pair, documents in trained.items() if len(documents) >= _LEAST}
    kept: dict[str, set[str]] = defaultdict(set)
    for group, value in enough:
        kept[group].add(value)
    usable = {group for group, values in kept.items() if len(values) > 1 and any(tested[group, one] for one in values)}
    for item in items:
        if item["group"] not in usable:
            continue
        if "label" in item:
            if item["label"] in kept[item["group"]]:
                yield item
        elif places := [place for place in item["labels"] if place[2] in kept[item["group"]]]:
            yield {**item, "labels": places}


Occurrences = Mapping[tuple[str, str], set[str]]
"""The documents in which a label of a set occurs."""


def _occurrences(items: Iterable[Mapping[str, Any]]) -> tuple[Occurrences, Occurrences]:
    """In the documents that are learned from, and in those that are tested on."""
    found: dict[str, dict[tuple[str, str], set[str]]] = {part: defaultdict(set) for part in ("train", "test")}
    for item in items:
        for value in _values(item):
            found[item["part"]][item["group"], value].add(item["document"])
    return found["train"], found["test"]


def _values(item: Mapping[str, Any]) -> Iterable[str]:
    return [item["label"]] if "label" in item else {place[2] for place in item["labels"]}


def _measures(right_Q: np.ndarray, asked_Q: np.ndarray, groups_Q: np.ndarray) -> dict[str, Measure]:
    """The mean over the sets of labels, and then each set by its name where there are several."""
    names = list(dict.fromkeys(groups_Q.tolist()))
    share_Q = np.zeros(len(groups_Q))
    for name in names:
        share_Q[groups_Q == name] = 1 / asked_Q[groups_Q == name].sum()
    measures = {"accuracy": Measure(right_Q * share_Q, asked_Q * share_Q, better="higher")}
    for name in names if len(names) > 1 else ():
        own_Q = groups_Q == name
        right, asked = (np.where(own_Q, counts_Q, 0.0) for counts_Q in (right_Q, asked_Q))
        measures[f"{name}/accuracy"] = Measure(right, asked, better="higher")
    return measures


def _notes(tables: list[dict[str, Any]], attention: str, layer: int | None) -> Iterator[str]:
    reads = {
        "causal": "causally",
        "full": "in both directions",
        "prefix": "in both directions, as a prefix",
    }.get(attention, "as its training rows show their clean text")
    where = "of the last norm" if layer is None else f"behind layer {layer}"
    yield f"the text is read {reads}; states are those {where}"
    for table in tables:
        compared = [f"the majority class {table['majority']:.4f}"]
        if "untrained" in table:
            compared.append(f"the untrained model {table['untrained']:.4f}")
        if "selectivity" in table:
            compared.append(f"selectivity {table['selectivity']:.4f}")
        yield f"{table['labels'].replace('_', ' ')}: {table['accuracy']:.4f}; {', '.join(compared)}"
