"""Routing features: how degraded a whole photograph is, by noise, compression and blur, computed by formula.

Quantiles over the whole photograph separate noise, which is everywhere, from texture, which is not. They are measured
on a limited number of windows, so that large photographs cost no more than small ones, and once per photograph, so that
all its tiles get the same features.

Shape suffixes: B windows, C channels, H W pixels, K routing features.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sanarestore.model.statistics import DOWNSAMPLE, WIDE_STATISTICS, Statistics, spectrum

SIDE = 64
"""Side of a window in pixels: twice that of the windows that `spectrum` transforms."""

WINDOWS = 8
"""Largest number of windows along each side."""

BANDS = 14
"""Bands of the power spectrum."""

QUANTILES = (0.1, 0.5, 0.9)

ROUTING_FEATURES = (WIDE_STATISTICS + BANDS) * len(QUANTILES)
"""Number of routing features K."""


def routing_features(image_CHW: Tensor) -> Tensor:
    """Quantiles of `Statistics.wide` and `spectrum` per channel over a photograph [3,H,W]: [K], about -3 to 3."""
    places = window_places(*image_CHW.shape[1:])
    return features_of([image_CHW[:, top : top + SIDE, left : left + SIDE] for top, left in places])


def window_places(height: int, width: int) -> list[tuple[int, int]]:
    """Top and left of the windows of a photograph of this size in pixels, from the top down; each has a side `SIDE`."""
    rows, columns = (_starts(size) for size in (height, width))
    return [(top, left) for top in rows for left in columns]


def features_of(windows: Sequence[Tensor]) -> Tensor:
    """Return the `routing_features` of a photograph from its windows [3,h,w], each cut off where that ends."""
    windows_BCHW = torch.stack([_whole(each) for each in windows])
    cells = torch.cat([Statistics.of(windows_BCHW).wide, spectrum(windows_BCHW, BANDS)], dim=1)
    levels = torch.tensor(QUANTILES, device=windows_BCHW.device)
    found: Tensor = torch.quantile(cells.transpose(0, 1).flatten(1), levels, dim=1)
    return found.flatten()


def _starts(size: int) -> list[int]:
    """Window origins along a side: evenly spaced, on the JPEG grid, without overlap."""
    count = min(max(size // SIDE, 1), WINDOWS)
    room = max(size - SIDE, 0) // DOWNSAMPLE
    return [round(place * room / max(count - 1, 1)) * DOWNSAMPLE for place in range(count)]


def _whole(window_CHW: Tensor) -> Tensor:
    """A window of full size, with the last row and column repeated where the photograph is smaller."""
    window_CHW = window_CHW.float()
    missing = (0, SIDE - window_CHW.shape[2], 0, SIDE - window_CHW.shape[1])
    return F.pad(window_CHW[None], missing, mode="replicate")[0] if any(missing) else window_CHW
