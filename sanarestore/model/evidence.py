"""Evidence of what was done to a whole photograph: noise, compression, blur, by formula and before any network.

A quantile of a measure over the whole photograph tells what one place cannot: noise is everywhere, and texture is not.
Measured on windows spread over it, so that a large photograph costs no more than a small one, and every tile of it is
given the same.

Shape suffixes: B windows, C channels, H W pixels, K evidence.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sanarestore.model.statistics import CELL, WIDE_STATISTICS, Statistics, spectrum

SIDE = 64
"""Of a window in pixels: twice what the spectrum transforms."""

WINDOWS = 8
"""Down and across, at most."""

BANDS = 14
"""Of the power spectrum."""

QUANTILES = (0.1, 0.5, 0.9)

EVIDENCE = (WIDE_STATISTICS + BANDS) * len(QUANTILES)
"""Numbers that `evidence` gives."""


def evidence(image_CHW: Tensor) -> Tensor:
    """Quantiles over a photograph [3,H,W] of each channel of `Statistics.wide` and `spectrum`, [K], about -3 to 3."""
    height, width = image_CHW.shape[1:]
    rows, columns = (_starts(size) for size in (height, width))
    windows_BCHW = torch.stack([_window(image_CHW, top, left) for top in rows for left in columns])
    cells = torch.cat([Statistics.of(windows_BCHW).wide, spectrum(windows_BCHW, BANDS)], dim=1)
    levels = torch.tensor(QUANTILES, device=image_CHW.device)
    found: Tensor = torch.quantile(cells.transpose(0, 1).flatten(1), levels, dim=1)
    return found.flatten()


def _starts(size: int) -> list[int]:
    """Where windows begin along a side: evenly, on the grid of JPEG, not over one another."""
    count = min(max(size // SIDE, 1), WINDOWS)
    room = max(size - SIDE, 0) // CELL
    return [round(place * room / max(count - 1, 1)) * CELL for place in range(count)]


def _window(image_CHW: Tensor, top: int, left: int) -> Tensor:
    """One of them, its last row and column repeated where the photograph is smaller."""
    window = image_CHW[:, top : top + SIDE, left : left + SIDE].float()
    missing = (0, SIDE - window.shape[2], 0, SIDE - window.shape[1])
    return F.pad(window[None], missing, mode="replicate")[0] if any(missing) else window
