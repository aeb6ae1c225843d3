"""Measure what is planned, and show and write the rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sanarestore.cli.bench.plan import Wanted, check, plans_of
from sanarestore.options import RestoreOptions

if TYPE_CHECKING:
    from sanarestore.cli import figures
    from sanarestore.evaluation.benchmark import Benchmark
    from sanarestore.evaluation.comparison import Change
    from sanarestore.evaluation.published import Published
    from sanarestore.evaluation.rows import Row


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """Files for results, and earlier results to compare with; None for flags that are not set."""

    output: Path | None
    """Folder that keeps scores, from which a later run continues."""
    csv: Path | None
    page: Path | None
    old: Path | None
    """Rows of an earlier benchmark."""


def measure(wanted: Wanted, options: RestoreOptions, devices: str, files: Files, *, as_json: bool, quiet: bool) -> None:
    """Measure, show the rows set by set, compare them with earlier ones, and write them."""
    from sanarestore.cli import figures

    check(wanted, options)
    figures.check_writable(files.csv, files.page)
    from sanarestore.engine.workers import parse_devices
    from sanarestore.evaluation.comparison import compare, read_rows, unmatched
    from sanarestore.evaluation.report import extremes, page_of
    from sanarestore.evaluation.rows import Row
    from sanarestore.ndjson import Lines

    earlier = read_rows(files.old) if files.old is not None else None
    _download(wanted, quiet=quiet or as_json)
    plans = plans_of(wanted, options, devices)
    lines = Lines(files.output / "scores.jsonl") if files.output else None
    shown: list[Row | Published] = []
    total = sum(len(plan.items) * len(plan.cases) for plan in plans)
    with figures.FigureReport(total, quiet=quiet, as_json=as_json) as report:
        for plan in plans:
            rows = _with_published(plan, _rows(plan, devices, lines, report))
            _show(rows, report)
            shown += rows
        measured = [row for row in shown if isinstance(row, Row)]
        if earlier is not None:
            _show_changes(compare(earlier, measured), unmatched(earlier, measured), report)
    if files.csv is not None:
        figures.write_csv(files.csv, measured)
    if files.page is not None:
        device = parse_devices(devices)[0]
        examples = [example for plan in plans for example in extremes(plan, measured, device)]
        figures.write_page(files.page, page_of(shown, examples))


def _download(wanted: Wanted, *, quiet: bool) -> None:
    from sanarestore.cli.bars import show_counting
    from sanarestore.evaluation.downloads import download

    for name in wanted.names if wanted.download else ():
        show_counting(f"downloading {name.lower()}", download(name, wanted.data_dir), quiet=quiet)


def _rows(plan: "Benchmark", devices: str, lines: Any, report: "figures.FigureReport") -> "list[Row]":
    """Measure one benchmark, showing progress by images and cases."""
    from sanarestore.engine.workers import parse_devices
    from sanarestore.evaluation.rows import rows
    from sanarestore.evaluation.running import run

    scores, begun = [], set()
    for score in run(plan, parse_devices(devices), lines):
        scores.append(score)
        place = (score.item, score.task, score.level, score.draw)
        report.step(f"{score.dataset} {score.task} {score.level}", advance=place not in begun)
        begun.add(place)
    return rows(scores)


def _with_published(plan: "Benchmark", rows: "Sequence[Row]") -> "list[Row | Published]":
    """Put published figures below the rows of their task and level, if the whole set was measured."""
    from sanarestore.evaluation.public import GRAY, SETS
    from sanarestore.evaluation.published import published

    is_whole = plan.dataset in SETS and len(plan.items) == SETS[plan.dataset].count
    is_gray = plan.gray or plan.dataset in GRAY
    found: list[Row | Published] = []
    for (task, level), group in groupby(rows, lambda row: (row.task, row.level)):
        found += group
        found += published(plan.dataset, task, level, gray=is_gray) if is_whole else []
    return found


def _show(rows: "Sequence[Row | Published]", report: "figures.FigureReport") -> None:
    """Show the rows of one set."""
    from sanarestore.evaluation.captions import remarks, sources, title_of
    from sanarestore.evaluation.columns import Place
    from sanarestore.evaluation.rows import FID_IMAGES, Row

    measured = [row for row in rows if isinstance(row, Row)]
    captions = [*sources(rows), *(sentence for row in measured for sentence in remarks(row))]
    report.lines(row.to_json() for row in rows)
    report.table(title_of(measured), rows, captions)
    judged = [row for row in measured if (row.lpips, row.dists, row.fid) != (None, None, None)]
    report.table("Perceptual metrics", judged, place=Place.PERCEPTUAL)
    few = [row.images for row in measured if row.fid is not None and row.images < FID_IMAGES]
    if few:
        report.note(f"FID of {max(few)} images says little: below {FID_IMAGES} it is biased upwards")


def _show_changes(changes: "Sequence[Change]", unmatched: Sequence[str], report: "figures.FigureReport") -> None:
    """Show what changed since an earlier benchmark, and what cannot be compared."""
    report.lines({"compared": True, **change.to_json()} for change in changes)
    report.lines({"compared": False, "reason": sentence} for sentence in unmatched)
    for sentence in unmatched:
        report.note(f"not compared: {sentence}")
    report.table("Changes since then", changes)
