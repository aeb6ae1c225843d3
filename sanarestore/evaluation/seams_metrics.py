"""Metrics of seams on maps [C,H,W] and images [H,W,C]."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from sanarestore.images import Pixels

BAND = 16
"""Pixels on each side of a border that belong to its band."""

MOST_DECIBELS = 200.0
"""Largest PSNR counted, in dB, as where there is no difference at all."""

Borders = tuple[tuple[int, ...], tuple[int, ...]]
"""Rows and columns of pixels at which a tile begins or ends, except the image's own sides."""

Map = npt.NDArray[np.float32]
"""Result of a stage, [C,H,W]."""


def banded_psnr(tiled_CHW: Map, untiled_CHW: Map, borders: Borders, cell: int = 1) -> tuple[float | None, float]:
    """PSNR in the bands and off them, in dB of peak 1; `cell` is the downsampling factor of the maps.

    The first is None if there are no bands, the second is `MOST_DECIBELS` if there is nothing else.
    """
    error = np.square(tiled_CHW.astype(np.float64) - untiled_CHW).mean(axis=0)
    is_band = np.zeros(error.shape, bool)
    rows, columns = borders
    for edge in rows:
        is_band[max(edge - BAND, 0) // cell : -(-(edge + BAND) // cell)] = True
    for edge in columns:
        is_band[:, max(edge - BAND, 0) // cell : -(-(edge + BAND) // cell)] = True
    return psnr(error[is_band]) if is_band.any() else None, psnr(error[~is_band])


def discontinuity(image_HWC: Pixels, borders: Borders) -> float:
    """Mean square of the steps across borders over that of all other steps; 1 if all other steps are zero."""
    across, elsewhere = [], []
    for axis, edges in enumerate(borders):
        steps = np.square(np.moveaxis(np.diff(image_HWC.astype(np.float64), axis=axis), axis, 0))
        is_border = np.isin(np.arange(1, len(steps) + 1), edges)
        across.append(steps[is_border].reshape(-1))
        elsewhere.append(steps[~is_border].reshape(-1))
    other = float(np.concatenate(elsewhere).mean())
    return float(np.concatenate(across).mean()) / other if other else 1.0


def largest_step(image_HWC: npt.NDArray[Any], borders: Borders) -> float:
    """Largest absolute difference between the pixels on the two sides of any border."""
    found = [0.0]
    for axis, edges in enumerate(borders):
        steps = np.abs(np.moveaxis(np.diff(image_HWC.astype(np.float64), axis=axis), axis, 0))
        found += [float(steps[edge - 1].max()) for edge in edges]
    return max(found)


def psnr(error: npt.NDArray[np.floating[Any]]) -> float:
    """PSNR in dB of peak 1, from squared errors."""
    mean = float(error.mean()) if error.size else 0.0
    return min(-10 * math.log10(mean), MOST_DECIBELS) if mean else MOST_DECIBELS
