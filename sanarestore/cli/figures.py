"""Measured figures on their way out: progress while they are measured, tables or lines of JSON, and pages."""

import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from sanarestore.cli import console
from sanarestore.cli.reports import counting
from sanarestore.errors import UsageError
from sanarestore.evaluation.columns import Place, Record, table


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

    def step(self, description: str, *, finished: bool = True) -> None:
        """Show what is measured; `finished` is true once for each of `total`."""
        self._progress.update(self._task, description=console.escaped(description), advance=int(finished))

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


def page(folder: Path, write: Callable[..., None]) -> None:
    """Call `write(path, command=...)` with the command line of this run; UsageError if the page cannot be written."""
    try:
        write(folder / "index.html", command=shlex.join(["sanarestore", *sys.argv[1:]]))
    except OSError as error:
        raise UsageError(
            f"cannot be written ({error.strerror})", where=folder, next_step="Name another folder."
        ) from error
