"""A benchmark as an HTML page: tables, quality against speed, best and worst crops."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import numpy as np

from sanarestore.evaluation.benchmark import Bench, Benchmark
from sanarestore.evaluation.captions import sources, title_of
from sanarestore.evaluation.columns import Place, table
from sanarestore.evaluation.page import CROP, Page, Pictures, Section
from sanarestore.evaluation.plot import Plot, Point, plot
from sanarestore.evaluation.published import Published
from sanarestore.evaluation.rows import DEGRADED, Row, case_of
from sanarestore.evaluation.tasks import Case
from sanarestore.images import Pixels

NOTES = (
    "PSNR and gains are in dB. 95% is the bootstrap interval of the PSNR over the choice of images; improved is the "
    "share of results with a higher PSNR than the degraded input; s/MP is seconds per megapixel.",
)


def most_wrong(target_HWC: Pixels, other_HWC: Pixels) -> tuple[slice, slice]:
    """Find the crop of `CROP` pixels a side that differs most, on a grid of half its side."""
    error = np.square(target_HWC - other_HWC).sum(axis=2)
    places = [
        (slice(top, top + CROP), slice(left, left + CROP))
        for top in range(0, max(error.shape[0] - CROP, 0) + 1, CROP // 2)
        for left in range(0, max(error.shape[1] - CROP, 0) + 1, CROP // 2)
    ]
    return max(places, key=lambda place: float(error[place].sum()))


def extremes(plan: Benchmark, rows: Sequence[Row], device: str) -> Iterator[tuple[str, Pictures]]:
    """Yield the images on which the last method gained most and least, for every task and level, with the set's name.

    Where nothing was degraded, these are the images of its highest and lowest PSNR.
    """
    bench = plan.on(device, {})
    cases: dict[tuple[str, str], Case] = {}
    for case in plan.cases:
        cases.setdefault((case.task, case.level), case)  # keep the first of several draws
    for (task, level), case in cases.items():
        mine = [row for row in rows if (row.dataset, row.task, row.level) == (plan.dataset, task, level)]
        after = mine[-1].psnr_per_image
        gains = {name: after[name] - mine[0].psnr_per_image[name] for name in after} if case.degrades else after
        for kind, choose in (("best", max), ("worst", min)):
            name = choose(gains, key=lambda each: gains[each])
            gain = f"{gains[name]:{'+' if case.degrades else ''}.2f} dB"
            crops = _crops(plan, bench, name, case, [row.method for row in mine])
            yield plan.dataset, Pictures(f"{plan.dataset} {task} {level}, {kind}: {name}, {gain}", crops)


def _crops(plan: Benchmark, bench: Bench, name: str, case: Case, methods: Sequence[str]) -> dict[str, Pixels]:
    """Restore one image again, and cut out where the input, or else the last method, is most wrong."""
    number = next(number for number, item in enumerate(plan.items) if item.name == name)
    pictures = bench.pictures(number, case, methods)
    place = most_wrong(pictures["target"], pictures[DEGRADED if case.degrades else methods[-1]])
    return {each: pixels[place] for each, pixels in pictures.items()}


def page_of(rows: Sequence[Row | Published], examples: Iterable[tuple[str, Pictures]]) -> Page:
    """Return the page of measured and published rows; `examples` are pictures with the name of their set."""
    shown = list(examples)
    sections = []
    for dataset, group in groupby(rows, lambda row: row.dataset):
        here = list(group)
        measured = [row for row in here if isinstance(row, Row)]
        sections.append(
            Section(
                title=title_of(measured), tables=[table(here, Place.PAGE)], notes=sources(here), plot=_plot(measured),
                pictures=[pictures for name, pictures in shown if name == dataset],
            )
        )  # fmt: skip
    return Page(title="sanarestore bench", notes=NOTES, sections=sections)


def _plot(rows: Sequence[Row]) -> Plot | None:
    """Plot PSNR against seconds per megapixel, if there is something to compare."""
    points = [
        Point(row.seconds_per_megapixel, row.psnr, case_of(row), f"{row.method}, {case_of(row)}")
        for row in rows if row.method != DEGRADED and row.seconds_per_megapixel > 0
    ]  # fmt: skip
    return plot(points, "seconds per megapixel", "PSNR, dB") if len(points) > 1 else None
