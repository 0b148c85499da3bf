"""The certificate: what was interrupted, what was compared, and whether it was equal."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("ntp", "torch", "lightning", "numpy")


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in _PACKAGES}
    return {"python": platform.python_version()} | packages | {"platform": platform.platform()}


@dataclass(frozen=True)
class Certificate:
    """Whether a run that is interrupted goes on exactly where it was.

    Attributes:
        overrides: the configuration, as for ``ntp train``.
        settings: overrides that the certificate adds: few steps, often validated, often saved.
        form: ``quick`` in one process, or ``full`` with a process for every start.
        interruptions: of the one run, in order; it went on after each.
        compared: how many of what were compared with the run that was not interrupted.
        difference: where the two runs part; None where they are equal to the last bit.
        others: how many more differences there are.
        advice: what to look for.
        versions: of Python, of packages and of the platform.
    """

    overrides: list[str]
    settings: list[str]
    form: str
    interruptions: list[str]
    compared: dict[str, int]
    difference: str | None = None
    others: int = 0
    advice: str = ""
    versions: dict[str, str] = field(default_factory=_versions)

    @property
    def equal(self) -> bool:
        """Whether everything that was compared is equal."""
        return self.difference is None

    def write(self, path: Path) -> None:
        """As JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"equal": self.equal} | asdict(self), indent=2, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")

    def facts(self) -> list[tuple[str, str]]:
        """Names and values, for a person."""
        compared = ", ".join(f"{count:,} {name}" for name, count in self.compared.items())
        packages = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        verdict = "equal to the last bit" if self.equal else f"not equal: {self.problem}"
        return [
            ("trained", f"twice, with {' '.join(self.settings)}"),
            ("form", self.form),
            *(("interrupted", one) for one in self.interruptions),
            ("compared", compared),
            ("versions", packages),
            ("result", verdict),
        ]

    @property
    def problem(self) -> str:
        """The first difference in one line; empty where there is none."""
        if self.difference is None:
            return ""
        more = f" ({self.others} more)" if self.others else ""
        return f"{self.difference}{more}; {self.advice}"


class CertificateError(AssertionError):
    """An interrupted run is not the run that was not interrupted.

    Args:
        certificate: says where they part.
    """

    def __init__(self, certificate: Certificate) -> None:
        self.certificate = certificate
        super().__init__(certificate.problem)
