"""`sanarestore doctor`: what this installation can do, what is missing, and what mends it."""

import shutil
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from sanarestore.cli.flags import Debug, Json, Quiet
from sanarestore.errors import ExitCode

if TYPE_CHECKING:
    from sanarestore.engine.diagnosis import Finding

TITLES = {
    "versions": "Versions", "optional": "Optional parts", "memory": "Memory", "folders": "Folders",
    "model": "Embedded model", "devices": "Devices",
}  # fmt: skip
"""Titles of the groups of findings."""

MARKS = {"ok": "  ", "missing": "- ", "problem": "! "}
"""What a line begins with."""

NAMES = 18
"""Columns that the names take."""


def doctor(as_json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """Check the installation: versions, devices, memory, model and folders. Exit code 1 if restoring does not work."""
    from sanarestore.cli import console
    from sanarestore.engine.diagnosis import diagnose

    problems = missing = 0
    group = ""
    for finding in diagnose():
        problems += finding.status == "problem"
        missing += finding.status == "missing"
        if as_json:
            console.print_json(finding.to_json())
        elif not quiet or finding.status == "problem":
            if finding.group != group:
                console.print_lines([*([""] if group else []), TITLES[finding.group]])
            console.print_lines(lines(finding, min(shutil.get_terminal_size().columns, 100)))
            group = finding.group
    if not as_json and not quiet:
        console.print_lines(["", _summary(problems, missing)])
    raise typer.Exit(ExitCode.SOME_FAILED if problems else ExitCode.DONE)


def lines(finding: "Finding", width: int) -> Iterator[str]:
    """The lines of one finding: mark, name, what was found, and below it what to do."""
    indent = " " * (2 + NAMES)
    first = f"{MARKS[finding.status]}{finding.name:<{NAMES - 1}} "
    # Paths and commands are not broken at hyphens, so that they can be copied.
    yield from textwrap.wrap(
        finding.found, max(width, 60), initial_indent=first, subsequent_indent=indent, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
    if finding.next_step:
        yield f"{indent}> {finding.next_step}"


def _summary(problems: int, missing: int) -> str:
    if problems:
        return f"Restoring does not work: {problems} problem{'s' * (problems > 1)}, marked with !."
    return "Restoring works." + (" Lines with - are about parts that it does not need." if missing else "")
