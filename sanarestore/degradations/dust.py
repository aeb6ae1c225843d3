"""Dust and scratches of scanned film: specks, hairs and scratches, thin and nearly opaque.

Shape suffixes: h w pixels of a mark's box, N points.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sanarestore.degradations.operations import KeepsMeans
from sanarestore.images import Pixels

SPECKS, HAIRS = 0.55, 0.25
"""Shares of specks and of hairs among all marks; the others are scratches."""

UPRIGHT = 0.7
"""Share of scratches that run along the film, within a few degrees."""

Path = npt.NDArray[np.float64]
"""Points [N, 2] of a line, rows and columns in pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DustAndScratches(KeepsMeans):
    """Marks on film, drawn with soft edges over the picture.

    On negatives dust is white in the print, on slides black; scratches are white on both where they reach the emulsion.
    """

    density: float
    """Marks per megapixel, on average."""
    white: float
    """Share of marks that are white."""
    seed: int
    kind = "dust"

    def __call__(self, image_HWC: Pixels) -> Pixels:
        rng = np.random.default_rng(self.seed)
        height, width, _ = image_HWC.shape
        marked_HWC = np.array(image_HWC, dtype=np.float32)
        for _ in range(rng.poisson(self.density * height * width / 1e6)):
            tone = np.float32(rng.uniform(0.9, 1) if rng.random() < self.white else rng.uniform(0, 0.08))
            opacity = np.float32(rng.uniform(0.55, 1))
            path, radius = _mark(rng, height, width)
            box = _box(path, radius, height, width)
            if box is None:
                continue
            cover_hw1 = opacity * _cover(path, radius, box)[..., None]
            marked_HWC[box] += cover_hw1 * (tone - marked_HWC[box])
        return marked_HWC


def _mark(rng: np.random.Generator, height: int, width: int) -> tuple[Path, float]:
    """Draw the line of one mark, and its radius in pixels; a speck is a short one."""
    start = rng.uniform((0, 0), (height, width))
    kind = rng.random()
    if kind < SPECKS:
        radius = float(np.exp(rng.normal(np.log(1.1), 0.45)))
        return _walk(rng, start, length=float(rng.uniform(0, 2.5)) * radius, step=radius, bend=0.6), radius
    if kind < SPECKS + HAIRS:
        length = float(rng.uniform(8, 60))
        return _walk(rng, start, length=length, step=3.0, bend=0.35), float(rng.uniform(0.4, 1.0))
    angle = np.pi / 2 + rng.normal(0, 0.07) if rng.random() < UPRIGHT else rng.uniform(0, np.pi)
    path = _walk(rng, start, length=float(rng.uniform(30, 400)), step=20.0, bend=0.01, angle=float(angle))
    return path, float(rng.uniform(0.25, 0.8))


def _walk(
    rng: np.random.Generator, start: Path, *, length: float, step: float, bend: float, angle: float | None = None
) -> Path:
    """Draw a line from `start`: steps of a length, each turned by about `bend` radians more than the one before."""
    count = max(1, round(length / step))
    first = rng.uniform(0, 2 * np.pi) if angle is None else angle
    angles_N = first + np.cumsum(rng.normal(0, bend, count))
    steps_N2 = np.stack([np.sin(angles_N), np.cos(angles_N)], axis=1) * (length / count)
    return np.concatenate([start[None], start + np.cumsum(steps_N2, axis=0)])


def _box(path: Path, radius: float, height: int, width: int) -> tuple[slice, slice] | None:
    """Rows and columns of the image that a mark can touch; None if it lies outside."""
    low, high = np.floor(path.min(axis=0) - radius - 1), np.ceil(path.max(axis=0) + radius + 2)
    rows, columns = (
        slice(max(0, int(first)), min(size, int(last)))
        for first, last, size in zip(low, high, (height, width), strict=True)
    )
    return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None


def _cover(path: Path, radius: float, box: tuple[slice, slice]) -> Pixels:
    """Share of each pixel [h, w] that a mark covers: 1 on the line, falling to 0 over a pixel at its edge."""
    row_h1, column_1w = (np.arange(side.start, side.stop) + 0.5 for side in box)
    row_h1, column_1w = row_h1[:, None], column_1w[None]
    nearest_hw = np.full((row_h1.shape[0], column_1w.shape[1]), np.inf)
    for (top, left), (down, across) in _segments(path):
        length = down * down + across * across
        along_hw = ((row_h1 - top) * down + (column_1w - left) * across) / max(length, 1e-12)
        along_hw = np.clip(along_hw, 0, 1)
        away_hw = (row_h1 - top - along_hw * down) ** 2 + (column_1w - left - along_hw * across) ** 2
        np.minimum(nearest_hw, away_hw, out=nearest_hw)
    # A line thinner than a pixel covers less than all of it.
    cover_hw: Pixels = (np.clip(radius + 0.5 - np.sqrt(nearest_hw), 0, 1) * min(1.0, 2 * radius)).astype(np.float32)
    return cover_hw


def _segments(path: Path) -> Iterator[tuple[Path, Path]]:
    """Beginning and direction of each segment."""
    yield from zip(path[:-1], np.diff(path, axis=0), strict=True)
