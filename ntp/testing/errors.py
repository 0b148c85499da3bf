"""What a check says when an objective breaks a rule."""


class Broken(Exception):
    """Raised inside a check: an invariant does not hold.

    Args:
        problem: where it does not hold (row, position) and what was seen there.
        hint: what to look for in the implementation.
    """

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.problem, self.hint = problem, hint


class NotApplicable(Exception):
    """A check has nothing to say of this objective, such as of infilling where it does not claim to infill."""


class ConformanceError(AssertionError):
    """An objective breaks a rule.

    Args:
        objective: name of its class.
        check: name of the check.
        invariant: what must hold.
        problem: where it does not (row, position), and what was seen there.
        hint: what to look for in the implementation.

    Attributes:
        others: further rules that it breaks, where several checks ran.
    """

    def __init__(self, objective: str, check: str, invariant: str, problem: str, hint: str) -> None:
        self.objective, self.check, self.invariant = objective, check, invariant
        self.problem, self.hint = problem, hint
        self.others: list[ConformanceError] = []
        super().__init__(objective, check, invariant, problem, hint)

    def __str__(self) -> str:
        own = (
            f"{self.objective} breaks {self.check}: {self.invariant}\n"
            f"    seen:     {self.problem}\n"
            f"    look for: {self.hint}"
        )
        return "\n".join([own, *map(str, self.others)])

    @property
    def line(self) -> str:
        """The same in one line, of this rule alone."""
        return f"breaks {self.check} ({self.invariant}): {self.problem}; look for: {self.hint}"
