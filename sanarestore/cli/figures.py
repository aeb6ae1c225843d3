"""Output of measured figures: progress, tables or lines of JSON, CSV files and pages."""

import csv
import io
import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sanarestore.cli import console
from sanarestore.cli.bars import counting
from sanarestore.errors import UsageError
from sanarestore.evaluation.columns import Place, Record, table
from sanarestore.files import write_atomically

if TYPE_CHECKING:
    from sanarestore.evaluation.page import Page


class FigureReport:
    """Progress on stderr, figures on stdout: lines of JSON if asked for, tables otherwise."""

    def __init__(self, total: int, *, quiet: bool = False, as_json: bool = False) -> None:
        self._json, self._quiet = as_json, quiet or as_json
        self._progress = counting(quiet=self._quiet)
        self._task = self._progress.add_task("", total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def step(self, description: str, *, advance: bool = True) -> None:
        """Show what is measured, and advance the bar by one of `total`."""
        self._progress.update(self._task, description=console.escaped(description), advance=int(advance))

    def note(self, sentence: str) -> None:
        """Say something for the user."""
        console.say(sentence, quiet=self._quiet)

    def lines(self, objects: Iterable[Mapping[str, Any]]) -> None:
        """Print lines of JSON, if asked for."""
        for each in objects if self._json else ():
            console.print_json(each)

    def table(
        self, title: str, records: Sequence[Record], captions: Sequence[str] = (), *, place: Place = Place.TERMINAL
    ) -> None:
        """Print a table, unless JSON is asked for."""
        if records and not self._json:
            # A bar would divert stdout to stderr. Without one, stopping prints an empty line in some versions of Rich.
            is_shown = not self._progress.disable
            if is_shown:
                self._progress.stop()
            console.table(title, table(records, place), captions)
            if is_shown:
                self._progress.start()


def check_writable(table: Path | None, page: Path | None = None) -> None:
    """Check before measuring that a CSV file and a page's folder can be written; UsageError if not."""
    if table is not None and (table.is_dir() or not _may_write(table.parent)):
        raise _unwritable(table)
    # The page's folder is created if it is missing.
    if page is not None and not _may_write(next(each for each in (page, *page.absolute().parents) if each.exists())):
        raise _unwritable(page)


def _may_write(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK)


def _unwritable(path: Path) -> UsageError:
    return UsageError("cannot be written", where=path, next_step="Choose an existing folder that you may write to.")


def write_page(folder: Path, page: "Page") -> None:
    """Write a page into a folder, with the command line of this run; UsageError if it cannot be written."""
    try:
        page.write(folder / "index.html", shlex.join(["sanarestore", *sys.argv[1:]]))
    except OSError as error:
        raise UsageError(
            f"cannot be written ({error.strerror})", where=folder, next_step="Name another folder."
        ) from error


def write_csv(path: Path, records: Sequence[Record]) -> None:
    """Write records of one type, a line each, under the names of their fields; UsageError if this cannot be written."""
    lines = [record.to_csv() for record in records]
    text = io.StringIO()
    writer = csv.DictWriter(text, lines[0] if lines else (), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    try:
        if path.exists() and not path.is_file():  # a pipe or a device, such as /dev/stdout
            path.write_text(text.getvalue(), encoding="utf-8")
            return
        with write_atomically(path) as file:
            file.write(text.getvalue().encode())
    except OSError as error:
        raise UsageError(
            f"cannot be written ({error.strerror})", where=path, next_step="Name another file with --csv."
        ) from error
