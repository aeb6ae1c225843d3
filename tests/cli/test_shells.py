"""Tests of completion as shells use it: the stored scripts, in real shells that run in a pseudo-terminal."""

import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")

FOLDER = Path(__file__).parents[2] / "completions"

STARTS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"], "fish": ["fish", "--no-config", "-i"],
}  # fmt: skip

LOADS = {
    "bash": "source '{file}'",
    "zsh": "autoload -Uz compinit; compinit -u -D; source '{file}'",
    "fish": "source '{file}'",
}


def _take_terminal() -> None:
    """Make the pseudo-terminal that of the new session: fish refuses to run without one."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Shell:
    """A shell in a pseudo-terminal, with `sanarestore` on its path and the stored script loaded."""

    def __init__(self, name: str, folder: Path) -> None:
        program = folder / "bin" / "sanarestore"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sanarestore "$@"\n')
        program.chmod(0o755)
        root = Path(__file__).parents[2]
        environment = {
            **os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}", "PS1": "READY> ", "TERM": "dumb",
            "PYTHONPATH": str(root), "HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config"),
            "INPUTRC": os.devnull,
        }  # fmt: skip
        own, other = pty.openpty()
        self._terminal, self._name = own, name
        self._process = subprocess.Popen(
            STARTS[name], stdin=other, stdout=other, stderr=other, cwd=folder, env=environment, start_new_session=True,
            preexec_fn=_take_terminal,
        )  # fmt: skip
        os.close(other)
        self.shown = ""

    def load(self) -> None:
        """Load the stored script."""
        self.type(LOADS[self._name].format(file=FOLDER / f"sanarestore.{self._name}") + "; echo LOAD''ED\n")
        assert self.wait_for("LOADED"), self.shown

    def type(self, keys: str) -> None:
        """Type on the terminal."""
        os.write(self._terminal, keys.encode())

    def completes(self, line: str, whole: str) -> bool:
        """Whether a tab at the end of a line writes the whole of it; fish, which draws every letter anew, is asked."""
        if self._name == "fish":
            self.type(f"complete -C '{line}'\n")
            return self.wait_for(whole.rpartition(" ")[2])
        self.type(f"{line}\t")
        is_whole = self.wait_for(whole)
        self.type("\x15echo LI''NE\n")  # remove the line
        return is_whole and self.wait_for("LINE")

    def wait_for(self, text: str, seconds: float = 60.0) -> bool:
        """Whether a text is shown after what was waited for before."""
        end = time.monotonic() + seconds
        while text not in self.shown and time.monotonic() < end:
            if select.select([self._terminal], [], [], 0.2)[0]:
                try:
                    self.shown += os.read(self._terminal, 65536).decode(errors="replace")
                except OSError:
                    break
        _, found, self.shown = self.shown.partition(text)
        return bool(found)

    def close(self) -> None:
        """End the shell."""
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)


@pytest.fixture(params=STARTS)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    if shutil.which(request.param) is None:
        pytest.skip(f"there is no {request.param} here")
    made = Shell(request.param, tmp_path)
    try:
        made.load()
        yield made
    finally:
        made.close()


def test_a_shell_completes_commands_flags_and_values(shell: Shell, tmp_path: Path) -> None:
    """Whatever is typed here is the only one that fits, so that a shell writes it out."""
    Path(tmp_path, "sanarestore.toml").write_text('[preset.product]\nprompt = "remove noise"\n', encoding="utf-8")
    for typed, completed in (
        ("resto", "restore"),
        ("restore --fid", "--fidelity"),
        ("restore --tiling multi", "multidiffusion"),
        ("restore --preset pro", "product"),
        ("restore --dtype bfl", "bfloat16"),
        ("seams --tilings causal,ind", "causal,independent"),
        ("bench --task deb", "deblur"),
        ("bench urban", "urban100"),
        ("degrade --recipe mess", "messenger"),
        ("train --base scr", "scratch"),
    ):
        start, space, _ = f"sanarestore {typed}".rpartition(" ")
        assert shell.completes(f"sanarestore {typed}", f"{start}{space}{completed}"), (typed, shell.shown)
