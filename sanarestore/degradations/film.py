"""Noise that is not a sensor's: the grain of film, and blotches of wrong colour that noise reduction leaves."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from sanarestore.degradations.operations import Pixels, mean_of_clipped

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class FilmGrain:
    """Grain: Gaussian noise low-passed to the size of its grains, strongest in the midtones, alike in all channels.

    Its standard deviation is `2 sqrt(x (1 - x))` of what it is at x = 0.5: densities of film scatter most where half
    of the grains are developed (as in the Boolean model of Newson et al., 2017, of constant grain size).
    """

    sigma: float
    """Standard deviation at mid-gray, in 8-bit codes."""
    size: float
    """Standard deviation of the Gaussian that grains are low-passed by, in pixels."""
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
        """Unit variance, whatever the size of the grains."""
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
    """Low-passed noise in colour alone: the luma of ITU-R BT.601 stays as it is. Gray images stay."""

    sigma: float
    """Standard deviation of red, green and blue before their luma is taken out, in 8-bit codes."""
    size: float
    """Standard deviation of the Gaussian that the blotches are low-passed by, in pixels."""
    seed: int
    kind = "noise"

    def __call__(self, image_HWC: Pixels) -> Pixels:
        if image_HWC.shape[2] == 1:
            return image_HWC.copy()
        noise_HWC = smooth_noise(np.random.default_rng(self.seed), image_HWC.shape, self.size)
        noise_HWC -= (noise_HWC @ _LUMA)[..., None]
        return image_HWC + np.float32(self.sigma / 255) * noise_HWC

    def on_average(self, overview_HWC: Pixels) -> Pixels:
        if overview_HWC.shape[2] == 1:
            return np.clip(overview_HWC, 0, 1)
        spread_C = np.sqrt(1 - 2 * _LUMA + (_LUMA**2).sum()) * np.float32(self.sigma / 255)
        return mean_of_clipped(overview_HWC, spread_C)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], size: float) -> Pixels:
    """White noise [H, W, C] low-passed by a Gaussian, brought back to unit variance."""
    if not size:
        return rng.standard_normal(shape, dtype=np.float32)
    # With a margin as wide as the kernel, so that the border is no quieter and the smallest image as noisy as any.
    margin = int(3 * size + 0.5)
    height, width, channels = shape
    white_HWC = rng.standard_normal((height + 2 * margin, width + 2 * margin, channels), dtype=np.float32)
    impulse = np.zeros(2 * margin + 1)
    impulse[margin] = 1
    kernel = ndimage.gaussian_filter1d(impulse, size, mode="constant", truncate=3)
    smooth_HWC: Pixels = ndimage.gaussian_filter(white_HWC, (size, size, 0), truncate=3, output=np.float32)
    # Twice the square root of what an axis leaves of the variance.
    return smooth_HWC[margin : margin + height, margin : margin + width] / np.float32((kernel**2).sum())
