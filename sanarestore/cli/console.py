"""What is said: sentences, errors and tables on stderr, data on stdout. It and `reports` are all that knows Rich.

NO_COLOR is honoured by Rich itself. Errors are always said.
"""

import json
import sys
import traceback
from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sanarestore import weights

# No emoji: a file may be called :cat:.jpg.
stderr = Console(stderr=True, highlight=False, emoji=False)


def is_live(*, quiet: bool) -> bool:
    """Whether moving progress is wanted and possible; FORCE_COLOR makes no terminal of a log."""
    return not quiet and stderr.file.isatty() and stderr.is_terminal and not stderr.is_dumb_terminal


def say(message: str, *, quiet: bool = False) -> None:
    """A sentence for the user, on stderr."""
    if not quiet:
        stderr.print(Text(message), soft_wrap=True)


def show_licences(*names: str | None, wanted: tuple[str, ...] = weights.WANTED) -> None:
    """Of weights from the hub, once: SANA's are not under its code's licence. Not even --quiet hides it."""
    notices = [weights.licence_notice(name, wanted=wanted) for name in names if name]
    for notice in filter(None, notices):
        say(notice)


def error(problem: Exception | str, *, trace: bool = False) -> None:
    """Say what went wrong, on stderr; with the traceback if asked."""
    if trace and isinstance(problem, Exception):
        traceback.print_exception(problem)
    print_word("error", "bold red", str(problem))


def print_word(word: str, style: str, message: str) -> None:
    """A message after a coloured word. As Text and not as markup, because names of files may look like that."""
    stderr.print(Text.assemble((word, style), " ", message), soft_wrap=True)


def table(title: str, columns: list[str], rows: list[list[str]], *, texts: int = 1) -> None:
    """A table on stderr; the first columns, `texts` of them, are text, the others are figures."""
    drawn = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for index, column in enumerate(columns):
        drawn.add_column(column, justify="left" if index < texts else "right", no_wrap=True)
    for row in rows:
        drawn.add_row(*row)
    stderr.print(drawn)


def print_json(line: Mapping[str, Any]) -> None:
    """One line of NDJSON on stdout, at once; ASCII, because names need not be text in the terminal's encoding."""
    sys.stdout.write(json.dumps(line, default=str) + "\n")
    sys.stdout.flush()
