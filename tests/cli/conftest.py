"""A terminal to look at."""

import io

import pytest
from rich.console import Console

from sanarestore.cli import console


class Terminal(io.StringIO):
    """A stderr that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Stands for stderr; 80 columns."""
    fake = Terminal()
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(console, "stderr", Console(file=fake, highlight=False, emoji=False, width=80, height=24))
    return fake
