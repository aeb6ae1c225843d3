"""Noise other than a sensor's: film grain, and the colour blotches that noise reduction leaves."""

from dataclasses import dataclass

import numpy as np

from sanarestore.degradations.operations import LUMA, mean_of_clipped
from sanarestore.images import Pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class FilmGrain:
    """Film grain: Gaussian noise low-passed to the grain size, strongest in the midtones, by one rule for all channels.

    Its standard deviation is `2 sqrt(x (1 - x))` times that at x = 0.5: film density varies most where half of the
    grains are developed (as in the Boolean model of Newson et al., 2017, with constant grain size).
    """

    sigma: float
    """Standard deviation at mid-gray, in 8-bit codes."""
    size: float
    """Standard deviation of the low-pass Gaussian, in pixels."""
    colour: float
    """Share of the variance that each channel has to itself, 0 for black-and-white film."""
    seed: int
    kind = "noise"

    def __call__(self, image_HWC: Pixels) -> Pixels:
        return image_HWC + self._spread(image_HWC) * self._field(image_HWC.shape)

    def on_average(self, overview_HWC: Pixels) -> Pixels:
        return mean_of_clipped(overview_HWC, self._spread(overview_HWC))

    def _spread(self, image_HWC: Pixels) -> Pixels:
        inside = np.clip(image_HWC, 0, 1)
        spread_HWC: Pixels = np.float32(self.sigma / 255) * 2 * np.sqrt(inside * (1 - inside))
        return spread_HWC

    def _field(self, shape: tuple[int, ...]) -> Pixels:
        """Noise [H, W, 1 or C] of unit variance at any grain size."""
        height, width, channels = shape
        rng = np.random.default_rng(self.seed)
        common_HW1 = smooth_noise(rng, (height, width, 1), self.size)
        if channels == 1 or not self.colour:
            return common_HW1
        own_HWC = smooth_noise(rng, (height, width, channels), self.size)
        field_HWC: Pixels = np.sqrt(np.float32(1 - self.colour)) * common_HW1 + np.float32(self.colour**0.5) * own_HWC
        return field_HWC


@dataclass(frozen=True, kw_only=True, slots=True)
class ColourBlotches:
    """Low-passed noise in colour alone: ITU-R BT.601 luma is unchanged, and so are gray images."""

    sigma: float
    """Standard deviation of red, green and blue before luma is subtracted, in 8-bit codes."""
    size: float
    """Standard deviation of the low-pass Gaussian, in pixels."""
    seed: int
    kind = "noise"

    def __call__(self, image_HWC: Pixels) -> Pixels:
        if image_HWC.shape[2] == 1:
            return image_HWC.copy()
        noise_HWC = smooth_noise(np.random.default_rng(self.seed), image_HWC.shape, self.size)
        noise_HWC -= (noise_HWC @ LUMA)[..., None]
        return image_HWC + np.float32(self.sigma / 255) * noise_HWC

    def on_average(self, overview_HWC: Pixels) -> Pixels:
        if overview_HWC.shape[2] == 1:
            return np.clip(overview_HWC, 0, 1)
        spread_C = np.sqrt(1 - 2 * LUMA + (LUMA**2).sum()) * np.float32(self.sigma / 255)
        return mean_of_clipped(overview_HWC, spread_C)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], size: float) -> Pixels:
    """White noise [H, W, C] low-passed by a Gaussian and rescaled to unit variance."""
    if not size:
        return rng.standard_normal(shape, dtype=np.float32)
    from scipy import ndimage

    # The margin is as wide as the kernel, so that borders and tiny images are as noisy as the rest.
    margin = int(3 * size + 0.5)
    height, width, channels = shape
    white_HWC = rng.standard_normal((height + 2 * margin, width + 2 * margin, channels), dtype=np.float32)
    impulse = np.zeros(2 * margin + 1)
    impulse[margin] = 1
    kernel = ndimage.gaussian_filter1d(impulse, size, mode="constant", truncate=3)
    smooth_HWC: Pixels = ndimage.gaussian_filter(white_HWC, (size, size, 0), truncate=3, output=np.float32)
    # Each of the two axes multiplies the variance by this sum of squares, so it equals the standard deviation.
    return smooth_HWC[margin : margin + height, margin : margin + width] / np.float32((kernel**2).sum())
