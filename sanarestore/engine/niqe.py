"""NIQE, the natural image quality evaluator (Mittal et al. 2013): how far an image's statistics are from photographs'.

No reference is needed. `niqe.json` beside this module holds the statistics of photographs; this command makes it again:

    python -m sanarestore.engine.niqe FOLDER

Shape suffixes: H W pixels, h w pixels of a patch, P patches, F features, N values, G shapes of the grid.
"""

import json
import math
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sanarestore import images
from sanarestore.errors import NoImagesError
from sanarestore.images import Pixels, resize

Plane = npt.NDArray[np.float64]

STATISTICS = Path(__file__).with_suffix(".json")
"""Statistics of photographs: mean and covariance of the features of their sharp patches."""

PATCH = 96
"""Side of a patch in pixels; half of it at half the resolution."""

FEATURES = 36
"""Features of a patch: 18 at each of two resolutions."""

SHARP = 0.75
"""A photograph's patches count as pristine from this fraction of the sharpness of its sharpest one."""

UNMEASURED = 1e3
"""Distance of an image without texture, larger than any other."""

_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Neighbours whose products are measured: right, below, and both diagonals."""

_RADIUS = 3
_LUMA = np.array([0.298936, 0.587043, 0.114021])
"""Weights of MATLAB's rgb2gray, on which the method was published."""


def niqe(image_HWC: Pixels) -> float:
    """Distance from the statistics of photographs: about 2 to 4 for good ones, larger for worse; `UNMEASURED` if flat.

    The image is [H,W,3] in [0,1]. Images with a side below `PATCH` are mirrored up to it.
    """
    features_PF, _ = features(image_HWC)
    if not len(features_PF):
        return UNMEASURED
    mean_F, covariance_FF = _pristine()
    apart_F = mean_F - features_PF.mean(axis=0)
    spread_FF = np.cov(features_PF, rowvar=False) if len(features_PF) > 1 else np.zeros_like(covariance_FF)
    inverse_FF = np.linalg.pinv((covariance_FF + spread_FF) / 2)
    return math.sqrt(max(float(apart_F @ inverse_FF @ apart_F), 0.0))


def features(image_HWC: Pixels) -> tuple[Plane, Plane]:
    """Features [P,36] and sharpness [P] of the patches that vary; an incomplete patch at the border is left out."""
    image_HWC = _with_whole_patches(image_HWC)
    height, width, _ = image_HWC.shape
    half_HWC = resize(image_HWC, width // 2, height // 2)
    found, sharpness = [], []
    for fine, coarse in zip(_patches(image_HWC, PATCH), _patches(half_HWC, PATCH // 2), strict=True):
        if fine[0].any() and coarse[0].any():
            found.append([*_of_patch(fine[0]), *_of_patch(coarse[0])])
            sharpness.append(fine[1])
    return np.array(found).reshape(-1, FEATURES), np.array(sharpness)


def statistics(photographs: Iterable[Pixels]) -> tuple[Plane, Plane, int]:
    """Mean [36], covariance [36,36] and number of the sharp patches of photographs [H,W,3] in [0,1]."""
    sharp = []
    for image_HWC in photographs:
        features_PF, sharpness_P = features(image_HWC)
        if len(features_PF):
            sharp.append(features_PF[sharpness_P > SHARP * sharpness_P.max()])
    features_PF = np.concatenate(sharp)
    return features_PF.mean(axis=0), np.cov(features_PF, rowvar=False), len(features_PF)


def _with_whole_patches(image_HWC: Pixels) -> Pixels:
    """Mirror a small image up to one patch a side, and crop a larger one to whole patches."""
    missing = [max(PATCH - side, 0) for side in image_HWC.shape[:2]]
    if any(missing):
        image_HWC = np.pad(image_HWC, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
    height, width = (side // PATCH * PATCH for side in image_HWC.shape[:2])
    return image_HWC[:height, :width]


def _patches(image_HWC: Pixels, side: int) -> Iterator[tuple[Plane, float]]:
    """Normalised patches and their sharpness, row by row, so that temporaries do not grow with the image."""
    height, width, _ = image_HWC.shape
    for top in range(0, height, side):
        above, below = min(top, _RADIUS), min(height - top - side, _RADIUS)
        gray_HW = image_HWC[top - above : top + side + below].astype(np.float64) @ _LUMA * 255
        normal_HW, spread_HW = (each[above : above + side] for each in _normalised(gray_HW))
        for left, right in pairwise(range(0, width + 1, side)):
            yield normal_HW[:, left:right], float(spread_HW[:, left:right].mean())


def _normalised(gray_HW: Plane) -> tuple[Plane, Plane]:
    """Mean-subtracted, contrast-normalised coefficients (eq. 1), and the local standard deviation; values 0 to 255."""
    mean_HW = _smooth(gray_HW)
    deviation_HW = np.sqrt(np.maximum(_smooth(gray_HW * gray_HW) - mean_HW * mean_HW, 0))
    # Rounding leaves a trace of variance in flat areas, which would be normalised to a structure.
    apart_HW = np.where(deviation_HW > 1e-5, gray_HW - mean_HW, 0.0)
    return apart_HW / (deviation_HW + 1), deviation_HW


def _smooth(plane_HW: Plane) -> Plane:
    """Gaussian mean over 7 x 7 pixels, sigma 7/6, borders replicated."""
    offsets = np.arange(-_RADIUS, _RADIUS + 1)
    weights = np.exp(-(offsets**2) / (2 * (7 / 6) ** 2))
    weights /= weights.sum()
    for axis in (0, 1):
        around = np.pad(plane_HW, [(_RADIUS, _RADIUS) if each == axis else (0, 0) for each in (0, 1)], mode="edge")
        size = plane_HW.shape[axis]
        parts = (np.take(around, range(at, at + size), axis=axis) for at in range(len(weights)))
        plane_HW = np.add.reduce([weight * part for weight, part in zip(weights, parts, strict=True)])
    return plane_HW


def _of_patch(normal_hw: Plane) -> list[float]:
    """18 features: shape and spread of the coefficients, and of the products of neighbours (table 1)."""
    shape, left, right = _asymmetric_fit(normal_hw)
    found = [shape, (left + right) / 2]
    for shift in _SHIFTS:
        shape, left, right = _asymmetric_fit(normal_hw * np.roll(normal_hw, shift, axis=(0, 1)))
        mean = (right - left) * math.exp(math.lgamma(2 / shape) - math.lgamma(1 / shape))
        found += [shape, mean, left, right]
    return found


def _asymmetric_fit(values: Plane) -> tuple[float, float, float]:
    """Shape, left and right scale of the asymmetric generalised Gaussian that fits by moments (Lasmar et al. 2009)."""
    values_N = values.ravel()
    # A nearly flat patch may have values on one side of zero only.
    left, right = (max(_root_mean_square(side_N), 1e-12) for side_N in (values_N[values_N < 0], values_N[values_N > 0]))
    ratio = left / right
    spread = np.abs(values_N).mean() ** 2 / max(np.square(values_N).mean(), 1e-24)
    wanted = spread * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shapes_G, ratios_G = _grid()
    shape = float(shapes_G[np.argmin(np.abs(ratios_G - wanted))])
    scale = math.exp((math.lgamma(1 / shape) - math.lgamma(3 / shape)) / 2)
    return shape, left * scale, right * scale


def _root_mean_square(values_N: Plane) -> float:
    return math.sqrt(float(np.square(values_N).mean())) if values_N.size else 0.0


@cache
def _grid() -> tuple[Plane, Plane]:
    """Shapes from 0.2 to 10, and for each the squared mean absolute value over the mean square of its Gaussian."""
    shapes_G = np.arange(200, 10001) / 1000
    ratios = [math.exp(2 * math.lgamma(2 / s) - math.lgamma(1 / s) - math.lgamma(3 / s)) for s in shapes_G.tolist()]
    return shapes_G, np.array(ratios)


@cache
def _pristine() -> tuple[Plane, Plane]:
    """Mean [36] and covariance [36,36] of photographs."""
    content = json.loads(STATISTICS.read_text(encoding="utf-8"))
    return np.array(content["mean"]), np.array(content["covariance"])


def main(folder: str) -> None:
    """Make `niqe.json` again from a folder of photographs."""
    found = images.find([folder]).images
    if not found:
        raise NoImagesError("no readable image was found", where=folder, next_step="Name a folder of photographs.")
    read = (images.read(each.path).pixels_HWC for each in found)
    mean_F, covariance_FF, patches = statistics(np.broadcast_to(each, (*each.shape[:2], 3)) for each in read)
    content = {
        "photographs": len(found), "patches": patches,
        "mean": [float(f"{value:.8g}") for value in mean_F],
        "covariance": [[float(f"{value:.8g}") for value in row] for row in covariance_FF],
    }  # fmt: skip
    STATISTICS.write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
