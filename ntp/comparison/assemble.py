"""A comparison: runs, exams, costs and differences put together, before anything is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ntp.comparison.arms import Arm, group
from ntp.comparison.collect import Collection
from ntp.comparison.curves import AXES
from ntp.comparison.differences import Fact, cautions_of, facts_of, refusals_of
from ntp.comparison.equal_cost import choose_results, several_contents
from ntp.comparison.ledger import COSTS, Cost, costs, known_costs, unequal
from ntp.comparison.matrix import Column, Row, build_column, circumstances_of, rank
from ntp.config.errors import ConfigError
from ntp.config.nearest import suggestion
from ntp.evaluation.exams.result import StoredResult

_FEW = 5


@dataclass
class Comparison:
    """Everything that tables, figures and the report show.

    Attributes:
        arms: runs that differ by their seed only.
        rows: of the matrix: the arms, and then the baselines.
        columns: of the matrix: the exams.
        further: columns of the measures that the matrix does not show.
        ledger: what each row has cost.
        facts: what is equal beside the configuration, and what is not.
        refusals: why nothing is ranked, or would not be without ``force``; for single exams, see `Column.mixed`.
        cautions: what a reader should know, one line each.
        force: whether ranking was asked for in spite of all that.
        left_out: runs that were found and left out, with the reason.
        axis: that results are matched on; None for those at the end of each run.
        amount: of the axis, at which.
    """

    arms: list[Arm]
    rows: list[Row]
    columns: list[Column]
    further: list[Column]
    ledger: dict[str, dict[str, Cost]]
    facts: list[Fact]
    refusals: list[str]
    cautions: list[str]
    force: bool
    left_out: list[tuple[str, str]] = field(default_factory=list)
    axis: str | None = None
    amount: float | None = None

    @property
    def ranked(self) -> bool:
        """Whether rows are ranked at all."""
        return self.force or not self.refusals

    @property
    def forced(self) -> bool:
        """Whether anything is ranked that would not be without ``force``."""
        return self.force and bool(self.objections)

    @property
    def objections(self) -> list[str]:
        """Why nothing, or a single exam, is not ranked, or would not be without ``force``."""
        return [*self.refusals, *(column.mixed for column in self.columns if column.mixed is not None)]

    def ranks(self, column: Column) -> bool:
        """Whether rows are ranked on an exam."""
        return self.force or not (self.refusals or column.mixed)

    def forces(self, column: Column) -> bool:
        """Whether rows are ranked on an exam on which they would not be without ``force``."""
        return self.force and bool(self.refusals or column.mixed)

    def title(self, column: Column) -> str:
        """Exam and measure, marked where the ranking is forced."""
        return f"{column.title}{' (forced)' if self.forces(column) else ''}"

    @property
    def without_verdicts(self) -> str:
        """Why there are none, where there are none."""
        if not self.ranked:
            return "these runs must not be ranked"
        if not self.columns:
            return "there is no exam"
        if not any(map(self.ranks, self.columns)):
            return "the rows have not taken the same exams"
        return "no two rows have numbers of one kind that were given the same"

    @property
    def differing(self) -> list[str]:
        """Keys of the configuration that set the arms apart."""
        return list(self.arms[0].settings)

    @property
    def counted(self) -> list[str]:
        """Names of the costs that any row has counted."""
        return [name for name in COSTS if any(found[name].mean is not None for found in self.ledger.values())]

    @property
    def question(self) -> str:
        """What the comparison asks, in a sentence."""
        names = [arm.name for arm in self.arms]
        if len(names) > _FEW:
            names = [*names[: _FEW - 1], f"one of {len(names) - _FEW + 1} more"]
        listed = f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
        at = f" at equal {AXES[self.axis].title}" if self.axis else ""
        if len(names) == 1:
            return f"How good is {listed}, at what, and for what cost?"
        return f"Which is better{at}, {listed}: at what, for what cost, and is the difference real?"


def assemble(
    collection: Collection,
    *,
    exams: Sequence[str] | None = None,
    baselines: Sequence[Row] = (),
    axis: str | None = None,
    reference: str | None = None,
    force: bool = False,
) -> Comparison:
    """Put a comparison together.

    Args:
        collection: runs, with the results of their exams.
        exams: to be shown, or none; None for all that any run has taken.
        baselines: rows beside the arms.
        axis: to match on, of `ntp.comparison.curves.AXES`; None compares the runs as they ended.
        reference: name of the arm that verdicts are told against; None for the best arm of each kind.
        force: rank in spite of differences that forbid it.

    Raises:
        ConfigError: there is no such exam or no such arm, or the runs can't be matched on the axis.
    """
    arms, repeated = group(collection.runs)
    chosen = choose_results(arms, axis)
    rows = [Row(arm.name, False, chosen.results[arm.name], arm.seeds, chosen.gaps.get(arm.name, {})) for arm in arms]
    rows += baselines
    names = chosen_exams([results for row in rows[: len(arms)] for results in row.results], exams)
    if reference is not None and reference not in {row.name for row in rows}:
        raise ConfigError(
            "reference", f"there is no arm '{reference}'{suggestion(reference, [row.name for row in rows])}"
        )
    facts = facts_of(arms)
    columns = [build_column(name, rows) for name in names]
    cautions = [
        *collection.notes,
        *cautions_of(arms, facts),
        *chosen.notes,
        *several_contents([run for arm in arms for run in arm.runs], names),
        *(line for column in columns for line in circumstances_of(column)),
    ]
    cautions += _about_cost(arms, axis)
    comparison = Comparison(
        arms=arms,
        rows=rows,
        columns=columns,
        further=[one for column in columns for one in _further(column, rows)],
        ledger={arm.name: costs(arm) for arm in arms} | {row.name: known_costs(row.costs) for row in baselines},
        facts=facts,
        refusals=refusals_of(facts),
        cautions=cautions,
        force=force,
        left_out=sorted([*collection.left_out, *repeated]),
        axis=axis,
        amount=chosen.amount,
    )
    for column in columns:
        if comparison.ranks(column):
            rank(column, rows, reference)
    return comparison


def chosen_exams(results: Sequence[dict[str, StoredResult]], exams: Sequence[str] | None) -> list[str]:
    """Names of the exams of a comparison, in alphabetical order or in that asked for.

    Raises:
        ConfigError: nobody has taken one that is asked for.
    """
    taken = sorted({name for one in results for name in one})
    for name in exams or ():
        if name not in taken:
            raise ConfigError("exams", f"no run has taken '{name}'{suggestion(name, taken)}")
    return taken if exams is None else list(dict.fromkeys(exams))


def _further(column: Column, rows: Sequence[Row]) -> list[Column]:
    measures = dict.fromkeys(
        name for cell in column.cells.values() for stored in cell.results for name in stored.result.measures
    )
    return [build_column(column.exam, rows, name) for name in measures if name != column.measure]


def _about_cost(arms: Sequence[Arm], axis: str | None) -> list[str]:
    names = unequal(arms)
    if not names:
        return []
    if axis is None:
        said = ", ".join(AXES[name].title for name in names)
        return [f"the arms have not spent the same: {said}; match=<axis> compares them at an equal amount"]
    rest = ", ".join(AXES[name].title for name in names)
    return [f"matched on {AXES[axis].title}; the ledger is of whole runs, which differ in {rest}"]
