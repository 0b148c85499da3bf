"""Baselines take exams, each once: models and answers are kept beside the prepared data.

A baseline has a directory of its own, ``<cache_dir>/baselines/<digest>``; the digest is that of the data and of the
baseline's arguments:

| file | content |
|---|---|
| ``baseline.json`` | name, recipe, digest of the data, what fitting has cost, and the sizes of the model's files |
| ``model/*.npy`` | the fitted model |
| ``exams/*.json`` | what came of each exam, as in a run directory |
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ntp.baselines.baseline import Baseline, TrainingText
from ntp.config.errors import ConfigError
from ntp.config.instantiate import build
from ntp.config.schema import DataConfig
from ntp.data.cache import cached
from ntp.data.corpora import Corpus
from ntp.data.prepare import Prepared
from ntp.data.split import divide
from ntp.data.store import DamagedStore
from ntp.evaluation.examinee import Examinee, Scores, TextQuestion
from ntp.evaluation.exams.exam import Exam, ExamRecipe
from ntp.evaluation.exams.result import RESULTS, StoredResult, read_results
from ntp.evaluation.keeping import keep
from ntp.objectives.question import QuestionKind, Way
from ntp.training.setup import prepare_data

FORMAT = 1
"""Changes whenever what is kept would be read in another way."""

FOLDER, ABOUT, MODEL = "baselines", "baseline.json", "model"


@dataclass(frozen=True)
class BaselineResults:
    """A baseline, and what came of the exams that it has taken.

    Attributes:
        name: by which tables call it.
        results: of the exams.
        seconds: that fitting took.
        description: one line.
        data: digest of the data that it was fitted to and examined on; see `ntp.data.prepare.Prepared`.
        bytes: UTF-8 bytes of text that it has read to be fitted.
        parameters: numbers that its model keeps.
        notes: what a user should know: one line each.
        path: its directory.
    """

    name: str
    results: list[StoredResult]
    seconds: float
    description: str
    data: str
    bytes: int
    parameters: int
    notes: tuple[str, ...]
    path: Path

    @classmethod
    def read(cls, path: Path) -> BaselineResults:
        """What a directory holds.

        Raises:
            OSError, ValueError, KeyError, TypeError: it holds no baseline, or a damaged one.
        """
        about = json.loads((path / ABOUT).read_text(encoding="utf-8"))
        return cls(
            name=str(about["name"]),
            results=read_results(path),
            seconds=float(about["seconds"]),
            description=str(about["fit"]["description"]),
            data=str(about["data"]),
            bytes=int(about["fit"]["bytes"]),
            parameters=int(about["fit"]["parameters"]),
            notes=tuple(about["fit"]["notes"]),
            path=path,
        )

    def save(self, directory: Path) -> None:
        """Copy what is known of it, but for the model, to another directory.

        Raises:
            OSError: the directory can't be written.
        """
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.path / ABOUT, directory)
        for one in self.results:
            one.write(directory)


def baselines_for(
    data: DataConfig,
    nodes: Mapping[str, dict[str, Any]],
    exams: Mapping[str, tuple[ExamRecipe, Exam]],
    allow: list[str],
    *,
    prepared: Prepared | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[BaselineResults]:
    """Let baselines take exams; those that have taken them before are not asked again.

    Args:
        data: whose training part they learn from: that of the runs that they stand beside.
        nodes: of the config group ``baseline``, by name.
        exams: recipes and exams by name; see `ntp.evaluation.taking.prepare_exams`.
        allow: packages that the user trusts.
        prepared: the data, where it is at hand.
        say: hears of what takes a while, one line each.

    Returns:
        In the order of ``nodes``.

    Raises:
        ConfigError: the data can't be had, a baseline can't be fitted to it, or the cache can't be written.
    """
    recipes: dict[str, Baseline] = {
        name: build(node, f"baseline.{name}", base=Baseline, allow=allow) for name, node in nodes.items()
    }
    ready = prepare_data(data, allow) if prepared is None else prepared

    def documents() -> Iterable[str]:
        corpus: Corpus = build(data.corpus, "data.corpus", base=Corpus, allow=allow)
        return divide(corpus, data.validation, data.validation_fraction).train

    text = TrainingText(ready, documents)
    return [
        _examined(_fitted(name, one, text, data.cache_dir, say), one, ready, exams, say)
        for name, one in recipes.items()
    ]


def _examined(
    fitted: BaselineResults,
    recipe: Baseline,
    prepared: Prepared,
    exams: Mapping[str, tuple[ExamRecipe, Exam]],
    say: Callable[[str], None],
) -> BaselineResults:
    """With the results of these exams, in their order."""
    kept = {(one.result.exam, one.result.digest): one for one in fitted.results}
    results: list[StoredResult] = []
    examinee = None
    for exam_recipe, exam in exams.values():
        circumstances = {"exam": _identity(exam_recipe)}
        known = kept.get((exam.name, exam.digest))
        if known is None or known.identity != circumstances:
            started = time.perf_counter()
            if examinee is None:
                examinee = recipe.open(fitted.path / MODEL, prepared)
            answering = partial(say, f"{fitted.name} takes {exam.name}")
            result = exam_recipe.grade(exam, _Announced(examinee, answering))
            known = StoredResult(result, 0, circumstances, time.perf_counter() - started)
            keep(known, fitted.path, "data.cache_dir")
        results.append(known)
    return replace(fitted, results=results)


class _Announced(Examinee):
    """Somebody who is heard of when the first question is answered, and not where the exam is refused.

    Args:
        examinee: who answers.
        say: is called once.
    """

    def __init__(self, examinee: Examinee, say: Callable[[], None]) -> None:
        self._examinee, self._say = examinee, say
        self._said = False

    def way(self, kind: QuestionKind) -> Way | None:
        """That of who answers."""
        return self._examinee.way(kind)

    def score(self, questions: Sequence[TextQuestion]) -> Scores:
        """Those of who answers."""
        if not self._said:
            self._said = True
            self._say()
        return self._examinee.score(questions)


def _fitted(
    name: str, recipe: Baseline, text: TrainingText, cache_dir: str, say: Callable[[str], None]
) -> BaselineResults:
    """From the cache, or fitted now."""
    shape = {"format": FORMAT, "data": text.prepared.digest, "baseline": dict(recipe.identity())}
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()

    def make(folder: Path) -> None:
        model = folder / MODEL
        model.mkdir()
        try:
            recipe.check(text)
            say(f"{name} is fitted")
            started = time.perf_counter()
            fit = recipe.fit(text, model)
        except ConfigError as error:
            own = error.key in vars(recipe)
            raise type(error)(f"baseline.{name}.{error.key}" if own else error.key, error.problem) from error
        about = {
            "name": name,
            **shape,
            "seconds": time.perf_counter() - started,
            "fit": asdict(fit),
            "files": _sizes(model),
        }
        (folder / RESULTS).mkdir()
        (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")

    def load(folder: Path) -> BaselineResults:
        if _sizes(folder / MODEL) != json.loads((folder / ABOUT).read_text(encoding="utf-8"))["files"]:
            raise DamagedStore("the files of its model are not those that were written")
        return BaselineResults.read(folder)

    fitted, damage = cached(Path(cache_dir).expanduser() / FOLDER, digest, make, load)
    return replace(fitted, name=name, notes=fitted.notes + ((damage,) if damage else ()))


def _sizes(folder: Path) -> dict[str, int]:
    return {one.name: one.stat().st_size for one in sorted(folder.iterdir())}


def _identity(recipe: ExamRecipe) -> dict[str, Any]:
    """Everything that decides what a recipe makes of an exam, also what only matters to grading."""
    plain = {"grading": recipe.grading, **_by_arguments(recipe)}
    known: dict[str, Any] = json.loads(json.dumps(plain, sort_keys=True, default=_told))
    return known


def _told(value: Any) -> Any:
    """As JSON, and equal for equal arguments: a plain object's own words for itself are its address."""
    return _by_arguments(value) if type(value).__repr__ is object.__repr__ else repr(value)


def _by_arguments(value: Any) -> dict[str, Any]:
    arguments = {name: one for name, one in vars(value).items() if not name.startswith("_")}
    return {"class": f"{type(value).__module__}.{type(value).__qualname__}", **arguments}
