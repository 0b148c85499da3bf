"""The conformance kit: it proves that an objective is right, as scikit-learn's ``check_estimator`` does of estimators.

    from ntp.testing import check_objective

    check_objective(WordDropout(rate=0.15))

or, each check a test of its own,

    from ntp.testing import conformance_tests

    test_word_dropout = conformance_tests(WordDropout(rate=0.15))

And the certificate of resuming, for a whole configuration:

    from ntp.testing import certify_resume

    certify_resume(["objective=word_dropout", "model=nano"])
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ntp.testing.certificate import Certificate, CertificateError
    from ntp.testing.conformance import Report, check_names, check_objective, examples_of, iter_checks
    from ntp.testing.errors import ConformanceError, NotApplicable
    from ntp.testing.interruption import Interruption
    from ntp.testing.plugin import conformance_tests
    from ntp.testing.registry import Check
    from ntp.testing.resume import certify_resume

__all__ = [
    "Certificate",
    "CertificateError",
    "Check",
    "ConformanceError",
    "Interruption",
    "NotApplicable",
    "Report",
    "certify_resume",
    "check_names",
    "check_objective",
    "conformance_tests",
    "examples_of",
    "iter_checks",
]

_HOMES = {
    "Certificate": "certificate",
    "CertificateError": "certificate",
    "Check": "registry",
    "ConformanceError": "errors",
    "Interruption": "interruption",
    "NotApplicable": "errors",
    "certify_resume": "resume",
    "conformance_tests": "plugin",
}


def __getattr__(name: str) -> Any:
    # Every pytest session in an environment with ntp imports this package for its plug-in, and must not wait for torch.
    if name not in __all__:
        raise AttributeError(f"module 'ntp.testing' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"ntp.testing.{_HOMES.get(name, 'conformance')}"), name)
