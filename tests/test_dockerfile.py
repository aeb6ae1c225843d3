"""Tests of the Dockerfile: copied files exist, and its syntax is that of Docker."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INSTRUCTIONS = {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "SHELL", "ENV", "VOLUME", "USER", "ENTRYPOINT", "CMD"}


def instructions() -> list[tuple[str, str]]:
    """Names and arguments of the instructions in order; a backslash at the end continues a line."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def let_through() -> list[str]:
    """Patterns of files that .dockerignore admits to the image; all others are excluded."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert lines[1] == "*"
    return [line[1:] for line in lines if line.startswith("!")]


def test_every_instruction_is_known_and_variables_are_declared() -> None:
    found = instructions()
    assert {name for name, _ in found} == INSTRUCTIONS
    last = [name for name, _ in found][::-1].index("FROM")
    declared = {argument.split("=")[0] for name, argument in found if name == "ARG"}
    used = {each for _, argument in found for each in re.findall(r"\$\{?([A-Z_]+)", argument)}
    assert used == declared
    final = dict(found[-last:])
    assert json.loads(final["ENTRYPOINT"]) == ["sanarestore"]
    assert final["USER"] not in ("0", "root")
    assert "/cache" in final["VOLUME"]


def test_what_is_copied_and_what_the_wheel_is_built_of_is_let_through() -> None:
    names = let_through()
    assert all((ROOT / name).exists() for name in names)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    built = re.findall(r'^"([\w/.-]+)" = ', project[project.index("wheel.shared-data") :], flags=re.MULTILINE)
    assert {Path(each).parts[0] for each in built} <= set(names)
    assert {"sanarestore", "pyproject.toml", "README.md", "LICENSE", "constraints.txt"} <= set(names)


def test_no_address_of_a_registry_is_written_down() -> None:
    assert not re.search(r"https?://|\w+\.(?:io|org|com)/", (ROOT / "Dockerfile").read_text(encoding="utf-8"))


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
def test_hadolint_finds_no_fault() -> None:
    ended = subprocess.run(["hadolint", str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")
