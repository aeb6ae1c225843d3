"""Processes that run a module of this package, with pipes for orders and messages. Imports no torch."""

import os
import site
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from sanarestore.errors import UsageError

_LAST_WORDS = 2000
"""Bytes that are kept of what a process printed last."""


def start_module(
    module: str, printed: BinaryIO, inherited: Sequence[int]
) -> tuple[subprocess.Popen[bytes], BinaryIO, BinaryIO]:
    """Start a process that runs a module; return it, the pipe of its orders and the pipe of its messages.

    UsageError if there is no Python interpreter to run it.
    """
    if not sys.executable:
        raise UsageError("this program runs without a Python interpreter that could run workers", where="sanarestore")
    # -P: a file in the current folder must not be imported for a library of the same name.
    command = [sys.executable, "-P", "-m", module]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=printed, env=environment(),
        pass_fds=tuple(inherited) if os.name == "posix" else (),
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    return process, process.stdin, process.stdout  # type: ignore[return-value]


def environment() -> dict[str, str]:
    """The environment, in which workers find this package where it was found here."""
    root = str(Path(__file__).parents[2])
    places = [*site.getsitepackages(), site.getusersitepackages()]
    if root in places:
        return dict(os.environ)
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": root if not before else f"{before}{os.pathsep}{root}"}


def in_one_line(words: str) -> str:
    """Join the output of a process into one line, for a sentence."""
    return " / ".join(line.strip() for line in words.splitlines() if line.strip()) or "nothing"


def read_last_words(printed: BinaryIO) -> str:
    """Read the last output of a process."""
    with suppress(OSError, ValueError):
        size = printed.seek(0, os.SEEK_END)
        printed.seek(max(size - _LAST_WORDS, 0))
        return printed.read().decode(errors="replace").strip()
    return ""
