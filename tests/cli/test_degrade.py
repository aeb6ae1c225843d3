"""Tests of `sanarestore degrade`: what it says of inputs that give no pairs."""

from pathlib import Path

import pytest

from sanarestore.cli.app import run
from tests.conftest import save_photo


def degrade(*arguments: str) -> int:
    return run(["degrade", *arguments, "--recipe", "noise:25", "--variants", "1"])


def test_photos_that_cannot_be_read_are_named_and_the_others_degraded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_photo(Path("photos/a.png"))
    Path("photos/empty.jpg").touch()
    Path("photos/notes.txt").write_text("no image")
    assert degrade("photos", "nowhere", "-o", "out") == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "photos/empty.jpg: it is empty" in said
    assert "nowhere: there is no such file or folder" in said
    assert "1 other file is not in a supported image format" in said
    assert len(list(Path("out/degraded").iterdir())) == 1


def test_an_input_that_names_nothing_is_a_mistake_if_there_is_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert degrade("nowhere", "-o", "out") == 2
    assert "nowhere: there is no such file or folder" in " ".join(capsys.readouterr().err.split())
    assert not Path("out").exists()
