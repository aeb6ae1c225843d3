"""Tests of XMP sidecars: copied under the name of the result, whole, and never over files of others."""

import os
from pathlib import Path
from typing import Any

import pytest

from sanarestore.engine.sidecars import copy_sidecars


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A photograph with a sidecar of each kind; the folder of the result exists."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for name in ("a.jpg", "a.xmp", "a.jpg.xmp", "b.xmp"):
        (tmp_path / "in" / name).write_text(name)
    os.utime(tmp_path / "in/a.xmp", (1e9, 1e9))
    return tmp_path / "in/a.jpg"


def copied(source: Path, name: str = "b.png", **chosen: Any) -> tuple[dict[str, str], tuple[str, ...]]:
    """Copy; return the files that are beside the result, and the notes."""
    target = source.parents[1] / "out" / name
    notes = copy_sidecars(source, target, **{"keep_dates": False, "overwrite": False} | chosen)
    return {path.name: path.read_text() for path in target.parent.iterdir()}, notes


def test_sidecars_get_the_name_of_the_result(source: Path) -> None:
    files, notes = copied(source)
    assert files == {"b.xmp": "a.xmp", "b.png.xmp": "a.jpg.xmp"}
    assert notes == ("the sidecar a.xmp is copied to b.xmp", "the sidecar a.jpg.xmp is copied to b.png.xmp")


def test_a_photograph_without_sidecar_gets_none(source: Path) -> None:
    assert copied(source.with_name("c.jpg")) == ({}, ())


def test_a_sidecar_never_replaces_another_file_unasked(source: Path) -> None:
    foreign = source.parents[1] / "out/b.xmp"
    foreign.write_text("edits of mine")
    files, notes = copied(source)
    assert files == {"b.xmp": "edits of mine", "b.png.xmp": "a.jpg.xmp"}
    assert "another b.xmp exists" in notes[0]
    assert copied(source, overwrite=True)[0]["b.xmp"] == "a.xmp"


def test_a_sidecar_that_was_copied_before_is_left(source: Path) -> None:
    before = copied(source)[0]
    files, notes = copied(source)
    assert files == before
    assert "already" in notes[0]


def test_a_sidecar_keeps_its_date_where_results_do(source: Path) -> None:
    copied(source, keep_dates=True)
    assert (source.parents[1] / "out/b.xmp").stat().st_mtime == 1e9


def test_a_failure_is_noted_and_leaves_no_part(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, _data: bytes) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sanarestore.engine.sidecars.write_new", full)
    files, notes = copied(source)
    assert files == {}
    assert "No space left" in notes[0]


def test_the_suffix_may_be_in_capitals(source: Path) -> None:
    (source.parent / "a.xmp").rename(source.parent / "a.XMP")
    (source.parent / "a.jpg.xmp").unlink()
    assert list(copied(source)[0].values()) == ["a.xmp"]
