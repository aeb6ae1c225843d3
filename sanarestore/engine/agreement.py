"""Agreement of a restored image with its photograph: the image is degraded again, and the residual compared with noise.

For a photograph y, a restored image x and a degradation A, the residual is y - A(x). If x is right, the residual is the
photograph's noise: white, with a variance n that is measured, so that its means over s x s pixels have the power
n_s = n / s^2. If they have the power p_s, the score at side s is, in nats per value,

    -1/2 log(p_s / n_s)                           where p_s > n_s
    -1/2 (p_s / n_s - 1 - log(p_s / n_s))         where p_s <= n_s

and `agreement` is the mean over the sides 1, 2, 4 and 8; 0 is best. The first line is the log-likelihood ratio of a
normal residual to one of noise alone, where the excess is an error of the model whose variance is not known, and which
therefore takes the value that is most likely. So a photograph without noise gives finite scores, and no side outweighs
the others. The second line is the Kullback-Leibler divergence of the two distributions: a residual that is weaker than
the noise means that x still carries it (the discrepancy principle, Morozov 1966).

Shape suffixes: H W pixels of the photograph, y x pixels of the restored image, h w pixels of a window, C channels.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sanarestore.degradations.operations import Blur, Jpeg, LowResolution, Operation
from sanarestore.degradations.requests import Request
from sanarestore.images import Pixels, resize

SIDES = 4
"""Numbers of sides over which the residual is averaged: 1, 2, 4 and 8 pixels."""

ROUNDING = 1 / (255**2 * 12)
"""Variance of rounding to 8-bit codes: the least noise of any photograph."""

WINDOW = 512
"""Side in pixels of the middle of the photograph on which the degradation is fitted."""

BLOCK = 16
"""Side in pixels of the blocks whose noise is measured."""

_BLURS: tuple[Operation, ...] = tuple(Blur(sigma=sigma) for sigma in (0.5, 0.8, 1.2, 1.8, 2.7, 4.0))
_LOW_RESOLUTIONS: tuple[Operation, ...] = tuple(LowResolution(factor=factor) for factor in (1.5, 2.0, 3.0, 4.0))
_QUALITIES = (5, 10, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90)
_JPEGS: tuple[Operation, ...] = tuple(Jpeg(quality=quality) for quality in _QUALITIES)

_READ = ("noise", "jpeg", "blur", "lowres")
"""Kinds that may be removed without a prompt."""


def agreement(degraded_HWC: Pixels, candidate_yxC: Pixels, request: Request) -> float:
    """Measure how well a restored image explains a photograph, as above; both have three channels in [0,1].

    A larger image is reduced to the photograph's size first, by antialiased bicubic resampling, and a smaller one is
    compared with the photograph at its own size. The degradations that the request names are fitted and applied: a
    Gaussian blur or a low resolution, JPEG, and a change of light or colour, as a gain and an offset per channel.
    """
    kinds = _READ if request.removes is None else request.removes
    degraded_HWC, given_HWC = _at_one_size(degraded_HWC, candidate_yxC)
    is_lit = request.is_lit or request.is_coloured
    for operation in _fitted(degraded_HWC, given_HWC, kinds, is_lit=is_lit):
        given_HWC = operation(given_HWC)
    residual_HWC = _residual(degraded_HWC, given_HWC, is_lit=is_lit)
    noise = max(noise_variance(degraded_HWC), ROUNDING) if "noise" in kinds else ROUNDING
    return score(powers(residual_HWC), noise)


def score(powers_of_residual: Sequence[float], noise: float) -> float:
    """The mean score over sides, for the power of the residual at each and the variance of the noise; 0 is best."""
    found = []
    for number, power in enumerate(powers_of_residual):
        # Sides double, so the power of white noise falls to a quarter. Equal images have a power of zero.
        ratio = max(power, 1e-3 * ROUNDING) / (noise / 4**number)
        found.append(-0.5 * math.log(ratio) if ratio > 1 else -0.5 * (ratio - 1 - math.log(ratio)))
    return sum(found) / len(found)


def powers(residual_HWC: Pixels) -> list[float]:
    """Mean squares of the residual's means over 1, 2, 4 and 8 pixels a side, without sides that exceed it."""
    found = [_power(residual_HWC)]
    while len(found) < SIDES and min(residual_HWC.shape[:2]) > 1:
        height, width = (side // 2 * 2 for side in residual_HWC.shape[:2])
        rows_HWC = residual_HWC[:height:2, :width] + residual_HWC[1:height:2, :width]
        residual_HWC = (rows_HWC[:, ::2] + rows_HWC[:, 1::2]) * np.float32(1 / 4)
        found.append(_power(residual_HWC))
    return found


def noise_variance(image_HWC: Pixels) -> float:
    """Variance of white noise: Immerkaer's (1996), mean over channels, in the quarter of the blocks that has least.

    Constant blocks are left out, such as clipped ones; 0 if there are no others.
    """
    spreads = [_noise_of_plane(image_HWC[..., channel]) for channel in range(image_HWC.shape[2])]
    return float(np.mean(np.square(spreads)))


def _noise_of_plane(plane_HW: Pixels) -> float:
    if min(plane_HW.shape) < 3:
        return 0.0
    across = plane_HW[:, 2:] - 2 * plane_HW[:, 1:-1] + plane_HW[:, :-2]
    response = np.abs(across[2:] - 2 * across[1:-1] + across[:-2])
    rows, columns = (max(side // BLOCK, 1) for side in response.shape)
    height, width = (min(side, count * BLOCK) for side, count in zip(response.shape, (rows, columns), strict=True))
    blocks = response[:height, :width].reshape(rows, height // rows, columns, width // columns)
    means = blocks.mean(axis=(1, 3))
    varied = means[means > 0]
    # The mean absolute response to white noise is 6 sqrt(2 / pi) times its standard deviation.
    return float(np.quantile(varied, 0.25)) * math.sqrt(math.pi / 2) / 6 if varied.size else 0.0


def _fitted(degraded_HWC: Pixels, given_HWC: Pixels, kinds: Sequence[str], *, is_lit: bool) -> list[Operation]:
    """Fit the requested operations so that the middle of the image comes closest to the photograph's."""
    window = tuple(_middle(side) for side in degraded_HWC.shape[:2])
    degraded_hwC, given_hwC = degraded_HWC[window], given_HWC[window]
    families = [
        (_BLURS if "blur" in kinds else ()) + (_LOW_RESOLUTIONS if "lowres" in kinds else ()),
        _JPEGS if "jpeg" in kinds else (),
    ]
    chosen: list[Operation] = []
    for family in families:
        least, best = _power(_residual(degraded_hwC, given_hwC, is_lit=is_lit)), None
        for operation in family:
            tried_hwC = operation(given_hwC)
            power = _power(_residual(degraded_hwC, tried_hwC, is_lit=is_lit))
            if power < least:
                least, best = power, (operation, tried_hwC)
        if best is not None:
            chosen.append(best[0])
            given_hwC = best[1]
    return chosen


def _middle(side: int) -> slice:
    """Return the middle of a side; it begins at a multiple of 16, so that it is aligned with JPEG's blocks."""
    start = max(side - WINDOW, 0) // 2 // 16 * 16
    return slice(start, min(start + WINDOW, side))


def _at_one_size(degraded_HWC: Pixels, candidate_yxC: Pixels) -> tuple[Pixels, Pixels]:
    """Return photograph and restored image at the size of the smaller one."""
    (height, width), (y, x) = degraded_HWC.shape[:2], candidate_yxC.shape[:2]
    if (height, width) == (y, x):
        return degraded_HWC, candidate_yxC
    if y * x > height * width:
        return degraded_HWC, resize(candidate_yxC, width, height)
    return resize(degraded_HWC, x, y), candidate_yxC


def _residual(degraded_HWC: Pixels, given_HWC: Pixels, *, is_lit: bool) -> Pixels:
    """Subtract the degraded image from the photograph; a change of light or colour is fitted by least squares per
    channel."""
    if not is_lit:
        return degraded_HWC - given_HWC
    pixels = given_HWC.shape[0] * given_HWC.shape[1]
    means = [each.reshape(pixels, -1).mean(axis=0, dtype=np.float64) for each in (degraded_HWC, given_HWC)]
    apart, varied = (
        each - mean.astype(np.float32) for each, mean in zip((degraded_HWC, given_HWC), means, strict=True)
    )
    shared = (apart * varied).reshape(pixels, -1).sum(axis=0, dtype=np.float64)
    own = np.square(varied).reshape(pixels, -1).sum(axis=0, dtype=np.float64)
    gains: npt.NDArray[np.float64] = np.divide(shared, own, out=np.zeros_like(own), where=own > 0)
    residual: Pixels = apart - gains.astype(np.float32) * varied
    return residual


def _power(residual_HWC: Pixels) -> float:
    return float(np.mean(np.square(residual_HWC), dtype=np.float64))
