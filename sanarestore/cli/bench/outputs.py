"""Files that `bench` writes: rows as CSV, and a page."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sanarestore.errors import UsageError

if TYPE_CHECKING:
    from sanarestore.evaluation.benchmark import Benchmark
    from sanarestore.evaluation.published import Published
    from sanarestore.evaluation.rows import Row


def check_writable(csv: Path | None, page: Path | None = None) -> None:
    """Check before measuring that the CSV and the page can be written; UsageError if not."""
    for path, holder in ((csv, csv and csv.parent), (page, page)):
        if path is None or holder is None:
            continue
        there = next(each for each in (holder, *holder.absolute().parents) if each.exists())
        is_there = there == holder or holder is page  # the page's folder is created if missing, the CSV's is not
        if not is_there or not there.is_dir() or not os.access(there, os.W_OK) or (path is csv and path.is_dir()):
            raise UsageError(
                "cannot be written", where=path, next_step="Choose an existing folder that you may write to."
            )


def write_report(
    folder: Path, plans: "Sequence[Benchmark]", measured: "Sequence[Row]", beside: "Sequence[Published]", device: str
) -> None:
    """Write a page with the best and worst crops, restored again, into a folder; UsageError if it cannot be written."""
    from sanarestore.cli import figures
    from sanarestore.evaluation import report

    examples = [example for plan in plans for example in report.extremes(plan, measured, device)]
    figures.page(folder, partial(report.write_report, rows=measured, examples=examples, published=beside))


def write_csv(path: Path, measured: "Sequence[Any]", kind: type) -> None:
    """Write dataclasses of one type, a line each, without `psnr_per_image`; UsageError if this cannot be written."""
    import csv
    from dataclasses import asdict, fields

    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            names = [field.name for field in fields(kind) if field.name != "psnr_per_image"]
            names = [each for name in names for each in _columns(name)]
            writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            for each in measured:
                values = asdict(each)
                ends = {_columns(name): values[name] or ("", "") for name in values if name.endswith("interval")}
                writer.writerow(
                    values | {name: end for pair in ends for name, end in zip(pair, ends[pair], strict=True)}
                )
    except OSError as error:
        raise UsageError(
            f"cannot be written ({error.strerror})", where=path, next_step="Name another file with --csv."
        ) from error


def _columns(name: str) -> tuple[str, ...]:
    """Columns of a field: two for the ends of an interval, one otherwise."""
    return (f"{name}_low", f"{name}_high") if name.endswith("interval") else (name,)
