import sys
from pathlib import Path

import pytest

from ntp.config.errors import ConfigError
from ntp.data.corpora import Python
from ntp.data.corpora.sources import SourceFile, decode_source, python_sources


@pytest.fixture(scope="module")
def names() -> list[str]:
    return [file.name for file in python_sources([])]


def test_the_standard_library_is_there_in_sorted_order(names: list[str]) -> None:
    assert {"argparse.py", "asyncio/tasks.py", "json/__init__.py"} <= set(names)
    assert names == sorted(names)


def test_it_is_megabytes_of_text() -> None:
    assert 5e6 < sum(len(text) for text in Python().documents()) < 30e6


@pytest.mark.parametrize("folder", ["test", "tests", "idle_test", "site-packages", "__pycache__"])
def test_tests_and_installed_packages_are_left_out(names: list[str], folder: str) -> None:
    assert not any(folder in name.split("/") for name in names)


def test_modules_that_only_sound_like_tests_stay(names: list[str]) -> None:
    assert {"doctest.py", "unittest/case.py"} <= set(names)


def test_packages_come_after_the_standard_library_and_are_not_imported() -> None:
    loaded = set(sys.modules)
    files = python_sources(["sympy"])
    assert files[-1].name.startswith("sympy/")
    assert "sympy" not in set(sys.modules) - loaded


def test_a_package_is_also_found_by_the_name_it_is_installed_under() -> None:
    assert any(file.name.startswith("yaml/") for file in python_sources(["PyYAML"]))


def test_a_package_of_one_file_is_that_file() -> None:
    assert python_sources(["typing_extensions"])[-1].name == "typing_extensions.py"


def test_a_package_that_is_not_installed_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"data\.packages: no package 'nunpy' .*'numpy'"):
        Python(["nunpy"])


def test_a_file_is_decoded_as_it_declares() -> None:
    assert decode_source("# coding: latin-1\nx = 'é'\n".encode("latin-1")) == "# coding: latin-1\nx = 'é'\n"


def test_a_byte_order_mark_and_windows_line_endings_do_not_reach_the_text() -> None:
    assert decode_source(b"\xef\xbb\xbfx = 1\r\n") == "x = 1\n"


@pytest.mark.parametrize("raw", [b"x = '\xff'", b"# coding: nonsense\n", b"# coding: ascii\n\xe9"])
def test_a_file_that_does_not_decode_is_nothing(raw: bytes) -> None:
    assert decode_source(raw) is None


def test_files_that_do_not_decode_are_skipped_and_counted(tmp_path: Path) -> None:
    corpus = Python()
    (tmp_path / "bad.py").write_bytes(b"\xff")
    (tmp_path / "good.py").write_text("x = 1\n")
    corpus.files = [SourceFile(name, tmp_path / name) for name in ("bad.py", "good.py")]
    assert list(corpus.documents()) == ["x = 1\n"]
    assert corpus.description() | {"skipped_files": 1, "files": 2} == corpus.description()


def test_the_digest_follows_the_contents(tmp_path: Path) -> None:
    corpus = Python()
    corpus.files = [SourceFile("a.py", tmp_path / "a.py")]
    (tmp_path / "a.py").write_text("x = 1\n")
    before = corpus.digest()
    assert corpus.digest() == before
    (tmp_path / "a.py").write_text("x = 2\n")
    assert corpus.digest() != before
