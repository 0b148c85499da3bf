"""``ntp certify``: prove that a run of a configuration goes on exactly where it was interrupted."""

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from ntp.commands.composed import overridden_keys, overrides
from ntp.config.errors import RunFailed
from ntp.config.schema import CertifyConfig
from ntp.config.validation import resolve, validate
from ntp.testing.certificate import Certificate, CertificateError
from ntp.testing.resume import certify_resume
from ntp.tracking.describe import facts, relative
from ntp.tracking.tree import print_config

_OWN_KEYS = ("full", "ignore", "run_dir")


def run(config: DictConfig) -> None:
    """Train with and without interruptions, compare, print the certificate and write it.

    Raises:
        ConfigError: the configuration would not run, or can't be interrupted.
        RunFailed: the interrupted run was another one.
    """
    typed = validate(config, CertifyConfig)
    if typed.print_config:
        print_config(resolve(config))
    directory = Path(typed.run_dir)
    wanted = [one for one, key in zip(overrides(), overridden_keys(), strict=True) if key not in _OWN_KEYS]
    try:
        certificate = certify_resume(wanted, full=typed.full, directory=directory, ignore=typed.ignore)
    except CertificateError as error:
        _show(error.certificate, directory)
        raise RunFailed(f"{error}; the runs are kept in {relative(directory)}") from error
    _show(certificate, directory)


def _show(certificate: Certificate, directory: Path) -> None:
    path = directory / "certificate.json"
    certificate.write(path)
    facts([*certificate.facts(), ("written", str(relative(path)))], Console())
