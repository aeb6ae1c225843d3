"""Show what a batch yields: in the report of the run, and on pages with pictures."""

import shlex
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from sanarestore.errors import UsageError

if TYPE_CHECKING:
    from sanarestore.cli.contact_sheet import ContactSheet
    from sanarestore.cli.reports import Report
    from sanarestore.engine.jobs import Outcome, TileDone, Waiting


def sheet_of(folder: Path | None, inputs: Sequence[str]) -> "AbstractContextManager[ContactSheet | None]":
    """Return the pages for `--report`, None without a folder; UsageError if its pictures would be inputs of the next
    run."""
    if folder is None:
        return nullcontext()
    above = [each for each in inputs if Path(each).is_dir() and folder.resolve().is_relative_to(Path(each).resolve())]
    if above:
        raise UsageError(
            f"it lies in the input {above[0]}, and its pictures would be restored by the next run", where=folder,
            next_step="Name a folder outside the inputs with --report.",
        )  # fmt: skip
    from sanarestore.cli.contact_sheet import ContactSheet

    return ContactSheet(folder, shlex.join(["sanarestore", *sys.argv[1:]]))


def shown(
    events: "Iterable[Waiting | TileDone | Outcome]", report: "Report", sheet: "ContactSheet | None", *,
    fail_fast: bool, debug: bool,
) -> bool:  # fmt: skip
    """Report what a batch yields; return True if a file has failed and the batch stops at the first failure."""
    from sanarestore.cli import console
    from sanarestore.engine.jobs import TileDone, Waiting

    for event in events:
        if isinstance(event, Waiting):
            report.expect(event.files, event.size)
        elif isinstance(event, TileDone):
            report.part(
                event.path, event.done, event.total, megapixels=event.megapixels, size=event.size,
                label=event.expert or "",
            )  # fmt: skip
        else:
            report.add(event)
            if sheet is not None:
                sheet.add(event)
            console.say_lines(event.trace.splitlines() if debug else ())
            if fail_fast and event.status == "failed":
                return True
    return False
