"""Tests of the manual page: it is stored, and says what the help says."""

import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from sanarestore.cli import manual
from sanarestore.cli.app import app
from sanarestore.cli.commands import SettingsCommand

ROOT = Path(__file__).parents[2]


def test_the_manual_is_up_to_date(tmp_path: Path) -> None:
    written = manual.write(tmp_path / "made")
    assert written.read_text(encoding="utf-8") == (ROOT / "man" / written.name).read_text(encoding="utf-8"), (
        "run: make manual"
    )


def test_the_wheel_holds_the_manual() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    assert build["wheel"]["shared-data"]["man/sanarestore.1"] == "share/man/man1/sanarestore.1"


def test_the_manual_names_every_option_as_roff_shows_it() -> None:
    if shutil.which("groff") is None:
        pytest.skip("there is no groff here")
    page = ROOT / "man" / "sanarestore.1"
    shown = subprocess.run(
        ["groff", "-man", "-Tascii", "-P-cbou", "-ww", page], capture_output=True, text=True, check=True
    )
    assert shown.stderr == ""
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        if isinstance(command, SettingsCommand):
            assert name.upper() in shown.stdout
            assert [key for key in command.options if f"--{key}" not in shown.stdout] == []
    assert "find . -name '*.tif' | sanarestore restore @- -o out" in shown.stdout
    assert "weights are missing, damaged or refused" in shown.stdout
