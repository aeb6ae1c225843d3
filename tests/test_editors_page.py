"""Tests of the page on photo editors: its commands and its script work as described."""

import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from sanarestore import images
from sanarestore.cli.app import run
from tests.conftest import photo

PAGE = Path(__file__).parents[1] / "docs" / "editors.md"
NAMES = ("one.tif", "two words.tif")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the script is one for a POSIX shell")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of 16-bit TIFFs; the current folder is above it, and `sanarestore` is on the path."""
    program = tmp_path / "bin" / "sanarestore"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sanarestore "$@"\n')
    program.chmod(0o755)
    folder = tmp_path / "exported"
    folder.mkdir()
    for seed, name in enumerate(NAMES):
        noise = np.random.default_rng(seed).normal(0, 0.1, (48, 64, 3))
        tifffile.imwrite(folder / name, np.rint(np.clip(photo(48, 64) + noise, 0, 1) * 65535).astype(np.uint16))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PAGE.parents[1]), os.environ.get("PYTHONPATH", "")]))
    return folder


def is_restored(path: Path, given: bytes) -> bool:
    before, after = images.decode(given), images.read(path)
    assert (after.format, after.depth, after.pixels_HWC.shape) == ("tiff", "uint16", before.pixels_HWC.shape)
    rough = [np.abs(np.diff(each.pixels_HWC, axis=1)).mean() for each in (before, after)]
    return bool(rough[1] < rough[0] / 1.5)


def ran(command: str) -> bool:
    """Run a command of the page in this process, without the seconds in which another one imports torch."""
    program, *arguments = shlex.split(os.path.expandvars(command))
    assert program == "sanarestore"
    return run(arguments) == 0


def test_a_folder_is_restored(exported: Path) -> None:
    given = {name: (exported / name).read_bytes() for name in NAMES}
    assert ran(blocks("console")[0].removeprefix("$ "))
    assert all(is_restored(Path("restored", name), data) for name, data in given.items())
    assert {name: (exported / name).read_bytes() for name in NAMES} == given


@pytest.mark.skipif(importlib.util.find_spec("watchfiles") is None, reason="watchfiles is not installed")
def test_a_folder_is_watched(exported: Path) -> None:
    command = blocks("console")[1].removeprefix("$ ")
    assert " --watch " in command
    running = subprocess.Popen(f"exec {command}", shell=True)
    try:
        until = time.monotonic() + 90
        while not Path("restored", NAMES[1]).exists():
            assert running.poll() is None
            assert time.monotonic() < until
            time.sleep(0.2)
    finally:
        running.send_signal(signal.SIGINT)
    assert running.wait(30) == 130


def test_the_script_puts_results_in_the_places_of_copies_and_leaves_one_that_cannot_be_restored(
    exported: Path,
) -> None:
    script = Path("restore-copy")
    script.write_text(blocks("sh")[0])
    script.chmod(0o755)
    copy, broken = exported / NAMES[1], exported / "broken.tif"
    given = copy.read_bytes()
    broken.write_bytes(b"II*\0broken")
    assert subprocess.run([script.absolute(), copy, broken], check=False).returncode == 3
    assert is_restored(copy, given)
    assert broken.read_bytes() == b"II*\0broken"
    assert sorted(each.name for each in exported.iterdir()) == sorted(["broken.tif", *NAMES]), "nothing else is left"


def test_the_command_for_digikam_writes_the_output_that_is_there(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INPUT", str(exported / NAMES[1]))
    monkeypatch.setenv("OUTPUT", "BatchTool-1.digikamtempfile.tif")
    Path("BatchTool-1.digikamtempfile.tif").touch()
    given = (exported / NAMES[1]).read_bytes()
    assert ran(blocks("sh")[1])
    assert is_restored(Path("BatchTool-1.digikamtempfile.tif"), given)
