"""Console output: sentences and errors on stderr, tables and JSON on stdout. Only this module, `reports`,
`training_report` and `helppage` use Rich.

NO_COLOR is honoured by Rich itself. Errors are always shown. A file name may hold control characters, which could
forge lines or change the terminal: all texts are shown through `escaped`.
"""

import json
import re
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from sanarestore import weights
from sanarestore.errors import SanarestoreError, UsageError
from sanarestore.evaluation.columns import Table
from sanarestore.ndjson import SCHEMA_VERSION

WIDEST = 10_000
"""Columns of a file or a pipe, which no table fills."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters, separators of lines, and characters that turn the direction of text."""

# No emoji: a file may be called :cat:.jpg.
stderr = Console(stderr=True, highlight=False, emoji=False)


def is_live(*, quiet: bool) -> bool:
    """Return whether live progress is wanted and possible; FORCE_COLOR does not turn a log into a terminal."""
    return not quiet and stderr.file.isatty() and stderr.is_terminal and not stderr.is_dumb_terminal


def escaped(text: str) -> str:
    """A text for the terminal, in one line: control characters are written as in Python, such as \\n and \\x1b."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def say(message: str, *, quiet: bool = False) -> None:
    """Print a sentence for the user on stderr."""
    if not quiet:
        _print_prose(Text(escaped(message)))


def say_lines(lines: Iterable[str]) -> None:
    """Print several lines for the user on stderr, as they are: some of them are commands to copy."""
    for line in lines:
        stderr.print(Text(escaped(line)), soft_wrap=True)


def show_licences(*names: str | None, wanted: tuple[str, ...] = weights.WANTED) -> None:
    """Show licences of hub weights once, even with --quiet: SANA's weights and code have different licences."""
    notices = [weights.licence_notice(name, wanted=wanted) for name in names if name]
    for notice in filter(None, notices):
        say(notice)


def error(problem: Exception | str, *, trace: bool = False) -> None:
    """Print an error on stderr, a line for each of several faults; with a traceback if that is asked for."""
    if trace and isinstance(problem, Exception):
        say_lines("".join(traceback.format_exception(problem)).splitlines())
    if isinstance(problem, SanarestoreError):
        print_word("error", "bold red", problem.summary)
        say_lines(f"  {detail}" for detail in problem.details)
    else:
        print_word("error", "bold red", str(problem))


def print_word(word: str, style: str, message: str) -> None:
    """Print a message after a coloured word, as Text, because file names may look like markup."""
    _print_prose(Text.assemble((word, style), " ", escaped(message)))


def _print_prose(text: Text) -> None:
    """Print sentences: a terminal breaks them between words, and a file or a pipe gets whole lines."""
    stderr.print(text, soft_wrap=not stderr.file.isatty())


def table(title: str, found: Table, captions: Sequence[str] = ()) -> None:
    """Print a table on stdout, with captions below it.

    A narrow terminal breaks cells of words between words, and cuts nothing; a file or a pipe gets whole rows.
    """
    drawn = RichTable(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in found.columns:
        drawn.add_column(column.title, justify="left" if column.words else "right", no_wrap=not column.words)
    for row in found.rows:
        drawn.add_row(*(Text(escaped(cell)) for cell in row))
    stdout = Console(highlight=False, emoji=False)
    if stdout.legacy_windows:
        # Captured text cannot be coloured by calls of the old Windows console, and it shows escape codes as they are.
        stdout = Console(highlight=False, emoji=False, color_system=None)
    stdout.width = _narrowed(drawn, found, stdout.width) if sys.stdout.isatty() else WIDEST
    with stdout.capture() as shown:
        stdout.print(drawn)
    lines = [line.rstrip() for line in shown.get().splitlines()]  # the last is empty
    below = [*map(escaped, captions), *lines[-1:]] if captions else []
    _print([escaped(title), *lines, *below])  # the rows may have colours, which are control characters


def _narrowed(drawn: RichTable, found: Table, width: int) -> int:
    """Narrow columns of words, those on the right first, until the table fits; return the width that it needs."""
    measuring = Console(width=WIDEST)
    for place, column in reversed(list(enumerate(drawn.columns))):
        if found.columns[place].words and measuring.measure(drawn).maximum > width:
            words = " ".join([found.columns[place].title, *(row[place] for row in found.rows)]).split()
            column.width = max(map(cell_len, words))
    return max(width, measuring.measure(drawn).maximum)


def print_lines(lines: Iterable[str]) -> None:
    """Print on stdout at once; control characters, and what its encoding lacks, as in file names, are escaped."""
    _print(map(escaped, lines))


def _print(lines: Iterable[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    stdout = _stdout()
    encoding = stdout.encoding or "utf-8"
    stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stdout.flush()


def print_json(line: Mapping[str, Any]) -> None:
    """Print one line of NDJSON on stdout and flush, with `schema_version` first.

    ASCII, because a terminal may not encode every file name.
    """
    stdout = _stdout()
    stdout.write(json.dumps({"schema_version": SCHEMA_VERSION, **line}, default=str) + "\n")
    stdout.flush()


def _stdout() -> TextIO:
    """The stream for results; UsageError if it is closed, as after `>&-` in a shell."""
    if sys.stdout is None:
        raise UsageError("it is closed", where="stdout", next_step="Redirect it to a file or to /dev/null.")
    return sys.stdout
