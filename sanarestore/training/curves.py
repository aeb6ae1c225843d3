"""Curves over the steps of a run, placed in an SVG picture that templates draw."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 300, 58, 12, 28, 34
"""Size of a picture and of its margins, in pixels."""

MOST = 8
"""Largest number of curves in one picture."""

MOST_TICKS = 20
"""Largest number of blocks that are numbered in a picture."""

SMOOTHING, FEW = 0.9, 10
"""Largest decay per point of the running mean that smooths a loss, and number of points at which it is half as
large."""

Points = Sequence[tuple[int, float]]
"""Step and value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One curve."""

    label: str
    path: str
    """Its path in SVG."""
    hue: int
    """Its colour, in degrees."""
    is_faint: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """Curves between their axes; places are in pixels from the top left."""

    title: str
    up: str
    """Name and unit of the values."""
    curves: Sequence[Curve]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    zero: float | None
    """Place of the value 0, where it lies within the picture."""
    left_out: int = 0
    """Number of curves that are not shown."""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def loss_picture(points: Points) -> Picture | None:
    """The loss and its smoothed mean; None with fewer than two points."""
    if len(points) < 2:
        return None
    smooth = smoothed(points)
    return _picture("Loss", "value, over the steps", {"each": points, "smoothed": smooth}, faint=("each",))


def gain_picture(gains: Mapping[str, Points]) -> Picture | None:
    """PSNR of each degradation against the first validation; None with fewer than two validations."""
    shown = {
        label: [(step, value - points[0][1]) for step, value in points]
        for label, points in gains.items() if len(points) > 1
    }  # fmt: skip
    if not shown:
        return None
    first = min(points[0][0] for points in shown.values())
    return _picture("Validation", f"PSNR against step {first:,} in dB, over the steps", shown)


def importance_picture(importances: Sequence[float], removed: Collection[int]) -> Picture | None:
    """The importance of each block as a line up from zero, in another colour for removed blocks; None without
    blocks."""
    if not importances:
        return None
    high = max(*importances, 1e-9) * 1.06

    def x(number: float) -> float:
        return round(LEFT + (number + 0.5) / len(importances) * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - value / high * (HEIGHT - TOP - BOTTOM), 1)

    groups = {"kept": (210, False), "removed": (0, True)}
    curves = [
        Curve(
            label=label, hue=hue,
            path="".join(
                f"M{x(number)} {y(0)}V{y(value)}"
                for number, value in enumerate(importances) if (number in removed) is is_gone
            ),
        )
        for label, (hue, is_gone) in groups.items()
    ]  # fmt: skip
    every = -(-len(importances) // MOST_TICKS)
    return Picture(
        title="Importance of the blocks", up="1 - cosine similarity of input and output, by block",
        curves=[each for each in curves if each.path],
        x_ticks=[(x(number), str(number)) for number in range(0, len(importances), every)],
        y_ticks=[(y(value), f"{value:g}") for value in round_numbers(0, high)], zero=None,
    )  # fmt: skip


def smoothed(points: Points) -> list[tuple[int, float]]:
    """Exponential running mean of the values, corrected for its bias at the beginning."""
    total, weight, found = 0.0, 0.0, []
    decay = min(SMOOTHING, len(points) / (len(points) + FEW))
    for step, value in points:
        total, weight = decay * total + (1 - decay) * value, decay * weight + (1 - decay)
        found.append((step, total / weight))
    return found


def round_numbers(low: float, high: float, about: int = 5) -> list[float]:
    """Return round numbers from `low` to `high`, roughly `about` of them."""
    span = max(high - low, 1e-12)
    raw = span / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _picture(title: str, up: str, series: Mapping[str, Points], faint: Sequence[str] = ()) -> Picture:
    shown = dict(list(series.items())[:MOST])
    steps = [step for points in shown.values() for step, _ in points]
    values = [value for points in shown.values() for _, value in points if math.isfinite(value)]
    low, high = min(values, default=0.0), max(values, default=1.0)
    pad = 0.06 * (high - low) or max(abs(high), 1.0) * 0.05
    low, high = low - pad, high + pad
    first, last = min(steps), max(max(steps), min(steps) + 1)

    def x(step: float) -> float:
        return round(LEFT + (step - first) / (last - first) * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    curves = [
        Curve(
            label=label,
            hue=(210 + number * 360 // max(len(shown) - len(faint), 1)) % 360,
            is_faint=label in faint,
            path="M" + "L".join(f"{x(step)} {y(value)}" for step, value in points if math.isfinite(value)),
        )
        for number, (label, points) in enumerate(shown.items())
    ]
    return Picture(
        title=title, up=up, curves=curves, left_out=len(series) - len(shown),
        x_ticks=[(x(step), f"{step:,.0f}") for step in round_numbers(first, last)],
        y_ticks=[(y(value), f"{value:g}") for value in round_numbers(low, high)],
        zero=y(0) if low < 0 < high else None,
    )  # fmt: skip
