"""Tests of what is said of wrong command lines: what is wrong, where, and what to do next, in one line."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from sanarestore import images
from sanarestore.cli import words
from sanarestore.cli.app import app, run
from sanarestore.cli.pace import figure
from tests.conftest import save_photo

NOWHERE = "there is no such file or folder. Check its name, and put quotes around names with spaces."


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SANARESTORE_DATA", raising=False)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    """Return the one line that a refused command line gets."""
    assert run(arguments) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    return line


@pytest.mark.parametrize(
    ("command", "flag", "advice"),
    [
        ("restore", "--gpu", "Use --devices, as in --devices cuda:0."),
        ("restore", "--device", "Use --devices, as in --devices cuda:0."),
        ("train", "--gpu", "Use --devices, as in --devices cuda:0."),
        ("restore", "--output-format", "Use --format, as in --format png."),
        ("restore", "--noise", 'Use --prompt "remove noise".'),
        ("restore", "--denoise", 'Use --prompt "remove noise".'),
        ("bench", "--denoise", "Use --task, as in --task denoise."),
        ("degrade", "--noise", "Use --recipe, as in --recipe noise:25/50,jpeg:30."),
        ("restore", "--upscale", "Use --scale, as in --scale 2."),
        ("restore", "--recursive", "Leave it out: folders are always read with all folders below them."),
        ("restore", "-r", "Leave it out: folders are always read with all folders below them."),
        (
            "restore",
            "--workers",
            "One worker runs on each device of --devices; --threads sets the CPU threads of each.",
        ),
        ("restore", "--out", "Use --output, or -o."),
        ("restore", "--tile_size", "Use --tile, as in --tile 1024."),
        ("restore", "--force", "Use --overwrite."),
        ("degrade", "--force", "Nothing is replaced: choose another output with -o."),
        ("train", "--learning-rate", "It is a value of the training recipe: name the recipe's file with --recipe."),
        ("restore", "--fidelty", "Did you mean --fidelity?"),
        ("restore", "--xyzzy", "See `sanarestore restore --help`."),
    ],
)
def test_words_of_other_tools_are_known(
    command: str, flag: str, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, command, "x", flag) == f"error sanarestore {command}: there is no option {flag}. {advice}"


def test_advice_names_only_flags_that_the_command_has() -> None:
    group: Any = typer.main.get_command(app)
    flags = {flag for command in group.commands.values() for param in command.params for flag in param.opts}
    named = {has for sentences in words.ADVICE.values() for has, _ in sentences if has}
    assert named <= flags


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["restore", "x", "--tile", "abc"], "error --tile: 'abc' is not a number of pixels."),
        (["seams", "x", "--overlap", "abc"], "error --overlap: 'abc' is not a number of pixels."),
        (["restore", "x", "--seed", "1.5"], "error --seed: '1.5' is not a whole number."),
        (["restore", "x", "--fidelity", "high"], "error --fidelity: 'high' is not a number."),
        (["degrade", "x", "-o", "y", "--variants", "0"], "error --variants: '0' is not a whole number of 1 or more."),
        (["train", "x", "--max-minutes", "0"], "error --max-minutes: '0' is not a number of 0.01 or more."),
        (["bench", "--sigma"], "error --sigma: a value is missing."),
        (["restore"], "error sanarestore restore: no INPUT is named. See `sanarestore restore --help`."),
        (["degrade", "x"], "error sanarestore degrade: --output is missing. See `sanarestore degrade --help`."),
        (["restore", "x", "-o", ""], "error --output: this is empty. Give a value, or leave it out."),
        (["seams", "x", "-o", ""], "error --output: this is empty. Give a value, or leave it out."),
        (["degrade", "x", "-o", ""], "error --output: this is empty. Give a value, or leave it out."),
        (["bench", "--data", ""], "error --data: this is empty. Give a value, or leave it out."),
        (["retore", "x"], "error retore: there is no such command. Did you mean restore?"),
        (["denoise", "x"], "error denoise: there is no such command. Use restore."),
        (["a.jpg"], "error a.jpg: there is no such command. To restore it, use `sanarestore restore a.jpg`."),
        (["config", "shw"], "error shw: there is no such command. Did you mean show?"),
        (["train", "no.csv"], f"error no.csv: {NOWHERE}"),
        (["train", "no"], f"error no: {NOWHERE}"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_said_in_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, *arguments) == line


def test_several_files_are_not_written_into_one(capsys: pytest.CaptureFixture[str]) -> None:
    for name in "abcd":
        save_photo(Path("few") / f"{name}.png")
    line = (
        "error out.jpg: 4 files do not fit into one file. Name a folder; --format jpeg writes its files in that format."
    )
    assert said(capsys, "restore", "few", "-o", "out.jpg") == line
    assert said(capsys, "restore", *(f"few/{name}.png" for name in "abcd"), "-o", "out.jpg") == line
    assert not Path("out.jpg").exists()


def test_a_list_on_stdin_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    save_photo(Path("a.png"))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"a.png\n")))
    assert [each.path.name for each in images.find(["@-"]).images] == ["a.png"]


def test_nothing_on_stdin_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"")))
    assert run(["restore", "-", "-o", "a.png"]) == 3
    assert "failed Nothing arrived on stdin. Check the command before the pipe." in capsys.readouterr().err


def test_options_of_bench_are_checked_before_sets_are_looked_for(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, wrong in (
        (["--task", "denoize"], "denoize"), (["--sigma", "many"], "many"), (["--metric", "lpisp"], "lpisp"),
    ):  # fmt: skip
        line = said(capsys, "bench", "kodak24", "--data-dir", "nowhere", *arguments)
        assert wrong in line
        assert "kodak24" not in line


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (["seams", "a.png"], "nothing was written; only the tables above were measured"),
        (["restore", "a.png"], "finished photos are kept, run the same command again to continue"),
        (["degrade", "a.png", "-o", "b"], "finished pairs are kept, run the same command again to continue"),
        (["bench", "--data", "a"], "no scores are kept; with -o RUN, an interrupted run continues"),
        (
            ["bench", "--data", "a", "-o", "run"],
            "finished scores are kept in run, run the same command again to continue",
        ),
    ],
)  # fmt: skip
def test_an_interruption_says_what_is_there(
    arguments: list[str], kept: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    save_photo(Path("a.png"))
    for name in ("sanarestore.evaluation.seams.SeamBench", "sanarestore.images.find"):
        monkeypatch.setattr(name, interrupt)
    monkeypatch.setattr("sanarestore.cli.bench.run.check", interrupt)
    assert run(arguments) == 130
    assert capsys.readouterr().err.splitlines()[-1] == f"error interrupted; {kept}"


def test_small_figures_have_digits() -> None:
    assert [figure(value, 1) for value in (0, 123.44, 4.0, 0.25, 0.0123)] == ["0.0", "123.4", "4.0", "0.25", "0.012"]


def test_a_setting_that_wants_a_traceback_gets_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANARESTORE_RESTORE_DEBUG", "1")
    assert run(["restore", "x", "--strength", "3"]) == 2
    assert "Traceback" in capsys.readouterr().err
