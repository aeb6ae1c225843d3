"""Files that `bench` writes: rows as CSV, and a page."""

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sanarestore.errors import UsageError
from sanarestore.files import write_atomically

if TYPE_CHECKING:
    from sanarestore.evaluation.benchmark import Benchmark
    from sanarestore.evaluation.columns import Record
    from sanarestore.evaluation.published import Published
    from sanarestore.evaluation.rows import Row


def check_writable(table: Path | None, page: Path | None = None) -> None:
    """Check before measuring that the CSV and the page can be written; UsageError if not."""
    for path, holder in ((table, table and table.parent), (page, page)):
        if path is None or holder is None:
            continue
        there = next(each for each in (holder, *holder.absolute().parents) if each.exists())
        is_there = there == holder or holder is page  # the page's folder is created if missing, the CSV's is not
        if not is_there or not there.is_dir() or not os.access(there, os.W_OK) or (path is table and path.is_dir()):
            raise UsageError(
                "cannot be written", where=path, next_step="Choose an existing folder that you may write to."
            )


def write_report(folder: Path, plans: "Sequence[Benchmark]", rows: "Sequence[Row | Published]", device: str) -> None:
    """Write a page with the best and worst crops, restored again, into a folder; UsageError if it cannot be written."""
    from sanarestore.cli import figures
    from sanarestore.evaluation import report
    from sanarestore.evaluation.rows import Row

    measured = [row for row in rows if isinstance(row, Row)]
    examples = [example for plan in plans for example in report.extremes(plan, measured, device)]
    figures.page(folder, partial(report.write_report, rows=rows, examples=examples))


def write_csv(path: Path, records: "Sequence[Record]") -> None:
    """Write records of one type, a line each, without `psnr_per_image`; UsageError if this cannot be written."""
    lines = [_flat(record) for record in records]
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


def _flat(record: "Record") -> dict[str, Any]:
    """Fields of a record by name; the ends of an interval are two fields."""
    values: dict[str, Any] = {}
    for name, value in asdict(record).items():
        if name.endswith("interval"):
            values[f"{name}_low"], values[f"{name}_high"] = value or ("", "")
        elif name != "psnr_per_image":
            values[name] = value
    return values
