"""Tests of terminal output: colours are optional, and tables are never cut."""

import io
import json
import re

import pytest
from rich.console import Console

from sanarestore.cli import console
from sanarestore.evaluation.columns import Column, Table
from tests.cli.conftest import Terminal


def test_no_color_turns_colours_off(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    console.error("a")
    assert "\x1b[1;31m" in terminal.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(console, "stderr", Console(file=terminal))
    terminal.truncate(0)
    console.error("b")
    assert "\x1b[31m" not in terminal.getvalue()
    assert "\x1b[1;31m" not in terminal.getvalue()


WIDE = Table(
    [Column("set", words=True), Column("method", words=True), *(Column(f"figure {n}") for n in range(8))],
    [["cbsd68 denoise", "[b]autoencoder reconstruction", *["1234.5678"] * 8]],
)


def test_tables_in_a_file_have_whole_rows_without_colours(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    console.table("[x].png", WIDE, ["a caption"])
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert (lines[0], lines[-2:], shown.err) == ("[x].png", ["a caption", ""], "")
    (row,) = [line for line in lines if "1234.5678" in line]
    assert row.split() == ["cbsd68", "denoise", "[b]autoencoder", "reconstruction", *["1234.5678"] * 8]
    assert "\x1b" not in shown.out
    assert [line for line in lines if line != line.rstrip()] == []


@pytest.mark.parametrize("width", [120, 60])
def test_tables_on_a_terminal_wrap_words_but_not_figures(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Terminal()
    monkeypatch.setattr("sys.stdout", fake)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    console.table("", WIDE)
    text = re.sub(r"\x1b\[[0-9;]*m", "", fake.getvalue())
    assert text.count("1234.5678") == 8
    assert "…" not in text
    lines = [line.split() for line in text.splitlines()]
    broken = ["reconstruction"] if width == 120 else ["denoise", "reconstruction"]
    assert broken in lines, "only as many words as needed are wrapped, and each stays whole"
    assert (max(map(len, text.splitlines())) <= width) == (width == 120), (
        "60 columns are too narrow even with wrapped words"
    )


EVIL = "a\x1b[2J\r\n\x9bfailed\u202egnp.png"
SHOWN = r"a\x1b[2J\r\n\x9bfailed\u202egnp.png"


def test_control_characters_are_escaped_wherever_text_is_shown(
    terminal: Terminal, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert console.escaped(EVIL) == SHOWN
    assert console.escaped("caf\u00e9 \U0001f642 \u5199 \udce9") == "caf\u00e9 \U0001f642 \u5199 \udce9"
    monkeypatch.setattr(console, "stderr", Console(file=terminal, color_system=None, width=200))
    console.say(EVIL)
    console.say_lines(["one", EVIL])
    console.print_word("failed", "red", EVIL)
    console.error(ValueError(EVIL))
    assert terminal.getvalue().splitlines() == [SHOWN, "one", SHOWN, f"failed {SHOWN}", f"error {SHOWN}"]
    console.print_lines([EVIL])
    console.table(EVIL, Table([Column("set", words=True)], [[EVIL]]), [EVIL])
    lines = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in lines if "a" in line] == [SHOWN] * 4
    console.print_json({"input": EVIL})
    assert json.loads(capsys.readouterr().out)["input"] == EVIL


def test_a_traceback_is_shown_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError(EVIL)
    except ValueError as problem:
        console.error(problem, trace=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == f"error {SHOWN}"
    assert len(lines) > 4


def test_characters_that_the_encoding_lacks_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    console.table("caf\u00e9 \udce9.png", Table([Column("±")], [["1"]]))
    assert raw.getvalue().startswith(rb"caf\xe9 \udce9.png")
    assert rb"\xb1" in raw.getvalue()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_breaks_sentences_between_words_and_a_file_gets_whole_lines(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: is_terminal)
    monkeypatch.setattr(console, "stderr", Console(file=shown, color_system=None, width=40))
    console.print_word("error", "red", "missing.jpg: there is no such file or folder. Check its name.")
    console.say("one two three four five six seven eight nine ten")
    console.say_lines(["pip install 'one-package>=1.17' 'another-package>=1.20'"])
    lines = [line.rstrip() for line in shown.getvalue().splitlines()]
    assert lines == (
        ["error missing.jpg: there is no such file", "or folder. Check its name.",
         "one two three four five six seven eight", "nine ten",
         "pip install 'one-package>=1.17' 'another-package>=1.20'"]
        if is_terminal else
        ["error missing.jpg: there is no such file or folder. Check its name.",
         "one two three four five six seven eight nine ten", "pip install 'one-package>=1.17' 'another-package>=1.20'"]
    )  # fmt: skip
