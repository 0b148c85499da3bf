"""Baselines as rows beside the arms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ntp.baselines.fitting import baselines_for
from ntp.comparison.collect import ComparedRun
from ntp.comparison.matrix import Row
from ntp.config.errors import ConfigError
from ntp.evaluation.exams.exam import Exam, ExamRecipe
from ntp.training.setup import prepare_data
from ntp.training.stored_config import typed_config


def baseline_rows(
    runs: Sequence[ComparedRun],
    nodes: Mapping[str, dict[str, Any]],
    names: Sequence[str],
    exams: Mapping[str, tuple[ExamRecipe, Exam]],
    allow: Sequence[str],
    say: Callable[[str], None],
) -> tuple[list[Row], list[str]]:
    """Let baselines learn from the text of the runs, and take the same exams.

    Args:
        runs: all of one text and one tokenizer, or none can stand beside them.
        nodes: of the config group ``baseline``, by name.
        names: of the exams of the comparison.
        exams: recipes and exams by name, of those that can be made here.
        allow: packages whose classes may be built.
        say: shows a line of progress.

    Returns:
        The rows, and a line for each baseline that can't be had.
    """
    if not nodes or not names:
        return [], []
    if not exams:
        return [], ["no baselines: none of the exams can be made here, for others to take"]
    texts = {(run.tokenizer, run.summary.get("data_digest")) for run in runs}
    if len(texts) > 1:
        return [], ["no baselines: the runs differ in data or tokenizer, and a baseline learns from one text"]
    gaps = {name: "the exam of the runs can't be made here, for others to take" for name in names if name not in exams}
    rows, notes = [], []
    try:
        data = typed_config(runs[0].config, "runs", list(allow), "data").data
        prepared = prepare_data(data, list(allow))
    except ConfigError as error:
        return [], [f"no baselines: {error.problem}"]
    for name, node in nodes.items():
        try:
            baselines_for(data, {name: node}, {}, list(allow), prepared=prepared, say=say)
            once = _Once(f"{name} takes exams", say)
            (found,) = baselines_for(data, {name: node}, exams, list(allow), prepared=prepared, say=once)
        except ConfigError as error:
            notes.append(f"no baseline {name}: {error.problem}")
            continue
        results = {one.result.exam: one for one in found.results}
        costs = {"bytes": float(found.bytes), "seconds": found.seconds, "parameters": float(found.parameters)}
        rows.append(Row(found.name, True, [results], (), gaps, costs, "; ".join([found.description, *found.notes])))
    return rows, notes


class _Once:
    """One line in place of one for each exam, most of which a baseline can only refuse."""

    def __init__(self, line: str, say: Callable[[str], None]) -> None:
        self.line, self.say, self.said = line, say, False

    def __call__(self, line: str) -> None:
        if not self.said:
            self.say(self.line)
        self.said = True
