"""The pytest plug-in of the conformance kit: each check of an objective becomes a test.

    from ntp.testing import conformance_tests

    test_word_dropout = conformance_tests(WordDropout(rate=0.15))

is short for

    @pytest.mark.ntp_objectives(WordDropout(rate=0.15))
    def test_word_dropout(ntp_check):
        ntp_check()

Nothing heavy is imported before a test asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

MARKER = "ntp_objectives"
_FIXTURE = "ntp_check"


def conformance_tests(*objectives: Any, **options: Any) -> Callable[..., None]:
    """A test function for pytest that runs every check on every objective, each as a test of its own.

    Args:
        objectives: see `ntp.testing.check_objective`.
        options: ``tokenizer``, ``corpus``, ``model``, ``sequence_length``, ``quick`` and ``checks``, as for it.
    """

    @pytest.mark.ntp_objectives(*objectives, **options)
    def test_conformance(ntp_check: Callable[[], None]) -> None:
        ntp_check()

    return test_conformance


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", f"{MARKER}(*objectives, **options): run the fixture {_FIXTURE} with every check of ntp.testing"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each check of each objective."""
    marker = metafunc.definition.get_closest_marker(MARKER)
    if marker is None or _FIXTURE not in metafunc.fixturenames:
        return
    from ntp.testing.conformance import iter_checks

    options = dict(marker.kwargs)
    chosen = {"quick": options.get("quick", False), "names": options.pop("checks", None)}
    cases = [
        pytest.param((check, objective, options), id=f"{name}{check}")
        for objective, name in zip(marker.args, _names(marker.args), strict=True)
        for check in iter_checks(**chosen)
    ]
    metafunc.parametrize(_FIXTURE, cases, indirect=True)


def _names(objectives: tuple[Any, ...]) -> list[str]:
    """What to call each objective in the ids of its tests; nothing where there is only one."""
    if len(objectives) < 2:
        return [""] * len(objectives)
    names = [getattr(one, "__name__", type(one).__name__) for one in objectives]
    return [f"{name}{number}-" if names.count(name) > 1 else f"{name}-" for number, name in enumerate(names)]


@pytest.fixture
def ntp_check(request: pytest.FixtureRequest) -> Callable[[], None]:
    """Runs one check on one objective of the marker ``ntp_objectives``."""
    if not hasattr(request, "param"):
        raise pytest.UsageError(f"{_FIXTURE} needs @pytest.mark.{MARKER}(an objective)")
    check, objective, options = request.param

    def run() -> None:
        __tracebackhide__ = True
        from ntp.testing.errors import NotApplicable

        try:
            check(objective, **options)
        except NotApplicable as reason:
            pytest.skip(f"does not apply: {reason}")

    return run
