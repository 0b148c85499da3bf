"""A run takes exams, and keeps what came of them in its directory."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from lightning.pytorch.utilities.memory import garbage_collection_cuda

from ntp.config.instantiate import build
from ntp.config.schema import DataConfig
from ntp.data.corpora import Corpus
from ntp.data.prepare import prepared_training_text
from ntp.evaluation.candidate import Candidate
from ntp.evaluation.exams.exam import Exam, ExamRecipe, prepare_exam
from ntp.evaluation.exams.result import Result, StoredResult
from ntp.models.base import LanguageModel
from ntp.training.load import Run
from ntp.training.memory import is_out_of_memory
from ntp.training.setup import build_model

_FEW_ROWS = 16


@dataclass(frozen=True)
class Company:
    """The processes that take exams together, one after the other the same ones.

    Attributes:
        process, processes: which of how many.
        gather: one object of every process, in their order.
    """

    process: int = 0
    processes: int = 1
    gather: Callable[[Any], list[Any]] = lambda value: [value]


ALONE = Company()


def prepare_exams(
    nodes: Mapping[str, dict[str, Any]], data: DataConfig, allow: list[str]
) -> dict[str, tuple[ExamRecipe, Exam]]:
    """Recipes and exams by name.

    Args:
        nodes: of the config, by the names of the exams.
        data: whose held-out documents are asked about.
        allow: packages that the user trusts.

    Raises:
        ConfigError: there is nothing to ask, or the text can't be had.
    """
    if not nodes:
        return {}
    corpus: Corpus = build(data.corpus, "data.corpus", base=Corpus, allow=allow)
    # All are built before any text is read: what is wrong with the last one shows at once.
    recipes: dict[str, ExamRecipe] = {
        name: build(node, f"evaluation.exams.{name}", base=ExamRecipe, allow=allow) for name, node in nodes.items()
    }
    return {name: (recipe, prepare_exam(name, recipe, corpus, data)) for name, recipe in recipes.items()}


def candidate_of(
    run: Run,
    *,
    draws: int,
    precision: str,
    device: torch.device,
    batch_size: int | None = None,
    seed: int | None = None,
    company: Company = ALONE,
) -> Candidate:
    """A trained run as whoever takes exams.

    Args:
        run: with its weights, on the device.
        draws: estimates of an answer that is drawn.
        precision: arithmetic, by Lightning's names.
        device: where.
        batch_size: rows at a time; None for those of a micro-batch, or a few if training has not said how many.
        seed: of the draws; None for the run's.
        company: the processes that share the work.
    """
    data = run.config.data
    if precision == "bf16-true":
        run.model.to(torch.bfloat16)
        run.objective.to(torch.bfloat16)
    return Candidate(
        run.model,
        run.objective,
        run.tokenizer,
        isolated=data.documents == "isolate",
        room=data.sequence_length,
        draws=draws,
        seed=run.config.seed if seed is None else seed,
        # Not a share of the batch: what comes out should not depend on the number of processes.
        batch_size=batch_size or data.micro_batch_size or min(data.batch_size, _FEW_ROWS),
        precision=precision,
        device=device,
        process=company.process,
        processes=company.processes,
        gather=company.gather,
        training_text=prepared_training_text(data.cache_dir, run.data_digest),
        untrained=partial(_untrained, run, device),
    )


def _untrained(run: Run, device: torch.device) -> LanguageModel:
    """The model that training began with: its weights are a function of the seed."""
    config = run.config
    allow = [*config.allow_targets, str(config.model["_target_"]).partition(".")[0]]  # it has been built once
    model = build_model(config.model, run.tokenizer.vocabulary_size, config.seed, config.data.sequence_length, allow)
    return model.to(device).eval()


def take(exams: Mapping[str, tuple[ExamRecipe, Exam]], candidate: Candidate, step: int) -> Iterator[StoredResult]:
    """Take one exam after the other.

    Args:
        exams: recipes and exams by name.
        candidate: whoever takes them.
        step: optimizer steps that the weights have seen.

    Yields:
        What came of each, as soon as it is known.
    """
    circumstances = {
        "precision": candidate.precision,
        "draws": candidate.draws,
        "seed": candidate.seed,
        "room": candidate.room,
    }
    for recipe, exam in exams.values():
        started = time.perf_counter()
        result = _graded(recipe, exam, candidate)
        yield StoredResult(result, step, circumstances, time.perf_counter() - started)


def _graded(recipe: ExamRecipe, exam: Exam, candidate: Candidate) -> Result:
    """An exam, with fewer rows at a time where memory is short. Several devices would have to agree on that."""
    while True:
        try:
            return recipe.grade(exam, candidate)
        except Exception as error:
            if not is_out_of_memory(error) or candidate.processes > 1:
                raise
        garbage_collection_cuda()
        if candidate.batch_size == 1:
            return Result.cannot(exam.name, exam.digest, "it needs more memory than there is")
        candidate = replace(candidate, batch_size=candidate.batch_size // 2)
