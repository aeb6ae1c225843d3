"""Tests of `sanarestore degrade`: what is shown, counted and refused, and exit codes."""

import json
from pathlib import Path

import pytest

from sanarestore.cli.app import run
from tests.conftest import save_photo


@pytest.fixture
def shoot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two photos and a stray text file; the current folder is the one above them."""
    monkeypatch.chdir(tmp_path)
    for index, name in enumerate(("a.png", "deep/b.png")):
        save_photo(Path("shoot") / name, 20, 24, seed=index)
    Path("shoot/notes.txt").write_text("nothing to degrade")
    return Path("shoot")


def degrade(*arguments: str, recipe: str = "noise:25", variants: int = 2) -> int:
    return run(["degrade", *arguments, "-o", "out", "--recipe", recipe, "--variants", str(variants)])


def test_pairs_and_other_files_are_counted(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert degrade("shoot") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("4 degraded, 1 other file ignored, ")
    assert degrade("shoot", "-v") == 0
    assert capsys.readouterr().err.splitlines() == [
        "ignored shoot/notes.txt: it is not a photograph", "0 degraded, 4 finished before, 1 other file ignored",
    ]  # fmt: skip


def test_every_pair_and_every_other_file_has_a_line_of_json(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("shoot/cut.png").write_bytes((shoot / "a.png").read_bytes()[:200])
    assert degrade("shoot", "missing.png", "--json") == 1
    shown = capsys.readouterr()
    found = [json.loads(line) for line in shown.out.splitlines()]
    told = sorted((line["path"], str(line["variant"]), line["status"], str(line["reason"])) for line in found)
    assert told == [
        ("missing.png", "None", "failed", "missing"),
        ("shoot/a.png", "0", "done", "None"), ("shoot/a.png", "1", "done", "None"),
        ("shoot/cut.png", "0", "failed", "damaged"), ("shoot/cut.png", "1", "failed", "damaged"),
        ("shoot/deep/b.png", "0", "done", "None"), ("shoot/deep/b.png", "1", "done", "None"),
        ("shoot/notes.txt", "None", "ignored", "other"),
    ]  # fmt: skip
    assert shown.err.count("failed ") == 2, "a photo that cannot be read is named once"


def test_exit_codes_say_what_failed(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert degrade("nowhere") == 2
    Path("bad").mkdir()
    Path("bad/empty.png").touch()
    assert degrade("bad") == 3
    assert degrade("bad", "shoot") == 1
    assert degrade("shoot", recipe="jpeg:20") == 2
    assert "out: holds pairs of the recipe noise:25 with seed 0" in capsys.readouterr().err


def test_pairs_of_an_earlier_run_are_ignored(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["degrade", "shoot", "-o", "shoot/pairs", "--recipe", "selective", "--variants", "1"]) == 0
    assert degrade("shoot", "-v") == 0
    shown = capsys.readouterr().err
    assert "ignored shoot/pairs/target/a__v00.png: an earlier run made it" in shown
    assert "4 degraded, 7 other files ignored" in shown
