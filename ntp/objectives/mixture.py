"""Any objectives, mixed row by row, with weights that may change over the run.

Legend: B rows, L positions of a row, N targets, C components.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence, Set
from copy import copy
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ntp.config.errors import ConfigError
from ntp.data.collate import restart
from ntp.data.example import Attention, Batch, Draw, Example, Row
from ntp.objectives.base import Context, Inference, LossTerms, Objective, Scorer, TargetNll, target_nll
from ntp.objectives.query import Query
from ntp.objectives.question import Likelihood, QuestionKind
from ntp.objectives.respondents import Respondents
from ntp.objectives.weights import Weight, Weights

Extra = TypeVar("Extra")

_FROM_STRONG_TO_WEAK: tuple[Likelihood, ...] = ("exact", "bound", "pseudo", "none")


class Mixture(Objective):
    """Each row is made and scored by one of several objectives, drawn by weight; the weights may change over the run.

    Which objective a row gets does not depend on its place in the batch, so that a component that stratifies its draws
    over the global batch still sees all strata. What a component draws does not depend on the choice. In evaluation
    the weights are their means over the whole run: every component that ever plays is measured, on fixed rows.

    Sums and counts of the components add up and are divided once. So the loss is the mean over targets, not over rows:
    a component whose rows have more targets weighs more, as in the batches of T5 and UL2. One forward serves the rows
    of all components whose loss is the default one.

    A component that reads fewer tokens than the one that reads most gets a random part of the row.

    Args:
        components: the objectives, by the names under which their metrics are reported.
        weights: of each component, by name; None for equal ones. Knots are joined by straight lines, before the first
            and behind the last the weight stays as it is, and of two knots at one place the later one holds from there
            on.
        answers: which component `query` asks to ``continue`` and which to ``infill``, unless a form names another. What
            is not said here goes to the one that weighs most at the end of the run among those that can; of equal ones
            to the one that weighs most over the whole run. Questions of exams go to the same components.

    Attributes:
        component_names: of the components, in the order of `Example.component`.
        mean_weights: [C] float64, shares of the rows of the whole run; they sum to one.
    """

    def __init__(
        self,
        components: dict[str, Objective],
        weights: dict[str, Weight] | None = None,
        answers: dict[Inference, str] | None = None,
    ) -> None:
        super().__init__()
        _check_components(components)
        self.component_names = tuple(components)
        self.components = nn.ModuleList(components.values())
        self._weights = Weights(self.component_names, weights)
        self.mean_weights = self._weights.mean()

        parts = self.parts
        self.attention = _cover({part.attention for part in parts})
        self.likelihood = max((part.likelihood for part in parts), key=_FROM_STRONG_TO_WEAK.index)
        self.inference = frozenset().union(*(part.inference for part in parts))
        self.lookahead = max(part.lookahead for part in parts)
        self.shows_some_targets = any(part.shows_some_targets for part in parts)
        last_C = self._weights.at(1.0)
        heaviest = sorted(range(len(parts)), key=lambda index: (-last_C[index], -self.mean_weights[index], index))
        preferred = [self.component_names[index] for index in heaviest]
        self._reader = heaviest[0]
        self._respondents = Respondents(components, preferred, answers or {})
        self.forms = self._respondents.forms
        self._shares_forward = [_has_default_loss(part) for part in parts]
        together = {part.attention for part, shares in zip(parts, self._shares_forward, strict=True) if shares}
        self._shared_attention: Attention | None = _cover(together) if together else None
        self._lengths: list[int] = []

    @property
    def parts(self) -> list[Objective]:
        """The components, in the order of `Example.component`."""
        return list(self.components)  # type: ignore[arg-type]

    # -- what the run must offer --

    @property
    def attentions(self) -> Set[Attention]:
        """Those of all components, and the one that serves rows of different ones in one forward."""
        together = set() if self._shared_attention is None else {self._shared_attention}
        return together.union(*(part.attentions for part in self.parts))

    def special_tokens(self) -> tuple[str, ...]:
        """Those of all components."""
        return tuple(dict.fromkeys(token for part in self.parts for token in part.special_tokens()))

    def raw_length(self, sequence_length: int) -> int:
        """Enough for each component to read, and to look ahead as far as any does."""
        return max(part.raw_length(sequence_length) - part.lookahead for part in self.parts) + self.lookahead

    def bind(self, context: Context) -> None:
        """Bind all components."""
        for name, part in zip(self.component_names, self.parts, strict=True):
            try:
                with context.named(name):
                    part.bind(context)
            except ConfigError as error:
                if error.key.split(".")[0] != "objective":
                    raise
                key = error.key.removeprefix("objective")
                raise ConfigError(f"objective.components.{name}{key}", error.problem) from error
        self._lengths = [part.raw_length(context.sequence_length) for part in self.parts]

    # -- making rows --

    def corrupt(self, row: Row, draw: Draw) -> Example:
        """Let one of the components make the example."""
        rng = draw.rng
        index = self._choose(rng, draw)
        part = self.parts[index]
        row = self._window(row, index, rng)
        example = part.corrupt(row, draw.child(index))
        order, read_bytes = example.order, example.read_bytes
        if order is None and self.attention in ("prefix", "ordered"):
            if part.attention == "causal":
                segments = np.zeros(len(example), dtype=np.int64) if example.segments is None else example.segments
                order = restart(segments)
            elif part.attention == "full":
                order = np.zeros(len(example), dtype=np.int64)
        if read_bytes is None:
            read_bytes = int(row.bytes[: max(0, len(row) - part.lookahead)].sum())
        return replace(
            example,
            order=order,
            read_bytes=read_bytes,
            extra={f"{self.component_names[index]}/{key}": array for key, array in (example.extra or {}).items()},
            component=(index, *example.component),
        )

    def _choose(self, rng: np.random.Generator, draw: Draw) -> int:
        if draw.evaluation:
            weights_C = self.mean_weights
        elif self._weights.constant or draw.progress is not None:
            weights_C = self._weights.at(draw.progress or 0.0)
        else:
            raise ConfigError(
                "budget.minutes",
                "the weights of the mixture change with the part of the run that is spent, which a clock does not tell "
                "beforehand; set budget.minutes=null and choose steps, tokens, bytes or flops",
            )
        # Not stratified over the batch: then a component's own strata would always fall to the same places.
        ends_C = np.cumsum(weights_C)
        return int(np.searchsorted(ends_C, rng.random() * ends_C[-1], side="right"))

    def _window(self, row: Row, index: int, rng: np.random.Generator) -> Row:
        """As many tokens as the component takes, from anywhere in what the row is to read."""
        length, lookahead = self._lengths[index], self.parts[index].lookahead
        spare = (len(row) - self.lookahead) - (length - lookahead)
        begin = int(rng.integers(spare + 1)) if spare > 0 else 0
        return row.part(begin, min(begin + length, len(row)))

    def restore(self, example: Example) -> np.ndarray | None:
        """What the component says; None for one that gets only a part of the row, for the part is not known here."""
        index, inner = self._inner(example)
        return self.parts[index].restore(inner) if self._gets_all(index) else None

    def promises(self, row: Row, example: Example) -> dict[str, tuple[float, float]]:
        """What the component promises, if it gets the whole row."""
        index, inner = self._inner(example)
        if not self._gets_all(index):
            return {}
        promises = self.parts[index].promises(row.part(0, min(self._lengths[index], len(row))), inner)
        return {f"{self.component_names[index]}/{key}": pair for key, pair in promises.items()}

    def _inner(self, example: Example) -> tuple[int, Example]:
        """Which component made an example, and what it made."""
        index, *path = example.component
        extra = _own(example.extra or {}, self.component_names[index])
        return index, replace(example, extra=extra, component=tuple(path))

    def _gets_all(self, index: int) -> bool:
        read_C = [length - part.lookahead for length, part in zip(self._lengths, self.parts, strict=True)]
        return read_C[index] == max(read_C)

    # -- scoring them --

    def loss(self, model: Scorer, batch: Batch) -> LossTerms:
        """The losses of all components, added up. Where one of them has no likelihood, the whole has none."""
        rows_C = self._rows(batch)
        terms: list[LossTerms] = []
        metrics = self._shares(batch)
        shared = sorted(
            row for rows, shares in zip(rows_C, self._shares_forward, strict=True) if shares for row in rows
        )
        if shared:
            together = self._together(batch, shared)
            nll = target_nll(model, together)
            terms.append(LossTerms(nll.weighted.sum(), together.count, together.target_bytes))
            metrics |= self._split(together, nll)
        unused: list[Objective] = []
        for index, (part, rows) in enumerate(zip(self.parts, rows_C, strict=True)):
            if self._shares_forward[index] or not rows:
                unused.append(part)
            else:
                own = part.loss(model, self._select(batch, index, rows))
                terms.append(own)
                metrics |= self._report(index, own)
        total = torch.stack([one.sum for one in terms]).sum() + _zero(unused)
        nats = None
        if any(one.nats is not None for one in terms):
            nats = torch.stack([one.sum if one.nats is None else one.nats for one in terms]).sum()
        nbytes = 0 if self.likelihood == "none" else sum(one.bytes for one in terms)
        return LossTerms(total, sum(one.count for one in terms), nbytes, metrics, nats)

    def metrics(self, batch: Batch, nll: TargetNll) -> dict[str, tuple[Tensor, int | Tensor]]:
        """For a mixture around this one, of which this one is a component with the default loss."""
        return self._shares(batch) | self._split(batch, nll)

    def _rows(self, batch: Batch) -> list[list[int]]:
        """Rows of each component."""
        rows_C: list[list[int]] = [[] for _ in self.component_names]
        for row, tally in enumerate(batch.tallies):
            rows_C[tally.component[0]].append(row)
        return rows_C

    def _shares(self, batch: Batch) -> dict[str, tuple[Tensor, int | Tensor]]:
        """The part of the rows that each component has."""
        rows_C = zip(self.component_names, self._rows(batch), strict=True)
        return {f"{name}/row_share": (torch.tensor(len(rows)), batch.rows) for name, rows in rows_C}

    def _together(self, batch: Batch, rows: list[int]) -> Batch:
        """The rows of components with the default loss, for the cheapest kernel that obeys the rule for all of them."""
        kinds = {self.parts[batch.tallies[row].component[0]].attention for row in rows}
        attention = kinds.pop() if len(kinds) == 1 else self._shared_attention
        assert attention is not None
        if len(rows) < batch.rows:
            return batch.select(rows, attention)
        together = copy(batch)
        together.attention = attention
        if attention in ("causal", "full"):
            together.order = None
        if attention != "ordered":
            together.private = None
        return together

    def _split(self, batch: Batch, nll: TargetNll) -> dict[str, tuple[Tensor, int | Tensor]]:
        """What each component says of its part of a common forward."""
        owner_B = torch.tensor([tally.component[0] for tally in batch.tallies])
        owner_B = owner_B.to(nll.nll.device, non_blocking=True)
        length = batch.tokens.shape[1]
        owner_N = owner_B.repeat_interleave(length) if nll.index is None else owner_B[nll.index // length]
        nats_N = nll.weighted.detach()
        nats_C = nats_N.new_zeros(len(self.component_names)).index_add(0, owner_N, nats_N)
        metrics: dict[str, tuple[Tensor, int | Tensor]] = {}
        for index, (part, rows) in enumerate(zip(self.parts, self._rows(batch), strict=True)):
            if not rows:
                continue
            tallies = [batch.tallies[row] for row in rows]
            terms = LossTerms(
                nats_C[index], sum(tally.count for tally in tallies), sum(tally.target_bytes for tally in tallies)
            )
            if type(part).metrics is not Objective.metrics:
                own = self._select(batch, index, rows)
                terms.metrics = part.metrics(own, _select_nll(nll, batch, rows, own))
            metrics |= self._report(index, terms)
        return metrics

    def _report(self, index: int, terms: LossTerms) -> dict[str, tuple[Tensor, int | Tensor]]:
        name = self.component_names[index]
        metrics = {f"{name}/loss": (terms.sum.detach(), terms.count)}
        if self.parts[index].likelihood != "none":
            nats = terms.sum if terms.nats is None else terms.nats
            metrics[f"{name}/bits_per_byte"] = (nats.detach() / math.log(2), terms.bytes)
        return metrics | {f"{name}/{key}": pair for key, pair in terms.metrics.items()}

    def _select(self, batch: Batch, index: int, rows: list[int]) -> Batch:
        """The rows of one component, as it would see them without a mixture."""
        own = copy(batch)
        own.extra = _own(batch.extra, self.component_names[index])
        own = own.select(rows, self.parts[index].attention)
        own.tallies = tuple(replace(tally, component=tally.component[1:]) for tally in own.tallies)
        return own

    # -- what it costs --

    def forward_flops(self, model: Scorer, length: int, targets: int) -> int:
        """The mean over the components, by the rows that they have over the whole run."""
        flops_C = [part.forward_flops(model, length, targets) for part in self.parts]
        return round(float(np.dot(self.mean_weights, flops_C)))

    def training_flops(self, model: Scorer, batch: Batch) -> int:
        """The sum over the components, each for the rows that it has in this micro-batch."""
        total = 0
        for part, rows in zip(self.parts, self._rows(batch), strict=True):
            if rows:
                # Only shapes and tallies are read: a view saves the copies of `Batch.select`.
                view = copy(batch)
                view.tokens = batch.tokens[: len(rows)]
                view.tallies = tuple(
                    replace(batch.tallies[row], component=batch.tallies[row].component[1:]) for row in rows
                )
                total += part.training_flops(model, view)
        return total

    # -- asking --

    @property
    def reader(self) -> Objective:
        """That of the component that weighs most at the end of the run."""
        return self.parts[self._reader].reader

    def query(self, prefix: np.ndarray, suffix: np.ndarray | None, length: int, form: str | None = None) -> Query:
        """Ask one of the components.

        Args:
            prefix, suffix, length: see `Objective.query`.
            form: the name of a component, or ``<name>/<form>`` for a form of its own. Where only one component can do
                what is asked, its own forms are enough.

        Raises:
            ConfigError: no such component can do it.
        """
        return self._respondents.query(prefix, suffix, length, form)

    def respondent(self, kind: QuestionKind) -> Objective:
        """The component that answers; this mixture, which answers nothing by itself, where none can."""
        return self._respondents.answering(kind) or self


def _check_components(components: Mapping[str, object]) -> None:
    if not components:
        raise ConfigError("objective.components", "needs at least one objective")
    for name, part in components.items():
        key = f"objective.components.{name}"
        if not re.fullmatch(r"\w+", name):
            raise ConfigError(key, "a component's name is made of letters, digits and _")
        if not isinstance(part, Objective):
            problem = "is not an objective; choose one with"
            raise ConfigError(key, f"{problem} '+objective@{key}=<name of an objective>'")


def _has_default_loss(part: Objective) -> bool:
    """Whether `target_nll` of all rows gives its loss; a mixture of such objectives is one of them."""
    if isinstance(part, Mixture) and type(part).loss is Mixture.loss:
        return all(part._shares_forward)
    own = type(part)
    return all(getattr(own, name) is getattr(Objective, name) for name in ("loss", "nll", "excluded"))


def _cover(kinds: Set[Attention]) -> Attention:
    """The cheapest kind of attention that rows of all these kinds can be written in."""
    if len(kinds) == 1:
        return next(iter(kinds))
    return "ordered" if "ordered" in kinds else "prefix"


def _own(extra: Mapping[str, Extra], name: str) -> dict[str, Extra]:
    """The entries of one component, by its own names for them."""
    return {key.removeprefix(f"{name}/"): value for key, value in extra.items() if key.startswith(f"{name}/")}


def _select_nll(nll: TargetNll, batch: Batch, rows: Sequence[int], selected: Batch) -> TargetNll:
    """The targets of some rows, without waiting for the device."""
    ends = np.cumsum([0, *(tally.targets for tally in batch.tallies)])

    def pick(values_N: Tensor) -> Tensor:
        return torch.cat([values_N[ends[row] : ends[row + 1]] for row in rows])

    weights_N = None if nll.weights is None else pick(nll.weights)
    return TargetNll(pick(nll.nll), pick(nll.targets), selected.target_index, weights_N)


def _zero(modules: Sequence[nn.Module]) -> Tensor | float:
    """0, with a path to all of their parameters: ranks that exchange gradients must all have one for each."""
    parameters = [one for module in modules for one in module.parameters() if one.requires_grad]
    return sum((one.sum() * 0.0 for one in parameters), start=0.0)
