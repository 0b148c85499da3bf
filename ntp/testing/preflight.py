"""The quick checks on a run's own tokenizer and text, before its first step."""

from __future__ import annotations

from functools import partial

from ntp.config.errors import ConfigError
from ntp.testing.bench import Bench
from ntp.testing.conformance import iter_checks, run_checks
from ntp.testing.corpus import MemoryStore
from ntp.testing.errors import ConformanceError
from ntp.training.setup import Setup, build_objective

LONGEST_ROW = 128
ROWS = 64


def preflight(setup: Setup) -> tuple[str, str]:
    """Check the objective of a run on a few rows of its text, with a tiny model.

    Rows are shorter than the run's where those are long, if the objective lets them.

    Returns:
        A name and a value for the plan: how many checks passed.

    Raises:
        ConfigError: one did not; says which rule does not hold, and where.
    """
    length = setup.config.data.sequence_length
    try:
        bench = _bench(setup, min(length, LONGEST_ROW))
    except ConfigError:
        bench = _bench(setup, length)
    try:
        report = run_checks(bench, iter_checks(quick=True))
    except ConformanceError as error:
        more = f" ({len(error.others)} more: {', '.join(one.check for one in error.others)})" if error.others else ""
        raise ConfigError("objective", f"{' '.join(error.line.split())}{more}") from error
    others = f", {len(report.not_applicable)} say nothing of it" if report.not_applicable else ""
    return "checks", f"{len(report.passed)} of the objective passed{others}"


def _bench(setup: Setup, sequence_length: int) -> Bench:
    config, tokenizer = setup.config, setup.prepared.tokenizer
    make = partial(build_objective, config.objective, config.allow_targets)
    length = ROWS * max(sequence_length, setup.objective.raw_length(sequence_length))
    beginning = MemoryStore.beginning(setup.prepared.train, length, tokenizer.end_of_text)
    bench = Bench(make, tokenizer=tokenizer, corpus=beginning, sequence_length=sequence_length, quick=True)
    bench.subject  # noqa: B018 - binding it may be refused
    return bench
