"""Console output: sentences, errors and tables on stderr, data on stdout. Only this module and `reports` use Rich.

NO_COLOR is honoured by Rich itself. Errors are always shown.
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
from sanarestore.ndjson import SCHEMA_VERSION

# No emoji: a file may be called :cat:.jpg.
stderr = Console(stderr=True, highlight=False, emoji=False)


def is_live(*, quiet: bool) -> bool:
    """Whether live progress is wanted and possible; FORCE_COLOR does not turn a log into a terminal."""
    return not quiet and stderr.file.isatty() and stderr.is_terminal and not stderr.is_dumb_terminal


def say(message: str, *, quiet: bool = False) -> None:
    """Print a sentence for the user on stderr."""
    if not quiet:
        stderr.print(Text(message), soft_wrap=True)


def show_licences(*names: str | None, wanted: tuple[str, ...] = weights.WANTED) -> None:
    """Show licences of hub weights once, even with --quiet: SANA's weights and code have different licences."""
    notices = [weights.licence_notice(name, wanted=wanted) for name in names if name]
    for notice in filter(None, notices):
        say(notice)


def error(problem: Exception | str, *, trace: bool = False) -> None:
    """Print what went wrong on stderr, with the traceback if asked."""
    if trace and isinstance(problem, Exception):
        traceback.print_exception(problem)
    print_word("error", "bold red", str(problem))


def print_word(word: str, style: str, message: str) -> None:
    """Print a message after a coloured word, as Text, because file names may look like markup."""
    stderr.print(Text.assemble((word, style), " ", message), soft_wrap=True)


def table(title: str, columns: list[str], rows: list[list[str]], *, texts: int = 1) -> None:
    """Print a table on stderr; the first `texts` columns are text, the others are figures."""
    drawn = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for index, column in enumerate(columns):
        drawn.add_column(column, justify="left" if index < texts else "right", no_wrap=True)
    for row in rows:
        drawn.add_row(*row)
    stderr.print(drawn)


def print_json(line: Mapping[str, Any]) -> None:
    """Print one line of NDJSON on stdout and flush, with `schema_version` first.

    ASCII, because a terminal may not encode every file name.
    """
    sys.stdout.write(json.dumps({"schema_version": SCHEMA_VERSION, **line}, default=str) + "\n")
    sys.stdout.flush()
