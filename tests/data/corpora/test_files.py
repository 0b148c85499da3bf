import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from ntp.config.errors import ConfigError
from ntp.data.corpora import Files


def documents(path: Path | str, **options: Any) -> list[str]:
    return list(Files(str(path), **options).documents())


def lines(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def refused(key: str, path: Path | str, **options: Any) -> str:
    with pytest.raises(ConfigError) as error:
        documents(path, **options)
    assert error.value.key == key
    return error.value.problem


# ---- finding files


def test_a_home_directory_is_meant_by_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.txt").write_text("home")
    assert documents("~/a.txt") == ["home"]


def test_a_directory_is_everything_below_it_that_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.md").write_text("two")
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "picture.png").write_bytes(b"\xff")
    (tmp_path / ".hidden.txt").write_text("hidden")
    assert documents(tmp_path) == ["one", "two"]


def test_two_stars_reach_into_all_folders(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "deep.txt").write_text("deep")
    (tmp_path / "top.txt").write_text("top")
    assert documents(f"{tmp_path}/**/*.txt") == ["deep", "top"]


def test_a_list_of_paths_gives_each_file_once_in_sorted_order(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("b")
    (tmp_path / "a.txt").write_text("a")
    corpus = Files([str(tmp_path / "b.txt"), f"{tmp_path}/*.txt"])
    assert list(corpus.documents()) == ["a", "b"]


def test_a_missing_path_is_refused_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "shakespeare.txt").write_text("x")
    problem = refused("data.path", tmp_path / "shakespear.txt")
    assert "there is no" in problem
    assert f"did you mean '{tmp_path}/shakespeare.txt'?" in problem


def test_a_pattern_without_a_match_is_refused(tmp_path: Path) -> None:
    assert "no file matches" in refused("data.path", f"{tmp_path}/*.txt")


def test_a_directory_without_text_is_refused(tmp_path: Path) -> None:
    assert "holds no file" in refused("data.path", tmp_path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    assert refused("data.path", tmp_path / "a.txt") == f"{tmp_path}/a.txt is empty (0 bytes)"


def test_an_empty_file_among_others_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    (tmp_path / "b.txt").write_text("b")
    assert documents(tmp_path) == ["b"]


def test_an_unknown_extension_is_refused_and_a_format_accepts_it(tmp_path: Path) -> None:
    (tmp_path / "main.rs").write_text("fn main() {}")
    assert "data.format=text" in refused("data.format", tmp_path / "main.rs")
    assert documents(tmp_path / "main.rs", format="text") == ["fn main() {}"]
    assert documents(tmp_path, format="text") == ["fn main() {}"]


# ---- plain text


def test_a_document_is_a_file_a_line_or_a_paragraph(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n\n \nthree\n")
    assert documents(path) == ["one\ntwo\n\n \nthree\n"]
    assert documents(path, document="line") == ["one", "two", "three"]
    assert documents(path, document="paragraph") == ["one\ntwo", "three"]


@pytest.mark.parametrize("document", ["file", "line", "paragraph"])
def test_windows_line_endings_and_a_byte_order_mark_change_nothing(tmp_path: Path, document: Any) -> None:
    unix, windows = tmp_path / "unix.txt", tmp_path / "windows.txt"
    unix.write_bytes("é\nb\n\nc\n".encode())
    windows.write_bytes("\ufeffé\r\nb\r\n\r\nc\r\n".encode())
    assert documents(unix, document=document) == documents(windows, document=document)


@pytest.mark.parametrize("document", ["file", "line", "paragraph"])
def test_bytes_that_are_not_utf_8_are_refused_by_file_and_offset(tmp_path: Path, document: Any) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"\xef\xbb\xbfok\ncaf\xe9\n")
    problem = refused("data.errors", path, document=document)
    assert f"{path} is not UTF-8: byte 0xe9 at offset 9" in problem
    assert "data.errors=replace" in problem


def test_bytes_that_are_not_utf_8_can_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"na\xefve")
    assert documents(tmp_path / "latin.txt", errors="replace") == ["na\ufffdve"]


def test_utf_16_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "wide.txt").write_bytes("text".encode("utf-16"))
    assert "looks like UTF-16" in refused("data.errors", tmp_path / "wide.txt")


# ---- records


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_json_lines_are_read_compressed_or_not(tmp_path: Path, suffix: str) -> None:
    raw = lines({"text": "a\r\nb", "n": 1}, {"text": "2024-01-01", "n": 2}, {"text": None, "n": 3}).encode() + b"\n"
    packers: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}
    pack = packers[suffix]
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(pack(raw[:30]) + pack(raw[30:]))
    assert documents(path) == ["a\nb", "2024-01-01"]


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"text" * 1000)[:-12])
    (tmp_path / "a.txt.zst").write_bytes(b"not zstandard")
    assert "is damaged" in refused("data.path", tmp_path / "a.txt.gz")
    assert "is damaged" in refused("data.path", tmp_path / "a.txt.zst")


def test_a_line_that_is_not_json_is_refused_by_file_and_number(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(lines({"text": "a"}) + '{"text": "b"\n')
    assert f"{path}, line 2 is not JSON" in refused("data.path", path)


def test_a_json_line_that_is_no_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('["a"]\n')
    assert "line 1 is not a JSON object but a list" in refused("data.path", tmp_path / "a.jsonl")


def test_the_only_column_with_text_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines({"id": 1, "body": "a"}))
    assert documents(tmp_path / "a.jsonl") == ["a"]


def test_of_several_columns_with_text_one_must_be_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(lines({"title": "t", "body": "b"}))
    assert "its columns: title, body" in refused("data.text_column", path)
    assert documents(path, text_column="body") == ["b"]


def test_a_missing_column_is_refused_with_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(lines({"title": "t", "body": "b"}))
    problem = refused("data.text_column", path, text_column="bodi")
    assert "line 1 has no column 'bodi' (did you mean 'body'?); its columns: title, body" in problem


def test_a_record_that_lacks_the_column_is_refused_by_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines({"text": "a"}, {"txt": "b"}))
    assert "line 2 has no column 'text'" in refused("data.text_column", tmp_path / "a.jsonl")


def test_a_column_that_holds_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines({"text": 1}))
    assert "line 1: 'text' is not text but a number" in refused("data.text_column", tmp_path / "a.jsonl")


def test_half_a_surrogate_pair_in_json_is_refused_or_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a\\ud800b"}\n')
    assert "line 1: 'text' holds half of a surrogate pair" in refused("data.errors", path)
    assert documents(path, errors="replace") == ["a\ufffdb"]


def test_csv_keeps_text_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,text\n1,"line one\nline ""two"""\n2,007\n3,NA\n', newline="")
    assert documents(path) == ['line one\nline "two"', "007", "NA"]


def test_tsv_is_parted_by_tabs(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("id\ttext\n1\ta,b\n")
    assert documents(tmp_path / "a.tsv") == ["a,b"]


def test_csv_holds_long_documents(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n" + "x" * 200_000 + "\n")
    assert [len(text) for text in documents(tmp_path / "a.csv")] == [200_000]


def test_a_csv_row_of_another_length_is_refused_by_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n1,a\n2,b,c\n")
    assert "line 3: 3 fields where the header has 2" in refused("data.path", tmp_path / "a.csv")


def test_a_missing_csv_column_is_refused_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,content\n1,a\n")
    problem = refused("data.text_column", tmp_path / "a.csv", text_column="contents")
    assert "has no column 'contents' (did you mean 'content'?)" in problem


def test_parquet_is_read(tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_dict({"body": ["a", None, "b"], "id": [1, 2, 3]}).to_parquet(tmp_path / "a.parquet")
    assert documents(tmp_path / "a.parquet") == ["a", "b"]
    problem = refused("data.text_column", tmp_path / "a.parquet", text_column="text")
    assert "has no column 'text'" in problem
    assert "is not text but" in refused("data.text_column", tmp_path / "a.parquet", text_column="id")


def test_what_is_no_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("no")
    assert "is not a parquet file" in refused("data.path", tmp_path / "a.parquet")


# ---- identity


def test_the_digest_follows_contents_and_reading_but_not_the_place(tmp_path: Path) -> None:
    first, second, other = (tmp_path / name for name in ("a.txt", "b.txt", "c.txt"))
    first.write_text("text")
    second.write_text("text")
    other.write_text("texts")
    assert Files(str(first)).digest() == Files(str(second)).digest()
    assert Files(str(first)).digest() != Files(str(other)).digest()
    assert Files(str(first)).digest() != Files(str(first), document="line").digest()
