"""Colour filter arrays: which colour each sensor site measures, and how the other two are interpolated.

Sites are numbered 0 red, 1 green, 2 blue. Shape suffixes: H, W sites, C colours.
"""

import numpy as np
import numpy.typing as npt

from sanarestore.images import Pixels

Sites = npt.NDArray[np.uint8]

PATTERNS = {
    "bayer": np.array([[0, 1], [1, 2]], dtype=np.uint8),
    "xtrans": np.array(
        [
            [1, 2, 1, 1, 0, 1],
            [0, 1, 0, 2, 1, 2],
            [1, 2, 1, 1, 0, 1],
            [1, 0, 1, 1, 2, 1],
            [2, 1, 2, 0, 1, 0],
            [1, 0, 1, 1, 2, 1],
        ],
        dtype=np.uint8,
    ),
}
"""The repeated tile of each pattern: Bayer's 2 x 2 and Fujifilm's 6 x 6."""

METHODS = {"bayer": ("bilinear", "gradient"), "xtrans": ("bilinear",)}
"""Demosaicing methods of each pattern: from neighbours of the same colour, or also from gradients of the others."""

_NEAR: dict[str, Pixels] = {
    "bayer": np.outer([0.5, 1, 0.5], [0.5, 1, 0.5]).astype(np.float32),
    "xtrans": np.outer([1, 2, 3, 2, 1], [1, 2, 3, 2, 1]).astype(np.float32) / np.float32(9),
}
"""Weights of neighbours of the same colour, wide enough to include at least one at every site."""

_ALONG = np.array(
    [[0, 0, 1, 0, 0], [0, -2, 0, -2, 0], [-2, 8, 10, 8, -2], [0, -2, 0, -2, 0], [0, 0, 1, 0, 0]], dtype=np.float32
) / np.float32(16)
_CROSS = np.array(
    [[0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]], dtype=np.float32
) / np.float32(8)
_DIAGONAL = np.array(
    [[0, 0, -3, 0, 0], [0, 4, 0, 4, 0], [-3, 0, 12, 0, -3], [0, 4, 0, 4, 0], [0, 0, -3, 0, 0]], dtype=np.float32
) / np.float32(16)
"""Gradient-corrected kernels (Malvar, He and Cutler, 2004, figure 2): red or blue at green with neighbours in the row,
green at red or blue, and red at blue or blue at red."""


def colour_sites(height: int, width: int, pattern: str = "bayer", phase: tuple[int, int] = (0, 0)) -> Sites:
    """The colour of each site [H, W] for a pattern that begins `phase` rows and columns into its tile."""
    tile = PATTERNS[pattern]
    rows, columns = ((np.arange(size) + first) % len(tile) for size, first in zip((height, width), phase, strict=True))
    return tile[np.ix_(rows, columns)]


def demosaic(mosaic_HW: Pixels, site_HW: Sites, pattern: str = "bayer", method: str = "bilinear") -> Pixels:
    """Interpolate the two colours that each site lacks, [H, W, 3]; the measured colour is kept."""
    if method == "gradient":
        return _by_gradients(mosaic_HW, site_HW)
    from scipy import ndimage

    near = _NEAR[pattern]
    planes = []
    for colour in range(3):
        known = (site_HW == colour).astype(np.float32)
        total = ndimage.convolve(mosaic_HW * known, near, mode="mirror", output=np.float32)
        planes.append(total / np.maximum(ndimage.convolve(known, near, mode="mirror", output=np.float32), 1e-6))
    own_HWC = site_HW[..., None] == np.arange(3)
    return np.where(own_HWC, mosaic_HW[..., None], np.stack(planes, axis=2)).astype(np.float32)


def _by_gradients(mosaic_HW: Pixels, site_HW: Sites) -> Pixels:
    from scipy import ndimage

    along, down, cross, diagonal = (
        ndimage.convolve(mosaic_HW, kernel, mode="mirror", output=np.float32)
        for kernel in (_ALONG, _ALONG.T, _CROSS, _DIAGONAL)
    )
    is_green = site_HW == 1
    green = np.where(is_green, mosaic_HW, cross)
    planes = [green, green, green]
    for colour in (0, 2):
        in_row = (site_HW == colour).any(axis=1)[:, None]
        at_green = np.where(in_row, along, down)
        planes[colour] = np.where(is_green, at_green, np.where(site_HW == colour, mosaic_HW, diagonal))
    return np.stack(planes, axis=2).astype(np.float32)
