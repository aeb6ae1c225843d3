"""Points over a logarithmic axis: places in an SVG picture, which the page's template draws."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

WIDTH, HEIGHT, EDGE = 640, 320, 55
"""Size of a plot and width of its margins, in pixels."""

STEPS = [step * 10.0**power for power in range(-9, 10) for step in (1, 2, 5)]
"""Ticks of the logarithmic axis."""


class Point(NamedTuple):
    """A point of a plot; x is above 0. Points of one series share a colour, and the label stands beside the point."""

    x: float
    y: float
    series: str
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """Places in pixels from the top left."""

    across: str
    up: str
    """Names of the axes."""
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    """Places and labels."""
    marks: list[tuple[float, float, int, str]]
    """Place, hue and label of each point."""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = EDGE
    right: int = WIDTH - 20
    bottom: int = HEIGHT - EDGE


def plot(points: Sequence[Point], across: str, up: str) -> Plot:
    """Place points, one at least, between round ticks."""
    steps = _steps_around([point.x for point in points])
    heights = [point.y for point in points]
    x = _scale([math.log10(step) for step in steps], EDGE + 20, WIDTH - 60)
    y = _scale(heights, HEIGHT - EDGE - 15, 30)
    series = list(dict.fromkeys(point.series for point in points))
    hue = {name: number * 360 // len(series) for number, name in enumerate(series)}
    return Plot(
        across=across, up=up,
        x_ticks=[(x(math.log10(step)), f"{step:g}") for step in steps],
        y_ticks=[(y(number), f"{number:g}") for number in _round_numbers(heights)],
        marks=[(x(math.log10(point.x)), y(point.y), hue[point.series], point.label) for point in points],
    )  # fmt: skip


def _steps_around(values: Sequence[float]) -> list[float]:
    """Return the ticks that just enclose the values; nearly equal values stay close together on such an axis."""
    low = max(step for step in STEPS if step <= min(values))
    high = min(step for step in STEPS if step >= max(values))
    return [step for step in STEPS if low <= step <= high]


def _round_numbers(values: Sequence[float]) -> list[float]:
    """Return about five round numbers within the range of the values, or the smallest value if it holds none."""
    span = max(values) - min(values)
    step = next(each for each in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if each * 6 >= span or each == 20)
    first, last = math.ceil(min(values) / step), math.floor(max(values) / step)
    return [round(number * step, 1) for number in range(first, last + 1)] or [round(min(values), 1)]


def _scale(values: Sequence[float], begin: float, end: float) -> Callable[[float], float]:
    """Return the linear map from the range of the values to positions from `begin` to `end`, to a tenth."""
    low, span = min(values), max(max(values) - min(values), 1e-9)
    return lambda value: round(begin + (value - low) / span * (end - begin), 1)
