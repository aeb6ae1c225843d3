"""Blur by defocus (a disc as its kernel) and by motion (a line)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sanarestore.degradations.operations import KeepsMeans
from sanarestore.images import Pixels

_FINER = 9
"""Points per pixel and axis at which kernels are sampled."""


class _Convolution(KeepsMeans):
    """Base of blurs by a kernel."""

    __slots__ = ()
    kind = "blur"

    def __call__(self, image_HWC: Pixels) -> Pixels:
        return _convolved(image_HWC, self.kernel())

    def kernel(self) -> Pixels:
        """Square kernel of odd size that sums to 1."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True, slots=True)
class Defocus(_Convolution):
    """Defocus blur: every point becomes a uniform disc, by the geometric optics of a round aperture."""

    radius: float
    """Radius of the disc in pixels."""

    def kernel(self) -> Pixels:
        """Square kernel of odd size that sums to 1; weights are proportional to each pixel's share inside the disc."""
        half_width = int(np.ceil(self.radius + 0.5))
        places = _places(half_width)
        inside = places[:, None] ** 2 + places[None] ** 2 <= self.radius**2
        return _pixels(inside.astype(np.float64), half_width)


@dataclass(frozen=True, kw_only=True, slots=True)
class MotionBlur(_Convolution):
    """Motion blur: camera or subject moves evenly along a line during the exposure."""

    length: float
    """Length of the line in pixels."""
    angle: float
    """Angle between the line and the rows, in radians."""

    def kernel(self) -> Pixels:
        """Square kernel of odd size that sums to 1: a line one pixel wide."""
        half_width = int(np.ceil(self.length / 2 + 1))
        places = _places(half_width)
        rows, columns = places[:, None], places[None]
        along = np.abs(columns * np.cos(self.angle) + rows * np.sin(self.angle))
        across = np.abs(rows * np.cos(self.angle) - columns * np.sin(self.angle))
        inside = (along <= max(self.length, 1) / 2) & (across <= 0.5)
        return _pixels(inside.astype(np.float64), half_width)


def _places(half_width: int) -> npt.NDArray[np.float64]:
    """Positions of the sub-pixel samples relative to the kernel's centre, in pixels."""
    count = (2 * half_width + 1) * _FINER
    return (np.arange(count) - (count - 1) / 2) / _FINER


def _pixels(finer: npt.NDArray[np.float64], half_width: int) -> Pixels:
    side = 2 * half_width + 1
    kernel = finer.reshape(side, _FINER, side, _FINER).sum(axis=(1, 3))
    weights: Pixels = (kernel / kernel.sum()).astype(np.float32)
    return weights


def _convolved(image_HWC: Pixels, kernel: Pixels) -> Pixels:
    """Convolve each channel by overlap-add FFT, fast for large kernels; borders are mirrored, edge pixels repeated."""
    from scipy import signal

    half_width = len(kernel) // 2
    margins = ((half_width, half_width), (half_width, half_width))
    planes = [
        signal.oaconvolve(np.pad(plane, margins, mode="symmetric"), kernel, mode="valid")
        for plane in np.moveaxis(image_HWC, 2, 0)
    ]
    return np.stack(planes, axis=2).astype(np.float32)
