"""Measure what is planned, and show and write the rows."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sanarestore.cli.bench import outputs
from sanarestore.cli.bench.plan import Wanted, check, plans_of
from sanarestore.options import RestoreOptions

if TYPE_CHECKING:
    from sanarestore.cli.figures import BenchReport
    from sanarestore.evaluation.benchmark import Benchmark
    from sanarestore.evaluation.published import Published
    from sanarestore.evaluation.rows import Row


def measure(
    wanted: Wanted,
    options: RestoreOptions,
    devices: str,
    *,
    output: Path | None,
    csv: Path | None,
    page: Path | None,
    old: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure, with `output` on from where an earlier run stopped; compare with the rows of `old`."""
    check(wanted, options)
    outputs.check_writable(csv, page)
    from sanarestore.cli import figures
    from sanarestore.engine.workers import parse_devices
    from sanarestore.evaluation.comparison import compare, read_rows, unmatched
    from sanarestore.evaluation.rows import Row
    from sanarestore.ndjson import Lines

    earlier = read_rows(old) if old is not None else None
    _download(wanted, quiet=quiet or as_json)
    plans = plans_of(wanted, options, devices)
    lines = Lines(output / "scores.jsonl") if output else None
    measured: list[Row] = []
    beside: list[Published] = []
    total = sum(len(plan.items) * len(plan.cases) for plan in plans)
    with figures.BenchReport(total, quiet=quiet, as_json=as_json) as report:
        for plan in plans:
            rows = _rows(plan, devices, lines, report)
            known = _published(plan, rows)
            report.rows(_together(rows, known))
            _warn_of_few(rows, quiet=quiet or as_json)
            measured += rows
            beside += known
        if earlier is not None:
            report.changes([change.to_json() for change in compare(earlier, measured)], unmatched(earlier, measured))
    if csv is not None:
        outputs.write_csv(csv, measured, Row)
    if page is not None:
        outputs.write_report(page, plans, measured, beside, parse_devices(devices)[0])


def _download(wanted: Wanted, *, quiet: bool) -> None:
    from sanarestore.cli import reports
    from sanarestore.evaluation.downloads import download

    for name in wanted.names if wanted.download else ():
        reports.show_counting(f"downloading {name.lower()}", download(name, wanted.data_dir), quiet=quiet)


def _rows(plan: "Benchmark", devices: str, lines: Any, report: "BenchReport") -> "list[Row]":
    """Measure one benchmark, showing progress by images and cases."""
    from sanarestore.engine.workers import parse_devices
    from sanarestore.evaluation.benchmark import run
    from sanarestore.evaluation.rows import rows

    scores, begun = [], set()
    for score in run(plan, parse_devices(devices), lines):
        scores.append(score)
        place = (score.item, score.task, score.level, score.draw)
        report.score(score.dataset, f"{score.task} {score.level}", finished=place not in begun)
        begun.add(place)
    return rows(scores)


def _published(plan: "Benchmark", rows: "Sequence[Row]") -> "list[Published]":
    """Published figures for these rows; there are none unless the whole set was measured."""
    from sanarestore.evaluation.public import GRAY, SETS
    from sanarestore.evaluation.published import of_others

    is_whole = plan.dataset in SETS and len(plan.items) == SETS[plan.dataset].count
    return of_others(rows, gray=plan.gray or plan.dataset in GRAY) if is_whole else []


def _together(rows: "Sequence[Row]", published: "Sequence[Published]") -> list[dict[str, Any]]:
    """List the rows as JSON; after those of each task and level come the published ones for it."""
    lines: list[dict[str, Any]] = []
    for (task, level), group in groupby(rows, lambda row: (row.task, row.level)):
        lines += [row.to_json() for row in group]
        lines += [each.to_json() for each in published if (each.task, each.level) == (task, level)]
    return lines


def _warn_of_few(rows: "Sequence[Row]", *, quiet: bool) -> None:
    """Say so where FID is measured on too few images."""
    from sanarestore.cli import console
    from sanarestore.evaluation.rows import FID_IMAGES

    few = [row.images for row in rows if row.fid is not None and row.images < FID_IMAGES]
    if few:
        console.say(f"FID of {max(few)} images says little: below {FID_IMAGES} it is biased upwards", quiet=quiet)
