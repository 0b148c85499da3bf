"""Programming problems with tests, as JSON lines in the formats of HumanEval and HumanEval-infilling."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ntp.config.errors import ConfigError
from ntp.evaluation.exams.code_metrics import parses
from ntp.evaluation.exams.records import read_records, text_field

_STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")


@dataclass(frozen=True)
class Problem:
    """A function to be written.

    Attributes:
        task_id: its name.
        prompt: text that stands before.
        suffix: text that stands behind; None where the function is to be continued.
        canonical_solution: what stands between in truth.
        test: a program that defines ``check(candidate)``.
        entry_point: name of the function.
    """

    task_id: str
    prompt: str
    suffix: str | None
    canonical_solution: str
    test: str
    entry_point: str

    def program(self, text: str) -> str:
        """With a text where its solution belongs."""
        return self.prompt + text + (self.suffix or "")

    def ended(self, text: str) -> str:
        """What was written, to the end of the function: a continuation stops before the next ``class``, ``def``, ``#``,
        ``if`` or ``print`` at the margin (Chen et al. 2021, arXiv 2107.03374, section 3.2)."""
        if self.suffix is not None:
            return text
        return text[: min((place for stop in _STOPS if (place := text.find(stop)) >= 0), default=len(text))]

    def to_json(self) -> str:
        """On one line."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, content: str | bytes) -> Problem:
        """What `to_json` made."""
        return cls(**json.loads(content))


def read_problems(path: str, key: str) -> Iterator[Problem]:
    """The problems of some files, in their order.

    Args:
        path: a file, a directory or a pattern; also compressed.
        key: of the config, for messages.

    Raises:
        ConfigError: a line is no problem, or two have one name; names file and line.
    """
    seen: dict[str, str] = {}
    for where, record in read_records(path, key):
        problem = _problem(record, where, key)
        if problem.task_id in seen:
            raise ConfigError(key, f"{where}: the task_id '{problem.task_id}' is that of {seen[problem.task_id]}, too")
        seen[problem.task_id] = where
        yield problem


def _problem(record: Mapping[str, Any], where: str, key: str) -> Problem:
    def text(name: str) -> str:
        return text_field(record, name, where, key, blank=True)

    problem = Problem(
        text("task_id"),
        text("prompt"),
        None if record.get("suffix") is None else text("suffix"),
        text("canonical_solution"),
        text("test"),
        text("entry_point"),
    )
    if not problem.entry_point.isidentifier():
        raise ConfigError(key, f"{where}: 'entry_point' is no name of a function")
    if not parses(problem.program(problem.canonical_solution)):
        raise ConfigError(key, f"{where}: prompt, canonical_solution and suffix together are no Python")
    if not parses(problem.test) or not any(
        isinstance(one, ast.FunctionDef) and one.name == "check" for one in ast.parse(problem.test).body
    ):
        raise ConfigError(key, f"{where}: 'test' defines no function check")
    return problem
