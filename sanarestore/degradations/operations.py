"""Degradations as frozen dataclasses: image in, degraded image out, each with its own random stream.

An image is float32 [H, W, C], C = 1 or 3, encoded values nominally in [0, 1]. An operation is a pure function of the
image and of its own fields: two operations with equal fields add the same noise, whatever comes before or after
them. Hence the target of a selective pair carries the *same* remaining noise as its input.
"""

import io
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
from PIL import Image as PillowImage
from PIL.JpegImagePlugin import JpegImageFile

from sanarestore.degradations.mosaic import colour_sites, demosaic
from sanarestore.degradations.poisson import poisson_quantile
from sanarestore.images import Pixels, from_float, resize, to_float

_ROWS = 64

_DEMOSAICED = 0.76
"""Standard deviation of unit white noise after bilinear demosaicing: mean over channels and sites."""


LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue in ITU-R BT.601 luma."""


class Operation(Protocol):
    """One degradation with all its parameters drawn."""

    @property
    def kind(self) -> str:
        """The kind that prompts name: noise, jpeg, blur, lowres, lowlight or colour; or one that no reader knows."""

    def __call__(self, image_HWC: Pixels) -> Pixels:
        """Degrade a copy of the same shape; some operations clip to [0, 1], additive noise does not."""

    def on_average(self, overview_HWC: Pixels) -> Pixels:
        """Degrade means over large areas, clipped to [0, 1]: noise averages out, the shift from clipping it stays."""


class KeepsMeans:
    """Base of operations that change means over large areas only by clipping them."""

    __slots__ = ()

    def on_average(self, overview_HWC: Pixels) -> Pixels:
        """Clip means to [0, 1]."""
        return np.clip(overview_HWC, 0, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class GaussianNoise:
    """x + N(0, sigma/255)."""

    sigma: float
    """Standard deviation in 8-bit codes."""
    seed: int
    kind = "noise"

    def __call__(self, image_HWC: Pixels) -> Pixels:
        noise = np.random.default_rng(self.seed).standard_normal(image_HWC.shape, dtype=np.float32)
        return image_HWC + np.float32(self.sigma / 255) * noise

    def on_average(self, overview_HWC: Pixels) -> Pixels:
        return mean_of_clipped(overview_HWC, np.float32(self.sigma / 255))


@dataclass(frozen=True, kw_only=True, slots=True)
class PoissonNoise:
    """Poisson(x 255/c) c/255: photon counting where one photon is worth c codes."""

    scale: float
    """c, in 8-bit codes per photon."""
    seed: int
    kind = "noise"

    def __call__(self, image_HWC: Pixels) -> Pixels:
        # Quantiles of a uniform field replace a sampler: the stream of a sampler shifts when one pixel changes.
        rng = np.random.default_rng(self.seed)
        noisy_HWC = np.empty(image_HWC.shape, np.float32)
        # Blocks of rows draw the same field; float64 temporaries of a whole photo would fill the memory.
        for top in range(0, len(image_HWC), _ROWS):
            mean = np.clip(image_HWC[top : top + _ROWS], 0, None).astype(np.float64) * (255 / self.scale)
            noisy_HWC[top : top + _ROWS] = poisson_quantile(rng.random(mean.shape), mean) * (self.scale / 255)
        return noisy_HWC

    def on_average(self, overview_HWC: Pixels) -> Pixels:
        return mean_of_clipped(overview_HWC, np.sqrt(np.clip(overview_HWC, 0, None) * np.float32(self.scale / 255)))


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraNoise:
    """Shot and read noise on an RGGB Bayer mosaic in linear light, then bilinear demosaicing.

    The noise is normal with variance gain * x + read^2 (Foi et al. 2008, eq. 1), x linear in [0, 1]. Gray images have
    no mosaic.
    """

    gain: float
    """Variance per unit of linear light."""
    read: float
    """Standard deviation in the dark, in linear light."""
    seed: int
    kind = "noise"

    def __call__(self, image_HWC: Pixels) -> Pixels:
        return encode_srgb(_expose(decode_srgb(image_HWC), self.gain, self.read, self.seed))

    def on_average(self, overview_HWC: Pixels) -> Pixels:
        return _exposed_on_average(decode_srgb(overview_HWC), self.gain, self.read)


@dataclass(frozen=True, kw_only=True, slots=True)
class Exposure:
    """A change of exposure without noise: what an unprompted restoration leaves of `LowLight`."""

    stops: float
    """Exposure taken away, in EV."""
    kind = "lowlight"

    def __call__(self, image_HWC: Pixels) -> Pixels:
        return encode_srgb(decode_srgb(image_HWC) * np.float32(2.0**-self.stops))

    def on_average(self, overview_HWC: Pixels) -> Pixels:
        return self(overview_HWC)

    def without_noise(self) -> "Exposure":
        """Return the operation itself, which adds no noise."""
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class LowLight:
    """An underexposed photograph: fewer photons in linear light, then the camera's noise."""

    stops: float
    """Exposure taken away, in EV."""
    gain: float
    read: float
    seed: int
    kind = "lowlight"

    def __call__(self, image_HWC: Pixels) -> Pixels:
        dark = decode_srgb(image_HWC) * np.float32(2.0**-self.stops)
        return encode_srgb(_expose(dark, self.gain, self.read, self.seed))

    def on_average(self, overview_HWC: Pixels) -> Pixels:
        dark = decode_srgb(overview_HWC) * np.float32(2.0**-self.stops)
        return _exposed_on_average(dark, self.gain, self.read)

    def without_noise(self) -> Exposure:
        """Return the same change of exposure without noise."""
        return Exposure(stops=self.stops)


@dataclass(frozen=True, kw_only=True, slots=True)
class Jpeg(KeepsMeans):
    """JPEG compression by libjpeg; the result has 8-bit values, whatever the depth of the image."""

    quality: int
    """libjpeg's quality, 1 to 100."""
    subsampling: str = "4:2:0"
    kind = "jpeg"

    def __call__(self, image_HWC: Pixels) -> Pixels:
        codes = from_float(image_HWC, "uint8")
        gray = codes.shape[2] == 1
        buffer = io.BytesIO()
        picture = PillowImage.fromarray(codes[..., 0] if gray else codes)
        picture.save(buffer, "JPEG", quality=self.quality, subsampling=-1 if gray else self.subsampling)
        buffer.seek(0)
        # PillowImage.open would take a large photo of our own for a decompression bomb.
        return to_float(np.asarray(JpegImageFile(buffer)), "uint8").reshape(image_HWC.shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class Blur(KeepsMeans):
    """Gaussian blur, cut at four sigmas, mirrored at the border."""

    sigma: float
    """Standard deviation in pixels."""
    kind = "blur"

    @classmethod
    def of_kernel(cls, size: int) -> "Blur":
        """The Gaussian that OpenCV uses for a k x k kernel: sigma = 0.3((k-1)/2 - 1) + 0.8."""
        return cls(sigma=0.3 * ((size - 1) / 2 - 1) + 0.8)

    def __call__(self, image_HWC: Pixels) -> Pixels:
        from scipy import ndimage

        sigmas = (self.sigma, self.sigma, 0.0)
        blurred: Pixels = ndimage.gaussian_filter(image_HWC, sigmas, mode="reflect", truncate=4.0, output=np.float32)
        return blurred


@dataclass(frozen=True, kw_only=True, slots=True)
class LowResolution(KeepsMeans):
    """Antialiased bicubic downscaling by a factor, then bicubic upscaling to the original size."""

    factor: float
    kind = "lowres"

    def __call__(self, image_HWC: Pixels) -> Pixels:
        height, width, _ = image_HWC.shape
        small = (max(1, round(width / self.factor)), max(1, round(height / self.factor)))
        return resize(resize(image_HWC, *small), width, height)


@dataclass(frozen=True, kw_only=True, slots=True)
class ColourShift:
    """Wrong white balance and exposure: a gain per channel, contrast about mid-gray, and added brightness."""

    brightness: float
    contrast: float
    gains: tuple[float, float, float]
    kind = "colour"

    def __call__(self, image_HWC: Pixels) -> Pixels:
        gains = np.asarray(self.gains[: image_HWC.shape[2]], dtype=np.float32)
        shifted = (image_HWC * gains - 0.5) * np.float32(1 + self.contrast) + np.float32(0.5 + self.brightness)
        shifted_HWC: Pixels = np.clip(shifted, 0, 1).astype(np.float32)
        return shifted_HWC

    def on_average(self, overview_HWC: Pixels) -> Pixels:
        return self(overview_HWC)

    def without_noise(self) -> "ColourShift":
        """Return the operation itself, which adds no noise."""
        return self


def to_gray(image_HWC: Pixels) -> Pixels:
    """Full-range ITU-R BT.601 luma [H, W, 1]; gray images are returned unchanged."""
    if image_HWC.shape[2] == 1:
        return image_HWC
    gray_HWC: Pixels = image_HWC @ LUMA[:, None]
    return gray_HWC


def decode_srgb(encoded: Pixels) -> Pixels:
    """Encoded values to linear light (IEC 61966-2-1); values outside [0, 1] are clipped."""
    clipped = np.clip(encoded, 0, 1).astype(np.float32)
    return np.where(clipped <= 0.04045, clipped / 12.92, ((clipped + 0.055) / 1.055) ** 2.4).astype(np.float32)


def encode_srgb(linear: Pixels) -> Pixels:
    """Linear light to encoded values (IEC 61966-2-1), clipped to [0, 1] as a camera's file is."""
    clipped = np.clip(linear, 0, 1).astype(np.float32)
    root = 1.055 * np.maximum(clipped, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(clipped <= 0.0031308, 12.92 * clipped, root).astype(np.float32)


def _expose(linear_HWC: Pixels, gain: float, read: float, seed: int) -> Pixels:
    """Add sensor noise to linear light, on a mosaic that is then demosaiced if the image has colour."""
    rng = np.random.default_rng(seed)
    if linear_HWC.shape[2] == 1:
        return _count(linear_HWC, gain, read, rng)
    height, width, _ = linear_HWC.shape
    # A single row or column would lack sites of one colour: it is doubled, then cropped.
    light_HWC = np.pad(linear_HWC, ((0, height == 1), (0, width == 1), (0, 0)), mode="edge")
    site_HW = colour_sites(*light_HWC.shape[:2])
    mosaic_HW = np.take_along_axis(light_HWC, site_HW[..., None], axis=2)[..., 0]
    return demosaic(_count(mosaic_HW, gain, read, rng), site_HW)[:height, :width]


def _count(linear: Pixels, gain: float, read: float, rng: np.random.Generator) -> Pixels:
    spread: Pixels = np.sqrt(gain * np.maximum(linear, 0) + read**2, dtype=np.float32)
    return linear + spread * rng.standard_normal(linear.shape, dtype=np.float32)


def _exposed_on_average(linear_HWC: Pixels, gain: float, read: float) -> Pixels:
    """Mean of the encoded values that the sensor records."""
    spread: Pixels = np.sqrt(gain * np.maximum(linear_HWC, 0) + read**2, dtype=np.float32)
    spread *= np.float32(1 if linear_HWC.shape[2] == 1 else _DEMOSAICED)
    mean_HWC: Pixels = np.mean([encode_srgb(linear_HWC + spread * node) for node in _nodes()], axis=0)
    return mean_HWC


def mean_of_clipped(image_HWC: Pixels, spread: Pixels | np.float32) -> Pixels:
    """Mean of values with normal noise of standard deviation `spread`, each clipped to [0, 1]."""
    mean_HWC: Pixels = np.mean([np.clip(image_HWC + spread * node, 0, 1) for node in _nodes()], axis=0)
    return mean_HWC


@cache
def _nodes() -> Pixels:
    """Medians of the eight equally likely parts of the standard normal distribution."""
    from scipy import special

    nodes: Pixels = special.ndtri((np.arange(8) + 0.5) / 8).astype(np.float32)
    return nodes
