"""The manual page, from the same text as the help: `python -m sanarestore.cli.manual man` writes man/sanarestore.1."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from sanarestore.cli.app import app
from sanarestore.cli.helppage import HelpPage, Panel, page_of

_SETTINGS = (
    "The value of an option is looked for on the command line, in the preset that --preset names, in an environment "
    "variable, in ./sanarestore.toml and in the user's file, which `sanarestore config path` shows; the first that is "
    "found wins. The name of a variable holds the command and the flag, as in SANARESTORE_RESTORE_MEMORY_PER_FILE. A "
    "file has a table for each command, and keys are flags without dashes in front:",
)
_FILE = '[restore]\ntile = 1024\nmemory-per-file = "8G"\n\n[preset.product]\nprompt = "remove noise"\nstrength = 0.8'
_FLAGS = (
    "Each flag without a value has a form that turns it off where a setting has turned it on, as in --no-overwrite."
)
_VARIABLES = (
    ("SANARESTORE_COMMAND_OPTION", "the value of an option, such as SANARESTORE_RESTORE_TILE"),
    ("SANARESTORE_DATA", "folder of the test sets of bench"),
    ("SANARESTORE_TRITON", "0 turns the Triton kernels off"),
    ("NO_COLOR", "turns colours off"),
)


def manual() -> str:
    """The page in the macros of man(7)."""
    program: Any = typer.main.get_command(app)
    root: Any = program.context_class(program, info_name="sanarestore", **program.context_settings)
    top = page_of(program, root)
    lines = ['.TH SANARESTORE 1 "" "sanarestore" "User Commands"', ".SH NAME"]
    lines += [_escaped("sanarestore - restore photographs in batches"), ".SH SYNOPSIS"]
    pages = list(_pages(program, root))
    for page in pages:
        lines += [f".B {_escaped(page.path)}", _escaped(" ".join(page.pieces)), ".br"]
    lines += [
        ".SH DESCRIPTION",
        _escaped(top.about),
        *_panels([each for each in top.panels if each.title == "Options"]),
    ]
    for page in pages:
        lines += [f".SH {_escaped(page.path.removeprefix('sanarestore ').upper())}", _escaped(page.about)]
        lines += _panels(page.panels)
        lines += [".SS Examples", *_examples(page), ".SS Exit codes"]
        lines += [text for code, meaning in page.codes.items() for text in (".TP 6", f".B {code}", _escaped(meaning))]
    lines += [".SH SETTINGS", *map(_escaped, _SETTINGS), ".PP", ".nf", *(_escaped(each) for each in _FILE.split("\n"))]
    lines += [".fi", ".PP", _escaped(_FLAGS), ".SH ENVIRONMENT"]
    lines += [text for name, meaning in _VARIABLES for text in (".TP", f".B {name}", _escaped(meaning))]
    return "\n".join(lines) + "\n"


def write(folder: Path) -> Path:
    """Write `sanarestore.1` into a folder, which is created if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "sanarestore.1"
    file.write_text(manual(), encoding="utf-8", newline="\n")
    return file


def _pages(group: Any, context: Any) -> Iterator[HelpPage]:
    """The pages of all commands, those of groups of commands in place of the group."""
    for name, command in group.commands.items():
        below = command.context_class(command, info_name=name, parent=context)
        if hasattr(command, "commands"):
            yield from _pages(command, below)
        elif not command.hidden:
            yield page_of(command, below)


def _panels(panels: tuple[Panel, ...] | list[Panel]) -> Iterator[str]:
    for panel in panels:
        yield f".SS {_escaped(panel.title)}"
        for entry in panel.entries:
            names = ", ".join(f"\\fB{_escaped(name)}\\fR" for name in entry.names)
            value = f" \\fI{_escaped(entry.metavar)}\\fR" if entry.metavar else ""
            yield from (".TP", names + value, _escaped(entry.text))


def _examples(page: HelpPage) -> Iterator[str]:
    for line, meaning in page.examples:
        yield from (".TP", f".B {_escaped(line)}", _escaped(meaning))


def _escaped(text: str) -> str:
    """Text that roff prints as it stands: dashes stay dashes, and no line begins with a control character."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return f"\\&{text}" if text.startswith((".", "\\(aq")) else text


if __name__ == "__main__":
    write(Path(sys.argv[1]))
