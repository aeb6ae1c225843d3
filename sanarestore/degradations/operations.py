"""What happens to photographs, one frozen dataclass each: image in, degraded image out, every draw from its own stream.

An image is float32 [H, W, C], C = 1 or 3, encoded values nominally in [0, 1]. An operation is a pure function of the
image and of its own fields: two operations with equal fields add the same noise, whatever stands before or after
them. That is what makes the target of a selective pair carry the *same* remaining noise as its input.
"""

import io
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from scipy import ndimage, special

Pixels = npt.NDArray[np.float32]


class Operation(Protocol):
    """One degradation with all its parameters drawn."""

    @property
    def kind(self) -> str:
        """The word prompts are chosen by: noise, jpeg, blur, lowres, lowlight or colour."""

    def __call__(self, image_HWC: Pixels) -> Pixels:
        """Degrade a copy; same shape, not clipped unless the operation stores codes."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class PoissonNoise:
    """Poisson(x 255/c) c/255: photon counting where one photon is worth c codes."""

    scale: float
    """c, in 8-bit codes per photon."""
    seed: int
    kind = "noise"

    def __call__(self, image_HWC: Pixels) -> Pixels:
        # By the quantile of a uniform field, not by a sampler: a sampler's stream shifts when one pixel changes.
        uniform = np.random.default_rng(self.seed).random(image_HWC.shape)
        photons = poisson_quantile(uniform, np.clip(image_HWC, 0, None).astype(np.float64) * (255 / self.scale))
        return (photons * (self.scale / 255)).astype(np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraNoise:
    """Shot and read noise on an RGGB Bayer mosaic in linear light, then bilinear demosaicing.

    Variance gain * x + read^2 (Foi et al. 2008, eq. 1), normal, x linear in [0, 1]. Gray images have no mosaic.
    """

    gain: float
    """Variance per unit of linear light."""
    read: float
    """Standard deviation in the dark, in linear light."""
    seed: int
    kind = "noise"

    def __call__(self, image_HWC: Pixels) -> Pixels:
        return encode_srgb(_expose(decode_srgb(image_HWC), self.gain, self.read, self.seed))


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Jpeg:
    """Stored as JPEG by libjpeg and read again: 8-bit by nature, whatever the depth of the image."""

    quality: int
    """libjpeg's quality, 1 to 95."""
    subsampling: str = "4:2:0"
    kind = "jpeg"

    def __call__(self, image_HWC: Pixels) -> Pixels:
        codes = np.rint(np.clip(image_HWC, 0, 1) * 255).astype(np.uint8)
        gray = codes.shape[2] == 1
        buffer = io.BytesIO()
        picture = PillowImage.fromarray(codes[..., 0] if gray else codes)
        picture.save(buffer, "JPEG", quality=self.quality, subsampling=-1 if gray else self.subsampling)
        decoded = np.asarray(PillowImage.open(buffer), dtype=np.float32) / np.float32(255)
        return decoded.reshape(image_HWC.shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class Blur:
    """Gaussian blur, cut at four sigmas, mirrored at the border."""

    sigma: float
    """Standard deviation in pixels."""
    kind = "blur"

    @classmethod
    def of_kernel(cls, size: int) -> "Blur":
        """The Gaussian that OpenCV takes for a k x k kernel: 0.3((k-1)/2 - 1) + 0.8."""
        return cls(sigma=0.3 * ((size - 1) / 2 - 1) + 0.8)

    def __call__(self, image_HWC: Pixels) -> Pixels:
        sigmas = (self.sigma, self.sigma, 0.0)
        return ndimage.gaussian_filter(image_HWC, sigmas, mode="reflect", truncate=4.0, output=np.float32)  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True, slots=True)
class LowResolution:
    """Antialiased bicubic down by a factor, bicubic up again to the size it had."""

    factor: float
    kind = "lowres"

    def __call__(self, image_HWC: Pixels) -> Pixels:
        height, width, _ = image_HWC.shape
        small = (max(1, round(width / self.factor)), max(1, round(height / self.factor)))
        return resize(resize(image_HWC, *small), width, height)


@dataclass(frozen=True, kw_only=True, slots=True)
class ColourShift:
    """Brightness added, contrast about mid-gray, and a gain per channel: a wrong white balance and exposure."""

    brightness: float
    contrast: float
    gains: tuple[float, float, float]
    kind = "colour"

    def __call__(self, image_HWC: Pixels) -> Pixels:
        gains = np.asarray(self.gains[: image_HWC.shape[2]], dtype=np.float32)
        shifted = (image_HWC * gains - 0.5) * np.float32(1 + self.contrast) + np.float32(0.5 + self.brightness)
        return np.clip(shifted, 0, 1, dtype=np.float32)


def resize(image_HWC: Pixels, width: int, height: int) -> Pixels:
    """Bicubic (a = -0.5) resampling in float32, antialiased when shrinking, mirrored nowhere: Pillow's rule."""
    size = (width, height)
    planes = [
        np.asarray(PillowImage.fromarray(np.ascontiguousarray(plane)).resize(size, PillowImage.Resampling.BICUBIC))
        for plane in np.moveaxis(image_HWC, 2, 0)
    ]
    return np.stack(planes, axis=2)


def decode_srgb(encoded: Pixels) -> Pixels:
    """Encoded values to linear light (IEC 61966-2-1); values outside [0, 1] are clipped."""
    clipped = np.clip(encoded, 0, 1, dtype=np.float32)
    return np.where(clipped <= 0.04045, clipped / 12.92, ((clipped + 0.055) / 1.055) ** 2.4).astype(np.float32)


def encode_srgb(linear: Pixels) -> Pixels:
    """Linear light to encoded values (IEC 61966-2-1), clipped to [0, 1] as a camera's file is."""
    clipped = np.clip(linear, 0, 1, dtype=np.float32)
    root = 1.055 * np.maximum(clipped, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(clipped <= 0.0031308, 12.92 * clipped, root).astype(np.float32)


def poisson_quantile(
    uniform: npt.NDArray[np.float64], mean: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Smallest k with P(X <= k) >= u for X ~ Poisson(mean): monotone in u and mean, one draw a pixel.

    Exact below a mean of 12; above it the Cornish-Fisher expansion to third order, rounded, which is within one
    photon of the exact quantile (equal in 99% of draws) and a hundred times as fast.
    """
    normal = special.ndtri(uniform)
    spread = np.sqrt(mean)
    third = (normal**2 - 1) / 6 - (normal**3 - normal) / (72 * np.maximum(spread, 1))
    photons = np.rint(mean + spread * normal + third)
    few = mean < 12
    photons[few] = np.where(mean[few] > 0, np.ceil(special.pdtrik(uniform[few], np.maximum(mean[few], 1e-12))), 0)
    return np.maximum(photons, 0)  # type: ignore[no-any-return]


def _expose(linear_HWC: Pixels, gain: float, read: float, seed: int) -> Pixels:
    """What the sensor counts of the light, demosaiced where there is colour."""
    rng = np.random.default_rng(seed)
    if linear_HWC.shape[2] == 1:
        return _count(linear_HWC, gain, read, rng)
    channel_HW = np.array([[0, 1], [1, 2]])[np.ix_(*(np.arange(n) % 2 for n in linear_HWC.shape[:2]))]
    mosaic_HW = np.take_along_axis(linear_HWC, channel_HW[..., None], axis=2)[..., 0]
    return _demosaic(_count(mosaic_HW, gain, read, rng), channel_HW)


def _count(linear: Pixels, gain: float, read: float, rng: np.random.Generator) -> Pixels:
    spread = np.sqrt(gain * np.maximum(linear, 0) + read**2, dtype=np.float32)
    return linear + spread * rng.standard_normal(linear.shape, dtype=np.float32)


def _demosaic(mosaic_HW: Pixels, channel_HW: npt.NDArray[np.int64]) -> Pixels:
    """Bilinear: each missing value is the weighted mean of its colour's neighbours."""
    weights = np.outer([0.5, 1, 0.5], [0.5, 1, 0.5])
    planes = []
    for channel in range(3):
        known = (channel_HW == channel).astype(np.float32)
        total = ndimage.convolve(mosaic_HW * known, weights, mode="mirror", output=np.float32)
        planes.append(total / np.maximum(ndimage.convolve(known, weights, mode="mirror", output=np.float32), 1e-6))
    return np.where(
        channel_HW[..., None] == np.arange(3), mosaic_HW[..., None], np.stack(planes, axis=2)
    ).astype(np.float32)
