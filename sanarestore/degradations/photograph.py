"""What a camera makes of light: sensor, demosaicing, colour, tone curve, noise reduction, sharpening, JPEG.

Noise in photographs is not white. It is counted on a mosaic, spread by demosaicing, mixed by the colour matrix, shaped
by the tone curve, worked on by noise reduction (more in chroma than in luma, less at edges) and by sharpening, and
stored as JPEG: weaker than the noise of test protocols, correlated over pixels and channels, strongest in the midtones.

Sensor noise follows the profiles that darktable publishes, 6,422 of 374 cameras: variance `a x + b` of linear light x
in [0, 1] after white balance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from sanarestore.degradations.mosaic import METHODS, colour_sites, demosaic
from sanarestore.degradations.operations import Jpeg, Pixels, decode_srgb, encode_srgb, resize

LOG_SHOT = (-5.5, 0.2625, 0.4)
"""log10 of a, green: its median at ISO 100, what a stop adds, and its standard deviation among cameras."""

LOG_READ = (1.239, -1.407, 0.45)
"""log10 of b from log10 of a: slope, intercept, standard deviation."""

SHOT_RATIOS = ((2.1, 0.26), (1.95, 0.32))
"""a of red and of blue over that of green: median, and standard deviation of the natural logarithm."""

READ_RATIOS = ((1.2, 0.42), (1.4, 0.44))
"""b of red and of blue over that of green."""

PHONE_SHARE, PHONE_STOPS = 0.35, (1.0, 3.0)
"""Share of photographs by phones, and by how many stops their noise lies above that of cameras."""

MOST_PUSHED = 3.0
"""Stops by which exposures are raised afterwards, at most."""

SHADOWS_TO = 0.15
"""Encoded value below which most of the shadows lie."""

SENSOR_PIXELS = 24_000_000
"""Sites of the largest sensor: photographs of more pixels were made no smaller."""

_NODES = np.linspace(0, 1, 1025, dtype=np.float32)

_YCC = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], dtype=np.float32
)  # ITU-R BT.601
_RGB = np.linalg.inv(_YCC).astype(np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseReduction:
    """Remove a share of the noise that is finer than a radius; coarse blotches stay, edges keep more."""

    luma: float
    """Share removed of luma noise, 0 to 1."""
    chroma: float
    radius: float
    """Standard deviation of the Gaussian that separates fine from coarse, in pixels, for luma."""
    chroma_radius: float
    edge: float
    """Gradient, in encoded values per pixel, at which half of the reduction is left."""
    shadows: float
    """Share of what is left that goes too in the deepest shadows, where cameras reduce most."""

    def __call__(self, noise_HWC: Pixels, clean_HWC: Pixels) -> Pixels:
        """What is left of the noise."""
        return self._lightly(noise_HWC, clean_HWC) * (1 - np.float32(self.shadows) * _darkness(clean_HWC))

    def _lightly(self, noise_HWC: Pixels, clean_HWC: Pixels) -> Pixels:
        """As much in shadows as elsewhere."""
        edge_HW = _gradient(clean_HWC) / np.float32(self.edge)
        strength_HW: Pixels = np.reciprocal(1 + edge_HW * edge_HW)
        if noise_HWC.shape[2] == 1:
            return _without_fine(noise_HWC[..., 0], self.luma * strength_HW, self.radius)[..., None]
        ycc_HWC = noise_HWC @ _YCC.T
        settings = ((self.luma, self.radius), (self.chroma, self.chroma_radius), (self.chroma, self.chroma_radius))
        planes = [
            _without_fine(ycc_HWC[..., plane], share * strength_HW, radius)
            for plane, (share, radius) in enumerate(settings)
        ]
        left_HWC: Pixels = np.stack(planes, axis=2) @ _RGB.T
        return left_HWC


@dataclass(frozen=True, kw_only=True, slots=True)
class Photograph:
    """A photograph as a camera stores it, from an image that stands for the scene."""

    shot: tuple[float, float, float]
    """Variance per unit of linear light of red, green and blue, after white balance."""
    read: tuple[float, float, float]
    """Variance in the dark."""
    contrast: float
    """Share of an S-curve in the tone curve, 0 to below 1; the rest is that of sRGB."""
    saturation: float
    """What the colour matrix takes of each channel from the other two."""
    pattern: str
    phase: tuple[int, int]
    """Rows and columns into the colour filter array at which the image begins."""
    method: str
    """Of demosaicing, one of `mosaic.METHODS`."""
    softness: float
    """Standard deviation of a low-pass that all noise goes through, in pixels: what lens corrections do."""
    reduction: NoiseReduction | None
    sharpening: float
    """Amount of an unsharp mask; 0 is none."""
    sharpening_radius: float
    scale: float
    """Size of the stored photograph over that of the sensor's, at most 1, and no less than `SENSOR_PIXELS` allow."""
    jpegs: tuple[Jpeg, ...]
    """Stored once or more often; empty: not at all."""
    seed: int
    kind = "noise"

    def __call__(self, image_HWC: Pixels) -> Pixels:
        height, width = image_HWC.shape[:2]
        scene_HWC = image_HWC
        scale = min(max(self.scale, (height * width / SENSOR_PIXELS) ** 0.5), 1)
        if scale < 1:
            scene_HWC = resize(image_HWC, max(1, round(width / scale)), max(1, round(height / scale)))
        developed_HWC = np.clip(scene_HWC, 0, 1)
        if any(self.shot) or any(self.read):
            developed_HWC = developed_HWC + self._noise(developed_HWC)
        if self.sharpening:
            mask_HWC = developed_HWC - _blurred(developed_HWC, self.sharpening_radius)
            developed_HWC = developed_HWC + np.float32(self.sharpening) * mask_HWC
        if scale < 1:
            developed_HWC = resize(developed_HWC, width, height)
        stored_HWC: Pixels = np.clip(developed_HWC, 0, 1).astype(np.float32)
        for jpeg in self.jpegs:
            stored_HWC = jpeg(stored_HWC)
        return stored_HWC

    def on_average(self, overview_HWC: Pixels) -> Pixels:
        return np.clip(overview_HWC, 0, 1)

    def without_noise(self) -> "Photograph":
        """The same camera with a sensor that adds no noise, before its JPEG: the restoration that is wanted."""
        return replace(self, shot=(0.0, 0.0, 0.0), read=(0.0, 0.0, 0.0), jpegs=())

    def _noise(self, scene_HWC: Pixels) -> Pixels:
        """What two exposures differ by, one with and one without noise: demosaicing's own errors are in both, and stay
        out of the photograph, as cameras hardly show any."""
        light_HWC = self._light(scene_HWC)
        noise_HWC = self._develop(light_HWC, noisy=True) - self._develop(light_HWC)
        if self.softness:
            noise_HWC = _blurred(noise_HWC, self.softness)
        return self.reduction(noise_HWC, scene_HWC) if self.reduction else noise_HWC

    def _light(self, scene_HWC: Pixels) -> Pixels:
        """Linear light in the camera's colours, which the rest of the chain turns back into the scene."""
        flat_HWC = np.interp(scene_HWC, self._curve(_NODES), _NODES).astype(np.float32)
        light_HWC = decode_srgb(flat_HWC)
        return light_HWC if scene_HWC.shape[2] == 1 else light_HWC @ np.linalg.inv(self._matrix()).T

    def _develop(self, light_HWC: Pixels, *, noisy: bool = False) -> Pixels:
        """Count the light, demosaic, and bring it to encoded values."""
        if light_HWC.shape[2] == 1:
            return self._encode(self._count(light_HWC, self.shot[1], self.read[1]) if noisy else light_HWC)
        height, width, _ = light_HWC.shape
        # One row or column alone would hold no site of some colour: it is doubled, and cut again.
        light_HWC = np.pad(light_HWC, ((0, height < 6 and 6), (0, width < 6 and 6), (0, 0)), mode="symmetric")
        site_HW = colour_sites(light_HWC.shape[0], light_HWC.shape[1], self.pattern, self.phase)
        mosaic_HW = np.take_along_axis(light_HWC, site_HW[..., None], axis=2)[..., 0]
        if noisy:
            shot, read = (np.array(part, dtype=np.float32)[site_HW] for part in (self.shot, self.read))
            mosaic_HW = self._count(mosaic_HW, shot, read)
        colour_HWC = demosaic(mosaic_HW, site_HW, self.pattern, self.method)[:height, :width]
        return self._encode(colour_HWC @ self._matrix().T)

    def _count(self, light: Pixels, shot: Pixels | float, read: Pixels | float) -> Pixels:
        spread = np.sqrt(shot * np.maximum(light, 0) + read, dtype=np.float32)
        return light + spread * np.random.default_rng(self.seed).standard_normal(light.shape, dtype=np.float32)

    def _encode(self, linear_HWC: Pixels) -> Pixels:
        return self._curve(encode_srgb(linear_HWC))

    def _curve(self, encoded: Pixels) -> Pixels:
        """The S-curve 3x^2 - 2x^3 in its share, monotone."""
        share = np.float32(self.contrast)
        return (1 - share) * encoded + share * encoded * encoded * (3 - 2 * encoded)

    def _matrix(self) -> Pixels:
        """Rows sum to one, so that gray stays gray."""
        share = self.saturation
        return (np.eye(3) * (1 + 3 * share) - share).astype(np.float32)


def draw_photograph(stops: float, rng: np.random.Generator) -> Photograph:
    """A camera and its settings at random, `stops` above ISO 100."""
    phone = rng.uniform(*PHONE_STOPS) if rng.random() < PHONE_SHARE else 0.0
    pushed = MOST_PUSHED * float(rng.random()) ** 2
    log_shot = LOG_SHOT[0] + LOG_SHOT[1] * (stops + phone) + rng.normal(0, LOG_SHOT[2])
    log_read = LOG_READ[0] * log_shot + LOG_READ[1] + rng.normal(0, LOG_READ[2])
    shot = _per_channel(rng, 10**log_shot * 2**pushed, SHOT_RATIOS)
    read = _per_channel(rng, 10**log_read * 4**pushed, READ_RATIOS)
    pattern = "xtrans" if rng.random() < 0.1 else "bayer"
    size = 6 if pattern == "xtrans" else 2
    return Photograph(
        shot=shot, read=read,
        contrast=float(rng.uniform(0.4, 0.97)),
        saturation=float(rng.uniform(0, 0.2)),
        pattern=pattern,
        phase=(int(rng.integers(size)), int(rng.integers(size))),
        method=str(rng.choice(METHODS[pattern])),
        softness=float(rng.uniform(0.45, 1.2)),
        reduction=_draw_reduction(rng) if rng.random() < 0.85 else None,
        sharpening=float(rng.uniform(0.1, 0.8)) if rng.random() < 0.6 else 0.0,
        sharpening_radius=float(rng.uniform(0.6, 1.5)),
        scale=float(rng.uniform(0.4, 1)) if rng.random() < 0.4 else 1.0,
        jpegs=_draw_jpegs(rng),
        seed=int(rng.integers(2**62)),
    )  # fmt: skip


def _draw_reduction(rng: np.random.Generator) -> NoiseReduction:
    """More in chroma than in luma, and over a wider radius."""
    luma = 1 - float(10 ** rng.uniform(-1.2, -0.15))
    return NoiseReduction(
        luma=luma,
        chroma=1 - float(10 ** rng.uniform(-2.5, -1.0)),
        radius=float(rng.uniform(1.5, 5)),
        chroma_radius=float(rng.uniform(3, 8)),
        edge=float(rng.uniform(0.05, 0.4)),
        shadows=float(rng.uniform(0, 0.8)),
    )


def _draw_jpegs(rng: np.random.Generator) -> tuple[Jpeg, ...]:
    """Mostly once, now and then twice, now and then not."""
    count = int(rng.choice(3, p=(0.15, 0.7, 0.15)))
    return tuple(
        Jpeg(
            quality=round(98 - 16 * float(rng.random()) ** 2), subsampling=str(rng.choice(["4:2:0", "4:2:2", "4:4:4"]))
        )
        for _ in range(count)
    )


def _per_channel(
    rng: np.random.Generator, green: float, ratios: Sequence[tuple[float, float]]
) -> tuple[float, float, float]:
    red, blue = (float(green * median * np.exp(rng.normal(0, spread))) for median, spread in ratios)
    return red, float(green), blue


def _without_fine(noise_HW: Pixels, share_HW: Pixels, radius: float) -> Pixels:
    coarse_HW = ndimage.gaussian_filter(noise_HW, radius, truncate=3, output=np.float32)
    left_HW: Pixels = noise_HW + share_HW * (coarse_HW - noise_HW)
    return left_HW


def _blurred(image_HWC: Pixels, sigma: float) -> Pixels:
    blurred_HWC: Pixels = ndimage.gaussian_filter(image_HWC, (sigma, sigma, 0), truncate=3, output=np.float32)
    return blurred_HWC


def _darkness(image_HWC: Pixels) -> Pixels:
    """1 at black, 1/e at `SHADOWS_TO`, [H, W, 1]."""
    luma_HW1: Pixels = np.clip(image_HWC, 0, 1).mean(axis=2, keepdims=True, dtype=np.float32)
    darkness_HW1: Pixels = np.exp(-luma_HW1 / np.float32(SHADOWS_TO))
    return darkness_HW1


def _gradient(image_HWC: Pixels) -> Pixels:
    """Magnitude of the luma's gradient, smoothed, per pixel."""
    luma_HW = image_HWC.mean(axis=2, dtype=np.float32)
    gradient_HW: Pixels = ndimage.gaussian_gradient_magnitude(luma_HW, 1.0, truncate=3, output=np.float32)
    return gradient_HW
