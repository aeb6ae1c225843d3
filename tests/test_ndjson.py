"""Tests of files of JSON lines: appending, and recovery from torn lines."""

from pathlib import Path

import pytest

from sanarestore.errors import UsageError
from sanarestore.ndjson import Lines


def test_added_lines_are_read_back(tmp_path: Path) -> None:
    lines = Lines(tmp_path / "new" / "journal.jsonl")
    assert list(lines) == []
    lines.add([])
    assert not lines.path.exists()
    lines.add([{"a": 1}, {"name": "caf\udce9"}])
    lines.add([{"b": None}])
    assert list(lines) == list(Lines(lines.path)) == [{"a": 1}, {"name": "caf\udce9"}, {"b": None}]
    assert lines.path.read_bytes().isascii()


@pytest.mark.parametrize("junk", [b"\xff\xfe", b"[1]\n", b"3", b'{"a": 1', b"\n\n", b"[" * 100_000])
def test_invalid_lines_are_ignored_and_kept(junk: bytes, tmp_path: Path) -> None:
    lines = Lines(tmp_path / "journal.jsonl")
    lines.add([{"a": 1}])
    with lines.path.open("ab") as file:
        file.write(junk)
    assert list(lines) == [{"a": 1}]
    lines.add([{"b": 2}])
    assert list(lines) == [{"a": 1}, {"b": 2}]
    content = lines.path.read_bytes()
    assert content.startswith(b'{"a": 1}\n' + junk), "foreign content is kept"


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").mkdir()
    with pytest.raises(UsageError, match=r"journal\.jsonl: the journal cannot be written"):
        Lines(tmp_path / "journal.jsonl").add([{"a": 1}])
