"""Which component of a mixture answers when the trained model is asked, or takes an exam."""

from collections.abc import Mapping, Sequence

import numpy as np

from ntp.config.errors import ConfigError
from ntp.config.nearest import suggestion
from ntp.objectives.base import Inference, Objective
from ntp.objectives.query import Query
from ntp.objectives.question import QuestionKind

_ABILITY: Mapping[QuestionKind, Inference] = {"continue": "continue", "infill": "infill", "cloze": "infill"}
"""What a component should be able to do at inference that is to answer questions of a kind."""


class Respondents:
    """The components of a mixture that can continue, and those that can infill, in the order in which they are asked.

    Args:
        components: by name.
        preferred: their names, those that are asked first in front.
        answers: which one is to ``continue`` and which to ``infill``, before all others.

    Attributes:
        forms: ways to ask for an infilling: names of components, and ``<name>/<form>`` for forms of their own; the own
            forms alone where only one component can.

    Raises:
        ConfigError: a component in ``answers`` is none, or cannot do what it is to do.
    """

    def __init__(
        self, components: Mapping[str, Objective], preferred: Sequence[str], answers: Mapping[Inference, str]
    ) -> None:
        self._components, self._preferred = dict(components), tuple(preferred)
        self._able: dict[Inference, list[str]] = {}
        inferences: tuple[Inference, ...] = ("continue", "infill")
        for inference in inferences:
            able = [name for name in preferred if inference in components[name].inference]
            first = answers.get(inference)
            if first is not None and first not in able:
                can = f"cannot {inference}" if first in components else "is no component"
                raise ConfigError(f"objective.answers.{inference}", f"'{first}' {can}{suggestion(first, able)}")
            self._able[inference] = able if first is None else [first, *(name for name in able if name != first)]
        self.forms = self._forms(self._able["infill"])

    def _forms(self, able: list[str]) -> tuple[str, ...]:
        if len(able) == 1:
            return self._components[able[0]].forms
        own = {name: [f"{name}/{form}" for form in self._components[name].forms] for name in able}
        return tuple(form for name in able for form in (name, *own[name]))

    def answering(self, kind: QuestionKind) -> Objective | None:
        """Which component answers questions of a kind, or which component of it; None if no one does.

        The first that would be asked at inference, and then the first of the others that can: a component that only
        writes on answers what stands in a gap too, though it sees but one side.
        """
        ability = _ABILITY.get(kind)
        able = self._able[ability] if ability else []
        for name in dict.fromkeys([*able, *self._preferred]):
            part = self._components[name].respondent(kind)
            if kind in part.ways:
                return part
        return None

    def query(self, prefix: np.ndarray, suffix: np.ndarray | None, length: int, form: str | None) -> Query:
        """Ask the first that can, or the one that ``form`` names; see `Objective.query`.

        Raises:
            ConfigError: no such component can do it.
        """
        inference: Inference = "continue" if suffix is None else "infill"
        able = self._able[inference]
        if form is None:
            return self._components[able[0]].query(prefix, suffix, length)
        name, _, own = form.partition("/")
        if name in able:
            return self._components[name].query(prefix, suffix, length, own or None)
        if len(able) == 1 and form in self._components[able[0]].forms:
            return self._components[able[0]].query(prefix, suffix, length, form)
        raise ConfigError("form", f"'{form}' is no component that can {inference}{suggestion(form, able)}")
