"""What is said is coloured where that is wanted."""

import pytest
from rich.console import Console

from sanarestore.cli import console
from tests.cli.conftest import Terminal


def test_colour_is_a_choice(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    console.error("a")
    assert "\x1b[1;31m" in terminal.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(console, "stderr", Console(file=terminal))
    terminal.truncate(0)
    console.error("b")
    assert "\x1b[31m" not in terminal.getvalue()
    assert "\x1b[1;31m" not in terminal.getvalue()
