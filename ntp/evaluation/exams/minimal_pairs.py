"""Minimal pairs: which of two texts that differ in one thing does a model find likelier?

Pairs come from held-out Python source, right against mutated (`ntp.evaluation.exams.mutations`), or from files in the
format of BLiMP (Warstadt et al. 2020, arXiv 1912.00582).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ntp.config.errors import ConfigError
from ntp.config.types import PositiveInt
from ntp.evaluation.examinee import Examinee, Scores, TextQuestion
from ntp.evaluation.exams.exam import Document, Exam, ExamRecipe
from ntp.evaluation.exams.mutations import PHENOMENA
from ntp.evaluation.exams.names import bound_names
from ntp.evaluation.exams.programs import Program, edited
from ntp.evaluation.exams.python_tokens import PYTHON, parse
from ntp.evaluation.exams.records import read_records, records_digest, text_field
from ntp.evaluation.exams.result import Measure, Result
from ntp.evaluation.exams.snippets import snippets
from ntp.objectives.question import QuestionKind, Way

_KEY = "evaluation.exams.minimal_pairs.path"
_OF_A_DOCUMENT = 8  # pairs of a group
_LOOKED_AT = 400  # snippets of a document
_CRITERIA = {
    "parses": "only the right one parses",
    "compiles": "both parse, only the right one compiles",
    "bound": "both compile, only in the right one is the name bound",
}


class MinimalPairs(ExamRecipe):
    """Asks which of two whole texts is likelier, the right one or one that differs from it in one thing.

    The two are compared by their likelihoods as whole texts, from their beginning to their end, as BLiMP does by its
    ``simple_LM_method``. Nothing is divided by lengths, so that what makes a text longer counts against it; measured
    beside it is which text has fewer nats per byte (the mean of Lau et al. 2017, 10.1111/cogs.12414, section 3.3, by
    bytes and not by words).

    Args:
        documents: how many held-out documents pairs are made of; None for all.
        pairs: of each group, at most; they come from as many documents as can be. None for all that there are.
        window_bytes: most bytes of a right text of Python.
        path: JSON lines in BLiMP's format, instead of held-out text: file, directory or pattern. Of each paradigm
            (``UID``) there are at most ``pairs``, and a phenomenon (``linguistics_term``) is a group.
    """

    def __init__(
        self,
        documents: PositiveInt | None = 256,
        pairs: PositiveInt | None = 32,
        window_bytes: PositiveInt = 256,
        path: str | None = None,
    ) -> None:
        super().__init__(documents)
        self.pairs, self.window_bytes, self.path = pairs, window_bytes, path

    def arguments(self) -> Mapping[str, Any]:
        """With files their content."""
        if self.path is not None:
            return {"pairs": self.pairs, "records": records_digest(self.path, _KEY)}
        return {
            "documents": self.documents,
            "pairs": self.pairs,
            "window_bytes": self.window_bytes,
            "phenomena": [one.name for one in PHENOMENA],
            "python": PYTHON,
        }

    def wanted(self) -> str:
        """Python."""
        return "none is Python that parses, and evaluation.exams.minimal_pairs.path is null"

    def make(self, name: str, texts: Iterable[str], source: Mapping[str, Any] | None = None) -> Exam:
        """Of the documents, or of the files."""
        if self.path is not None:
            return self._of_records(name, source)
        exam = super().make(name, texts, source)
        grouped: dict[str, list[Mapping[str, Any]]] = {one.name: [] for one in PHENOMENA}
        for item in sorted(exam.items, key=lambda item: item["rank"]):
            if self.pairs is None or len(grouped[item["group"]]) < self.pairs:
                grouped[item["group"]].append({key: value for key, value in item.items() if key != "rank"})
        items = [item for group in grouped.values() for item in group]
        used = {item["document"] for item in items}
        return Exam(name, {key: one for key, one in exam.documents.items() if key in used}, items, exam.source)

    def items(self, document: Document, rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        """Each snippet makes at most one pair, of the rarest kind that it can."""
        text = document.content.decode("utf-8", "surrogatepass")
        tree = parse(text)
        if tree is None:
            return
        around = bound_names(tree)
        found = list(snippets(text, tree, self.window_bytes))
        made = {one.name: 0 for one in PHENOMENA}
        for index in rng.permutation(len(found))[:_LOOKED_AT]:
            program = Program.of(found[index].text, around)
            for kind in PHENOMENA if program is not None else ():
                if made[kind.name] == _OF_A_DOCUMENT or program is None:
                    continue
                if (edit := kind.mutate(program, rng)) is not None:
                    yield {
                        "document": document.sha256,
                        "window": [found[index].begin, found[index].end],
                        "indentation": found[index].indentation,
                        "edit": list(edit),
                        "group": kind.name,
                        "holds": _CRITERIA[kind.criterion],
                        "rank": made[kind.name],
                    }
                    made[kind.name] += 1
                    break

    def _of_records(self, name: str, source: Mapping[str, Any] | None) -> Exam:
        assert self.path is not None
        documents: dict[str, Document] = {}
        paradigms: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for where, record in read_records(self.path, _KEY):
            good, bad = (text_field(record, field, where, _KEY) for field in ("sentence_good", "sentence_bad"))
            if good == bad:
                raise ConfigError(_KEY, f"{where}: sentence_good and sentence_bad are equal")
            document = Document.of(good)
            documents[document.sha256] = document
            uid = str(record.get("UID") or record.get("linguistics_term") or "pairs")
            paradigms[uid].append(
                {
                    "document": document.sha256,
                    "bad": bad,
                    "group": str(record.get("linguistics_term") or uid),
                    "paradigm": uid,
                    "field": str(record.get("field") or ""),
                    "pair": str(record.get("pairID", "")),
                }
            )
        if not paradigms:
            raise ConfigError(_KEY, f"{self.path} holds no pair")
        items: list[Mapping[str, Any]] = []
        for uid in sorted(paradigms):
            items += sorted(paradigms[uid], key=lambda item: (item["document"], item["bad"]))[: self.pairs]
        used = {item["document"] for item in items}
        about = {"path": self.path, "recipe": self.identity()} | {
            key: value for key, value in (source or {}).items() if key not in ("corpus", "recipe", "held_out")
        }
        return Exam(name, {key: documents[key] for key in sorted(used)}, items, about)

    def grade(self, exam: Exam, examinee: Examinee) -> Result:
        """How often the right text is the likelier one."""
        kinds: tuple[QuestionKind, ...] = ("continue", "any_order")
        found = next(((kind, way) for kind in kinds if (way := examinee.way(kind)) is not None), None)
        if found is None:
            return Result.cannot(exam.name, exam.digest, "it has no likelihood of whole texts")
        kind, way = found
        texts = [pair_texts(exam, item) for item in exam.items]
        asked = [TextQuestion(kind, "", good) for good, _ in texts]
        right = examinee.score(asked)
        wrong = examinee.score(
            [TextQuestion(kind, "", bad, like=one) for (_, bad), one in zip(texts, asked, strict=True)]
        )
        answered = ~np.isnan(right.nats) & ~np.isnan(wrong.nats)
        if not answered.any():
            return Result.cannot(exam.name, exam.digest, "every text is longer than a row of the model")
        wins = np.where(answered, right.nats < wrong.nats, False).astype(float)
        ties = np.where(answered, right.nats == wrong.nats, False).astype(float)
        groups = [str(item["group"]) for item in exam.items]
        sizes = np.array([[len(text.encode("utf-8", "surrogatepass")) for text in pair] for pair in texts])
        denser = np.where(answered, right.nats / sizes[:, 0] < wrong.nats / sizes[:, 1], False).astype(float)
        measures = {
            "accuracy": Measure(wins, answered.astype(float), better="higher"),
            "accuracy_ties_half": Measure(wins + ties / 2, answered.astype(float), better="higher"),
            "accuracy_per_byte": Measure(denser, answered.astype(float), better="higher"),
        }
        names = list(dict.fromkeys(groups))
        for name in names if len(names) > 1 else ():
            own = answered & (np.array(groups) == name)
            measures[f"{name}/accuracy"] = Measure(np.where(own, wins, 0.0), own.astype(float), better="higher")
        return Result(
            exam.name,
            exam.digest,
            "none",
            way.given,
            measures,
            [str(item["document"]) for item in exam.items],
            groups,
            notes=tuple(_notes(kind, way, right, wrong, answered, sizes)),
            caveats=tuple(_caveats(way, right, wrong, answered)),
            details=_details(exam, way, kind, texts, right, wrong, sizes),
        )


def pair_texts(exam: Exam, item: Mapping[str, Any]) -> tuple[str, str]:
    """The right text of a pair and the wrong one."""
    if "bad" in item:
        return exam.documents[item["document"]].content.decode(), str(item["bad"])
    begin, end = item["window"]
    lines = exam.text(item["document"], begin, end).split("\n")
    stripped = "\n".join(line[item["indentation"] :] if line.strip() else "" for line in lines)
    first, last, replacement = item["edit"]
    return stripped, edited(stripped, (first, last, replacement))


def _notes(
    kind: QuestionKind, way: Way, right: Scores, wrong: Scores, answered: np.ndarray, sizes_Q2: np.ndarray
) -> Iterator[str]:
    shorter = _shorter(sizes_Q2)[answered].mean()
    yield f"whoever finds the shorter text likelier is right in {shorter:.1%} of the pairs; per byte length counts less"
    asked = kind.replace("_", " ")
    if way.likelihood == "exact":
        yield f"decided by exact likelihoods ({asked})"
    elif way.likelihood == "bound":
        yield f"decided by bounds ({asked}): a bound is compared with a bound, of as many draws"
    else:
        yield f"decided by what looks like a likelihood and is none ({asked}, {way.likelihood})"
    if ties := int(np.count_nonzero(right.nats[answered] == wrong.nats[answered])):
        yield f"{ties} ties, which are no right answers; with half of each it is accuracy ties half"


def _caveats(way: Way, right: Scores, wrong: Scores, answered: np.ndarray) -> Iterator[str]:
    if lost := int(np.count_nonzero(answered & ~(np.isfinite(right.nats) & np.isfinite(wrong.nats)))):
        yield f"of {lost} of {len(answered)} pairs a likelihood is not finite"
    if way.drawn:
        errors = np.sqrt(right.variances + wrong.variances)
        close = int(np.count_nonzero(answered & (np.abs(_by_how_much(right, wrong)) < 2 * errors)))
        yield f"{close} of {int(answered.sum())} pairs differ by less than 2 standard errors of the draws"
    if missing := int(np.count_nonzero(~answered)):
        yield f"{missing} of {len(answered)} pairs are longer than a row and are left out"
    if shortened := int(np.count_nonzero((right.shortened | wrong.shortened) & answered)):
        yield f"{shortened} of {len(answered)} pairs were read piece by piece"


def _by_how_much(right: Scores, wrong: Scores) -> np.ndarray:
    """[Q] nats by which the right text is likelier; 0 for a tie, also of two that are infinite."""
    tie = right.nats == wrong.nats
    return np.subtract(wrong.nats, right.nats, out=np.zeros(len(tie)), where=~tie)


def _shorter(sizes_Q2: np.ndarray) -> np.ndarray:
    """[Q], 1 where the right text is shorter than the wrong one, half where they are as long."""
    return np.where(sizes_Q2[:, 0] == sizes_Q2[:, 1], 0.5, sizes_Q2[:, 0] < sizes_Q2[:, 1])


def _details(
    exam: Exam,
    way: Way,
    kind: QuestionKind,
    texts: Sequence[tuple[str, str]],
    right: Scores,
    wrong: Scores,
    sizes_Q2: np.ndarray,
) -> dict[str, Any]:
    """Tables of groups and of paradigms, and one pair of each group."""
    answered = ~np.isnan(right.nats) & ~np.isnan(wrong.nats)
    bits = np.where(answered, _by_how_much(right, wrong), 0.0) / np.log(2)
    shorter = _shorter(sizes_Q2)

    def table(field: str) -> list[dict[str, Any]]:
        values = np.array([str(item.get(field, "")) for item in exam.items])
        rows = []
        for value in dict.fromkeys(values.tolist()):
            own = (values == value) & answered
            if value and own.any():
                rows.append(
                    {
                        field: value,
                        "pairs": int(own.sum()),
                        "accuracy": float((bits[own] > 0).mean()),
                        "shorter_is_right": float(shorter[own].mean()),
                        "bits_by_which_right_is_likelier": float(bits[own].mean()),
                    }
                )
        return rows

    holds = {str(item["group"]): item["holds"] for item in exam.items if "holds" in item}
    first = {str(item["group"]): index for index, item in reversed(list(enumerate(exam.items))) if answered[index]}
    return {
        "asked": kind,
        "likelihood": way.likelihood,
        "groups": [row | ({"holds": holds[row["group"]]} if row["group"] in holds else {}) for row in table("group")],
        "paradigms": table("paradigm"),
        "fields": table("field"),
        "samples": [
            {"group": group, "right": texts[index][0], "wrong": texts[index][1], "bits": float(bits[index])}
            for group, index in first.items()
        ],
    }
