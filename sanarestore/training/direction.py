"""Decide by their pixels which image of a pair is the degraded one, to find swapped columns of a list.

Names: `upper` is the image with more fine detail or noise, `lower` the other one; their difference is the excess. If
noise was added, the excess is uncorrelated with the lower image, and as strong in plain areas as elsewhere. If blur
removed detail, the excess correlates with the lower image at some scale, and the upper image has steeper edges.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from sanarestore.images import Pixels

Side = Literal["first", "second"]

CODES = 255.0
BLOCK = 16
"""Side of the blocks in which plain and detailed areas are told apart, in pixels."""
FEWEST_BLOCKS = 16
"""Fewest blocks that allow a decision."""
WEAKEST = 1.0
"""Root mean square of the excess, in 8-bit codes, below which two images count as equally sharp and noisy."""
PLAIN = 4.0
"""Standard deviation, in 8-bit codes, that a quarter of the lower image's blocks must exceed to show edges."""
EVEN = 0.6
"""Ratio of the excess in plain areas to that in detailed ones, above which it counts as noise."""
UNRELATED, RELATED = 0.08, 0.15
"""Correlation of the excess with the lower image, at the scale where it is largest: noise below the first value, lost
detail above the second. It is clearly negative if the lower image has noise of its own."""
AS_STEEP, STEEPER = 1.1, 1.2
"""Steepness of the upper image's edges relative to the lower one's: noise below the first value, blur above the
second."""
OF_BLOCKS = 1.05
"""Blockiness above which an image has JPEG blocks."""
BLOCKY, HINT_OF_BLOCKS = 1.25, 1.05
"""Blockiness of one image relative to the other: the first value is clear evidence, the second a reason not to call the
excess noise.
"""
SCALES = (1, 2, 4)
"""Sides of the areas that are averaged before the correlation is measured, in pixels."""
EDGES = 0.05
"""Share of all pixels that count as edges."""

Plane = npt.NDArray[np.float32]


def degraded_side(first_HWC: Pixels, second_HWC: Pixels) -> Side | None:
    """Return the side that looks degraded, by noise, lost detail or JPEG blocks; None if the pixels do not show it.

    Both images are [H, W, 1 or 3] in [0, 1], of one size, and show the same scene.
    """
    planes = {"first": _gray(first_HWC), "second": _gray(second_HWC)}
    fine = {side: _fine(plane) for side, plane in planes.items()}
    excess = fine["first"] - fine["second"]
    if len(_in_blocks(excess)) < FEWEST_BLOCKS or _rms(excess) < WEAKEST:
        return None
    sides: tuple[Side, Side] = ("first", "second")
    if _rms(fine["first"]) < _rms(fine["second"]):
        sides = ("second", "first")
    upper, lower = (planes[side] for side in sides)
    blockiness = [_blockiness(each) for each in (upper, lower)]
    blocky = blockiness[1] / blockiness[0]
    if max(blockiness) > OF_BLOCKS and max(blocky, 1 / blocky) > BLOCKY:
        return sides[1] if blocky > 1 else sides[0]
    related = [_correlation(_fine(_shrunk(upper, scale)), _fine(_shrunk(lower, scale))) for scale in SCALES]
    steeper = _steepness(upper, lower) / max(_steepness(_shrunk(upper, 8), _shrunk(lower, 8)), 0.1)
    if max(related) > RELATED and steeper > STEEPER:
        return sides[1]
    structure = _structure(lower)
    plain, detailed = _excess(fine[sides[0]] - fine[sides[1]], structure)
    is_noise = (
        plain > EVEN * detailed
        and np.quantile(structure, 0.75) > PLAIN
        and -RELATED < min(related) <= max(related) < UNRELATED
        and 1 / STEEPER < steeper < AS_STEEP
        and blocky < HINT_OF_BLOCKS
    )
    # Without edges, nothing shows whether they were kept.
    return sides[0] if is_noise else None


def _gray(image_HWC: Pixels) -> Plane:
    gray: Plane = image_HWC.mean(axis=2) * np.float32(CODES)
    return gray


def _fine(gray_HW: Plane) -> Plane:
    """The finest detail, [H - 2, W - 2]: white noise keeps its standard deviation (Immerkaer 1996)."""
    rows = gray_HW[:-2] - 2 * gray_HW[1:-1] + gray_HW[2:]
    return np.asarray((rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:]) / 6, dtype=np.float32)


def _rms(values: Plane) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _in_blocks(values_HW: Plane) -> Plane:
    """Arrange the values as [blocks, pixels of a block]; incomplete blocks at the borders are cut off."""
    rows, columns = (size // BLOCK for size in values_HW.shape)
    cut = values_HW[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    return cut.transpose(0, 2, 1, 3).reshape(rows * columns, BLOCK * BLOCK)


def _structure(gray_HW: Plane) -> Plane:
    """Standard deviation of every block."""
    return np.asarray(_in_blocks(gray_HW[1:-1, 1:-1]).std(axis=1), dtype=np.float32)


def _excess(excess_HW: Plane, structure_B: Plane) -> tuple[float, float]:
    """Typical strength of the excess in the plainest and in the most detailed quarter of the blocks."""
    strengths = np.sqrt(np.mean(np.square(_in_blocks(excess_HW)), axis=1))
    order = np.argsort(structure_B)
    quarter = max(1, len(order) // 4)
    return float(np.median(strengths[order[:quarter]])), float(np.median(strengths[order[-quarter:]]))


def _shrunk(gray_HW: Plane, scale: int) -> Plane:
    """Average squares of `scale` pixels a side; incomplete ones at the borders are cut off."""
    rows, columns = (size // scale for size in gray_HW.shape)
    cut = gray_HW[: rows * scale, : columns * scale].reshape(rows, scale, columns, scale)
    return np.asarray(cut.mean(axis=(1, 3)), dtype=np.float32)


def _correlation(upper_HW: Plane, lower_HW: Plane) -> float:
    """Correlation of the excess with the lower image; 0 if either is zero everywhere."""
    excess = upper_HW - lower_HW
    scale = _rms(excess) * _rms(lower_HW)
    return float(np.mean(excess * lower_HW)) / scale if scale else 0.0


def _steepness(upper_HW: Plane, lower_HW: Plane) -> float:
    """Slope of the upper image's gradients over those of the lower one, where these are largest.

    Noise in the upper image does not change it on average.
    """
    across, along = 0.0, 0.0
    for axis in (0, 1):
        upper, lower = np.diff(upper_HW, axis=axis), np.diff(lower_HW, axis=axis)
        edges = np.abs(lower) >= np.quantile(np.abs(lower), 1 - EDGES)
        across += float(np.sum(upper[edges] * lower[edges]))
        along += float(np.sum(np.square(lower[edges])))
    return across / along if along else 1.0


def _blockiness(gray_HW: Plane) -> float:
    """Steps across the borders of JPEG's blocks of 8 x 8 relative to the largest of the other seven kinds of steps.

    It is clearly above 1 only with blocks; without them, any of the eight kinds may be the largest by chance.
    """
    ratios = []
    for axis in (0, 1):
        steps = np.abs(np.diff(gray_HW, axis=axis)).mean(axis=1 - axis) + 0.05
        kinds = [float(steps[start::8].mean()) for start in range(8)]
        ratios.append(kinds[7] / max(kinds[:7]))
    return sum(ratios) / 2
