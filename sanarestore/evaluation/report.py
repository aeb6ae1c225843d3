"""A benchmark as one self-contained HTML page: tables, quality against speed, best and worst crops."""

import html
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from sanarestore.evaluation.benchmark import Benchmark
from sanarestore.evaluation.page import figures, table, write_page
from sanarestore.evaluation.published import Published
from sanarestore.evaluation.rows import DEGRADED, Row
from sanarestore.evaluation.sources import sources
from sanarestore.evaluation.tasks import Case
from sanarestore.images import Pixels

CROP = 160
"""Side of a crop in pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One image that a method did best or worst on."""

    title: str
    """Set, task, level."""
    kind: str
    """best or worst."""
    item: str
    gain: float
    """Gain over the degraded input in dB; where nothing was degraded, the PSNR itself."""
    pictures: dict[str, Pixels]
    """Name -> the same crop of the degraded input, of each method's result, and of the target."""


def most_wrong(target_HWC: Pixels, other_HWC: Pixels) -> tuple[slice, slice]:
    """Find the crop of `CROP` pixels a side that differs most, on a grid of half its side."""
    error = np.square(target_HWC - other_HWC).sum(axis=2)
    sums = np.pad(error, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    height, width = (min(CROP, side) for side in error.shape)
    places = [
        (top, left)
        for top in range(0, error.shape[0] - height + 1, CROP // 2)
        for left in range(0, error.shape[1] - width + 1, CROP // 2)
    ]

    def wrong(place: tuple[int, int]) -> float:
        (top, left), (bottom, right) = place, (place[0] + height, place[1] + width)
        return float(sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[place])

    top, left = max(places, key=wrong)
    return slice(top, top + height), slice(left, left + width)


def extremes(plan: Benchmark, rows: Sequence[Row], device: str) -> Iterator[Example]:
    """Yield the images on which the last method gained most and least, for every task and level.

    Where nothing was degraded, these are the images of its highest and lowest PSNR.
    """
    bench = plan.on(device, {})
    numbers = {item.name: number for number, item in enumerate(plan.items)}
    cases: dict[tuple[str, str], Case] = {}
    for case in plan.cases:
        cases.setdefault((case.task, case.level), case)  # keep the first of several draws
    for (task, level), case in cases.items():
        mine = [row for row in rows if (row.dataset, row.task, row.level) == (plan.dataset, task, level)]
        after = mine[-1].psnr_per_image
        before = mine[0].psnr_per_image if case.degrades else dict.fromkeys(after, 0.0)
        gains = {name: after[name] - before[name] for name in after}
        for kind, choose in (("best", max), ("worst", min)):
            name = choose(gains, key=lambda each: gains[each])
            pictures = bench.pictures(numbers[name], case, [row.method for row in mine])
            place = most_wrong(pictures["target"], pictures[DEGRADED if case.degrades else mine[-1].method])
            yield Example(
                title=f"{plan.dataset} {task} {level}", kind=kind, item=name, gain=gains[name],
                pictures={each: pixels[place] for each, pixels in pictures.items()},
            )  # fmt: skip


def write_report(
    path: Path, rows: Sequence[Row], examples: Iterable[Example], published: Sequence[Published] = (), *, command: str
) -> None:
    """Write the page, with published figures for the same sets; OSError if the file cannot be written."""
    parts = []
    shown = list(examples)
    for dataset, group in groupby(rows, lambda row: row.dataset):
        mine = list(group)
        others = [each for each in published if each.dataset == dataset]
        label = sources([*(row.to_json() for row in mine), *(each.to_json() for each in others)])
        parts += [f"<h2>{html.escape(dataset)}, {mine[0].images} images</h2>", _table(mine)]
        parts += [_published(others), "".join(f"<p>{html.escape(sentence)}</p>" for sentence in label), _plot(mine)]
        parts += [_example(example) for example in shown if example.title.startswith(f"{dataset} ")]
    write_page(path, "sanarestore bench", command, parts)


def _published(figures: Sequence[Published]) -> str:
    if not figures:
        return ""
    lines = [[f"{each.task} {each.level}", each.method, f"{each.psnr:.2f}"] for each in figures]
    return "<h3>As published</h3>" + table(("", "method", "PSNR"), lines)


def _table(rows: Sequence[Row]) -> str:
    columns: dict[str, Callable[[Row], str]] = {
        "PSNR": lambda row: f"{row.psnr:.2f}",
        "95%": lambda row: f"{row.interval[0]:.2f} to {row.interval[1]:.2f}",
        "worst": lambda row: _figure(row.worst_psnr, 2),
        "worst image": lambda row: row.worst_image or "",
        "largest change": lambda row: "" if row.largest_change is None else f"{row.largest_change} of 255",
        "gain": lambda row: "" if row.method == DEGRADED or row.gain is None else f"{row.gain:+.2f}",
        "improved": lambda row: "" if row.method == DEGRADED or row.improved is None else f"{row.improved:.0%}",
        "SSIM": lambda row: _figure(row.ssim, 4),
        "SSIM-Y": lambda row: _figure(row.ssim_y, 4),
        "PSNR-Y": lambda row: _figure(row.psnr_y, 2),
        "PSNR-B": lambda row: _figure(row.psnr_b, 2),
        "LPIPS": lambda row: _figure(row.lpips, 3),
        "DISTS": lambda row: _figure(row.dists, 3),
        "FID": lambda row: _figure(row.fid, 1),
        "right prompt": lambda row: "" if row.margin is None else f"{row.right_beats_wrong:.1%} by {row.margin:.2f} dB",
        "between seeds": lambda row: "" if row.seed_deviation is None else f"± {row.seed_deviation:.2f}",
        "seeds agree": lambda row: _figure(row.seed_agreement, 1),
        "parameters": lambda row: "" if row.parameters is None else f"{row.parameters / 1e6:.1f} M",
        "peak memory": lambda row: (
            "" if row.method == DEGRADED or row.peak_memory is None else f"{row.peak_memory / 2**20:.0f} MiB"
        ),
        "s/MP": lambda row: "" if row.method == DEGRADED else f"{row.seconds_per_megapixel:.2f}",
    }
    # Columns that are empty in all rows are left out.
    shown = {name: cell for name, cell in columns.items() if any(map(cell, rows))}
    cells, case = [], ""
    for row in rows:
        label = f"{row.task} {row.level}"
        cells.append(["" if label == case else label, row.method, *(cell(row) for cell in shown.values())])
        case = label
    return table(["", "method", *shown], cells)


def _figure(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _plot(rows: Sequence[Row]) -> str:
    """Plot PSNR against seconds per megapixel on a logarithmic axis, with one colour per case."""
    points = [row for row in rows if row.method != DEGRADED and row.seconds_per_megapixel > 0]
    if len(points) < 2:
        return ""
    width, height, edge = 640, 320, 55
    across = [math.log10(row.seconds_per_megapixel) for row in points]
    up = [row.psnr for row in points]
    seconds = _steps_around([row.seconds_per_megapixel for row in points])
    x = _scale([math.log10(each) for each in seconds], edge + 20, width - 160)
    y = _scale(up, height - edge - 15, 30)
    cases = list(dict.fromkeys(f"{row.task} {row.level}" for row in points))
    marks = []
    for row, one, other in zip(points, across, up, strict=True):
        case = f"{row.task} {row.level}"
        colour = f"hsl({cases.index(case) * 360 // len(cases)} 65% 45%)"
        label = f"{row.method}, {case}: {row.psnr:.2f} dB, {row.seconds_per_megapixel:.2f} s/MP"
        marks.append(
            f'<circle cx="{x(one):.1f}" cy="{y(other):.1f}" r="5" fill="{colour}">'
            f"<title>{html.escape(label)}</title></circle>"
            + _text(x(one) + 9, y(other) + 4, f"{row.method}, {case}", size=11)
        )
    ticks = [_text(x(math.log10(each)), height - edge + 18, f"{each:g}", anchor="middle") for each in seconds]
    ticks += [_text(edge - 6, y(each) + 4, f"{each:g}", anchor="end") for each in _whole_numbers(up)]
    axes = f'<path d="M{edge} 20V{height - edge}H{width - 20}" fill="none" stroke="currentColor"/>'
    names = _text(5, 14, "PSNR, dB") + _text(width - 20, height - 10, "seconds per megapixel", anchor="end")
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'<svg {size} role="img">{axes}{names}{"".join(ticks + marks)}</svg>'


def _text(x: float, y: float, words: str, *, size: int = 12, anchor: str = "start") -> str:
    label = html.escape(words)
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="currentColor" text-anchor="{anchor}">{label}</text>'


def _steps_around(values: Sequence[float]) -> list[float]:
    """Return ticks at 1, 2 and 5 times powers of ten that just enclose the values; nearly equal values stay close
    together on such an axis."""
    powers = range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
    steps = [step * 10.0**power for power in powers for step in (1, 2, 5)]
    first = max(place for place, step in enumerate(steps) if step <= min(values))
    return [
        step
        for place, step in enumerate(steps)
        if place >= first and (place == first or steps[place - 1] < max(values))
    ]


def _whole_numbers(values: Sequence[float]) -> list[float]:
    """Return about five round numbers within the range of the values, or the smallest value if it holds none."""
    span = max(values) - min(values)
    step = next(each for each in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if each * 6 >= span or each == 20)
    first, last = math.ceil(min(values) / step), math.floor(max(values) / step)
    return [round(number * step, 1) for number in range(first, last + 1)] or [round(min(values), 1)]


def _scale(values: Sequence[float], begin: float, end: float) -> Callable[[float], float]:
    """Return the linear map from the range of the values to positions from `begin` to `end`."""
    low, span = min(values), max(max(values) - min(values), 1e-9)
    return lambda value: begin + (value - low) / span * (end - begin)


def _example(example: Example) -> str:
    decibels = f"{example.gain:+.2f} dB" if DEGRADED in example.pictures else f"{example.gain:.2f} dB"
    label = f"{example.title}, {example.kind}: {example.item}, {decibels}"
    return f"<h3>{html.escape(label)}</h3>{figures(example.pictures)}"
