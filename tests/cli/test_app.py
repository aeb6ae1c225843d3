"""Tests of help, version and exit codes."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sanarestore import __version__, images
from sanarestore.cli.app import run
from sanarestore.errors import NoImagesError, SanarestoreError, UsageError, WeightsError


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"sanarestore {__version__}\n"


@pytest.mark.parametrize(
    "command", [[], ["restore"], ["degrade"], ["train"], ["bench"], ["seams"], ["config", "show"], ["config", "path"]]
)
def test_help_fits_a_small_terminal(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run([*command, "-h"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    for panel in "\n".join(lines).split("╭─ ")[1:]:
        assert panel.count("│ -") <= 12, panel.splitlines()[0]
    text = "\n".join(lines)
    assert "Examples" in text
    assert "Exit codes" in text
    assert not re.search(r"\{[A-Z]+\}|<bool>|<str>|<list", text)


def test_help_is_shown_without_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    run([])
    shown = capsys.readouterr()
    assert "restore" in shown.out + shown.err


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["restore"], ["restore", "x", "--tile", "many"], ["restore", "x", "--no"]]
)
def test_an_invalid_command_line_is_a_usage_error(arguments: list[str]) -> None:
    assert run(arguments) == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("no"), 2),
        (NoImagesError("no"), 3),
        (WeightsError("no"), 4),
        (SanarestoreError("no"), 1),
        (KeyError("surprise"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
@pytest.mark.parametrize("flag", ["--debug", None])
def test_errors_become_exit_codes(
    error: BaseException,
    code: int,
    flag: str | None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_inputs: Any) -> None:
        raise error

    monkeypatch.setattr(images, "find", fail)
    arguments = ["restore", "x", *([flag] if flag else [])]
    if flag and isinstance(error, KeyError):
        with pytest.raises(KeyError):
            run(arguments)
        return
    assert run(arguments) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines()[-1].startswith("error ")
    assert ("Traceback" in shown.err) == (flag is not None and isinstance(error, SanarestoreError))


def test_the_module_runs_as_the_program(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sanarestore", "restore", str(tmp_path / "missing")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "missing: there is no such file or folder" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_other_signals_end_the_program_like_ctrl_c(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(_inputs: Any) -> None:
        os.kill(os.getpid(), getattr(signal, name))
        time.sleep(10)

    before = signal.getsignal(getattr(signal, name))
    monkeypatch.setattr(images, "find", wait)
    assert run(["restore", "x"]) == 130
    assert signal.getsignal(getattr(signal, name)) == before
