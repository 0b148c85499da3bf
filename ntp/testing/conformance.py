"""Run the checks: all, some, or one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ntp.config.errors import ConfigError
from ntp.config.nearest import suggestion
from ntp.data.example import Example, Row
from ntp.data.tokenizers import Tokenizer
from ntp.models.base import LanguageModel
from ntp.objectives.base import Objective
from ntp.testing.bench import SEQUENCE_LENGTH, Bench
from ntp.testing.errors import ConformanceError, NotApplicable
from ntp.testing.registry import Check, all_checks


@dataclass
class Report:
    """How the checks went.

    Attributes:
        passed: names of those that hold.
        not_applicable: those that say nothing of this objective, and why.
    """

    passed: list[str] = field(default_factory=list)
    not_applicable: dict[str, str] = field(default_factory=dict)


def check_objective(
    objective: Objective | Callable[[], Objective],
    *,
    tokenizer: Tokenizer | None = None,
    corpus: Sequence[str] | None = None,
    model: LanguageModel | Callable[[int], LanguageModel] | None = None,
    sequence_length: int = SEQUENCE_LENGTH,
    quick: bool = False,
    checks: Iterable[str] | None = None,
) -> Report:
    """Prove that an objective keeps the rules that ntp relies on.

    Args:
        objective: an objective as its constructor leaves it, not bound; it is copied, never changed. Or its class, or
            any function without arguments that makes one.
        tokenizer: of the rows; None for a small byte-level BPE.
        corpus: documents to make rows of; None for a small text with characters of several bytes, and documents
            of one token.
        model: one to compute losses with, or a function that makes one for a size of vocabulary; None for a tiny
            Transformer, and a tiny encoder-decoder too for an objective that it can serve.
        sequence_length: positions of a row.
        quick: only the checks that are cheap enough to run before a training run.
        checks: names of those to run; None for all.

    Returns:
        What passed, and what does not apply.

    Raises:
        ConformanceError: names the invariant, where it does not hold, and what to look for.
        ConfigError: the objective refuses this tokenizer or length of rows.
        ValueError: there is no check of that name.
    """
    __tracebackhide__ = True
    bench = Bench(
        objective, tokenizer=tokenizer, corpus=corpus, model=model, sequence_length=sequence_length, quick=quick
    )
    return run_checks(bench, iter_checks(quick=quick, names=checks))


def run_checks(bench: Bench, checks: Iterable[Check]) -> Report:
    """Run checks on one bench; see `check_objective`."""
    __tracebackhide__ = True
    report, failures = Report(), []
    for check in checks:
        try:
            check.run(bench)
        except NotApplicable as reason:
            report.not_applicable[check.name] = str(reason)
        except ConfigError:
            raise
        except ConformanceError as error:
            failures.append(error)
        else:
            report.passed.append(check.name)
    if failures:
        first, *first.others = failures
        raise first
    return report


def iter_checks(*, quick: bool = False, names: Iterable[str] | None = None) -> Iterator[Check]:
    """The checks one by one; each is called with an objective and the options of `check_objective`.

    Args:
        quick: only those that are cheap enough to run before a training run.
        names: only these.

    Raises:
        ValueError: there is no check of that name.
    """
    every = {check.name: check for check in all_checks()}
    wanted = list(every) if names is None else list(names)
    for name in wanted:
        if name not in every:
            raise ValueError(f"there is no check '{name}'{suggestion(name, every)}")
    for check in every.values():
        if check.name in wanted and (check.quick or not quick):
            yield check


def check_names(*, quick: bool = False) -> list[str]:
    """Names of the checks, in the order in which they run."""
    return [check.name for check in iter_checks(quick=quick)]


def examples_of(
    objective: Objective | Callable[[], Objective], *, rows: int = 24, sequence_length: int = SEQUENCE_LENGTH
) -> list[tuple[Row, Example]]:
    """Rows of the kit's text, and what an objective makes of them, for tests of its own.

    Two objectives that take rows of the same length get the same rows with the same draws.

    Args:
        objective: see `check_objective`.
        rows: about how many; they are spread over the text, with documents isolated and concatenated, and drawn for
            training and for evaluation.
        sequence_length: positions of a row.
    """
    bench = Bench(objective, sequence_length=sequence_length)
    with bench.seeded():
        samples = bench.mixed_samples(rows)
        return [(one.row, bench.subject.objective.corrupt(one.row, one.draw)) for one in samples]
