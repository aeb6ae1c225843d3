"""Fixtures of the command line: a fake terminal whose text tests can read."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from sanarestore.cli import config, console, presets, settings


@pytest.fixture(autouse=True)
def user_file(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for the user's settings, in which there are none yet, so that no test sees those of who runs it."""
    file = tmp_path_factory.mktemp("config") / "config.toml"
    for module in (settings, presets, config):
        monkeypatch.setattr(module, "user_file", lambda: file)
    return file


class Terminal(io.StringIO):
    """A text stream that reports itself as a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal of 80 columns in place of stderr."""
    fake = Terminal()
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(console, "stderr", Console(file=fake, highlight=False, emoji=False, width=80, height=24))
    return fake


class Clock:
    """Stands in for `time.perf_counter`."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that tests move."""
    made = Clock()
    monkeypatch.setattr("time.perf_counter", made)
    return made
