"""The processing chain of a camera: sensor, demosaicing, colour, tone curve, noise reduction, sharpening, JPEG.

Noise in photographs is not white. It arises on a mosaic, is spread by demosaicing, mixed by the colour matrix, shaped
by the tone curve, reduced (more in chroma than in luma, less at edges), sharpened, and stored as JPEG. The result is
weaker than the noise of test protocols, correlated over pixels and channels, and strongest in the midtones.

Sensor noise follows the 6,422 profiles of 374 cameras that darktable publishes: variance `a x + b` for linear light x
in [0, 1] after white balance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sanarestore.degradations.mosaic import METHODS, colour_sites, demosaic
from sanarestore.degradations.operations import Jpeg, decode_srgb, encode_srgb, mean_of_clipped
from sanarestore.images import Pixels, resize

LOG_SHOT = (-5.5, 0.2625, 0.4)
"""log10 of a for green: median at ISO 100, increase per stop, and standard deviation among cameras.

The profiles end at ISO 25,600; higher stops are extrapolated. They are needed because the noise reduction drawn here
removes more weak noise than cameras do: only 7 to 12 stops leave as much as was measured in photographs."""

LOG_READ = (1.239, -1.407, 0.45)
"""log10 of b from log10 of a: slope, intercept, standard deviation."""

SHOT_RATIOS = ((2.2, 0.26), (1.9, 0.32))
"""a of red and of blue divided by a of green: median, and standard deviation of the natural logarithm."""

READ_RATIOS = ((1.2, 0.42), (1.4, 0.44))
"""b of red and of blue divided by b of green: the same two figures."""

PHONE_SHARE, PHONE_STOPS = 0.35, (1.0, 3.0)
"""Share of photographs taken by phones, and range of stops by which their noise exceeds that of cameras."""

SHARP_SHARE, OPTICS = 0.25, (0.3, 2.0)
"""Share of photographs that are sharp to the pixel, and range of `Photograph.optics` in the others."""

MOST_PUSHED = 3.0
"""Most stops by which an exposure is raised after capture."""

ENDS = 0.15
"""Distance from black and from white, in encoded values, at which the further reduction has fallen to 1/e."""

SENSOR_PIXELS = 24_000_000
"""Sites of the largest sensor: larger photographs are not treated as downsized."""

_NODES = np.linspace(0, 1, 1025, dtype=np.float32)

_YCC = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], dtype=np.float32
)  # ITU-R BT.601
_RGB = np.linalg.inv(_YCC).astype(np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseReduction:
    """Remove a share of the noise that is finer than a radius; coarse blotches stay, edges keep more."""

    luma: float
    """Share of luma noise removed, 0 to 1."""
    chroma: float
    radius: float
    """Standard deviation of the Gaussian that separates fine from coarse, in pixels, for luma."""
    chroma_radius: float
    edge: float
    """Gradient, in encoded values per pixel, at which half of the reduction is left."""
    shadows: float
    """Further share removed in the deepest shadows, where cameras reduce most."""
    highlights: float
    """Further share removed in the brightest highlights, where channels saturate."""

    def __call__(self, noise_HWC: Pixels, clean_HWC: Pixels) -> Pixels:
        """Return the noise that is left."""
        left_HWC: Pixels = self._lightly(noise_HWC, clean_HWC) * self.at_ends(clean_HWC)
        return left_HWC

    def at_ends(self, clean_HWC: Pixels) -> Pixels:
        """Share of noise [H, W, 1] that the terms for shadows and highlights leave."""
        light_HW1 = np.clip(clean_HWC, 0, 1).mean(axis=2, keepdims=True, dtype=np.float32)
        left_HW1: Pixels = 1 - np.float32(self.shadows) * np.exp(-light_HW1 / np.float32(ENDS))
        left_HW1 *= 1 - np.float32(self.highlights) * np.exp((light_HW1 - 1) / np.float32(ENDS))
        return left_HW1

    def _lightly(self, noise_HWC: Pixels, clean_HWC: Pixels) -> Pixels:
        """Reduce noise without the terms for shadows and highlights."""
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
    """A photograph as a camera stores it, made from an image that stands for the scene."""

    shot: tuple[float, float, float]
    """Variance per unit of linear light of red, green and blue, after white balance."""
    read: tuple[float, float, float]
    """Variance in the dark."""
    contrast: float
    """Weight of the S-curve in the tone curve, from 0 to below 1; the rest is the sRGB curve."""
    saturation: float
    """Weight with which the colour matrix subtracts each channel from the other two."""
    pattern: str
    phase: tuple[int, int]
    """Rows and columns into the colour filter array at which the image begins."""
    method: str
    """Demosaicing method, one of `mosaic.METHODS`."""
    softness: float
    """Standard deviation of a low-pass Gaussian over all noise, in pixels: the effect of lens corrections."""
    reduction: NoiseReduction | None
    sharpening: float
    """Amount of an unsharp mask; 0 is none."""
    sharpening_radius: float
    optics: float
    """Standard deviation of the low-pass Gaussian that lens and demosaicing apply to the scene, in sensor pixels. The
    wanted restoration has it too: a photograph at its sensor's size is never sharp to the pixel."""
    scale: float
    """Width of the stored photograph divided by the sensor's, at most 1; raised to stay within `SENSOR_PIXELS`."""
    jpegs: tuple[Jpeg, ...]
    """JPEG encodings applied in order; empty for none."""
    seed: int
    kind = "noise"

    def __call__(self, image_HWC: Pixels) -> Pixels:
        height, width = image_HWC.shape[:2]
        scene_HWC = image_HWC
        scale = min(max(self.scale, (height * width / SENSOR_PIXELS) ** 0.5), 1)
        if scale < 1:
            scene_HWC = resize(image_HWC, max(1, round(width / scale)), max(1, round(height / scale)))
        developed_HWC = np.clip(scene_HWC, 0, 1)
        if self.optics:
            developed_HWC = _blurred(developed_HWC, self.optics)
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
        """Degrade means by the noise that is left in flat areas, clipped as the photograph is."""
        inside_HWC = np.clip(overview_HWC, 0, 1)
        linear_HWC = self._linear(inside_HWC)
        spread_HWC = self._spread_of(linear_HWC) * self._slope(linear_HWC)
        # A Gaussian of width s leaves 1 / (2 s sqrt(pi)) of white noise, and more of noise that is already correlated.
        left = min(1.0, 0.4 / max(self.softness, 1e-3))
        if self.reduction:
            left *= 1 - self.reduction.luma
            spread_HWC = spread_HWC * self.reduction.at_ends(inside_HWC)
        return mean_of_clipped(inside_HWC, spread_HWC * np.float32(left))

    def without_noise(self) -> "Photograph":
        """Return the same camera without sensor noise and JPEG: the wanted restoration."""
        return replace(self, shot=(0.0, 0.0, 0.0), read=(0.0, 0.0, 0.0), jpegs=())

    def _noise(self, scene_HWC: Pixels) -> Pixels:
        """Sensor noise in encoded values.

        Demosaicing and the colour matrix are linear, and the tone curve is approximated by its chord over the noise,
        so the noise has zero mean. Errors of demosaicing itself are left out, because cameras hardly show any.
        """
        linear_HWC = self._linear(scene_HWC)
        noise_HWC = self._counted(linear_HWC) * self._slope(linear_HWC)
        if self.softness:
            noise_HWC = _blurred(noise_HWC, self.softness)
        return self.reduction(noise_HWC, scene_HWC) if self.reduction else noise_HWC

    def _linear(self, scene_HWC: Pixels) -> Pixels:
        """Linear light that the tone curve maps to the scene."""
        curve = self._curve(_NODES)
        # Plane by plane to save memory: interpolation is in float64, and photographs are large.
        planes = [np.interp(plane, curve, _NODES).astype(np.float32) for plane in np.moveaxis(scene_HWC, 2, 0)]
        return decode_srgb(np.stack(planes, axis=2))

    def _counted(self, linear_HWC: Pixels) -> Pixels:
        """Noise of every colour at every pixel, in linear light."""
        rng = np.random.default_rng(self.seed)
        if linear_HWC.shape[2] == 1:
            return self._spread_of(linear_HWC) * rng.standard_normal(linear_HWC.shape, dtype=np.float32)
        height, width, _ = linear_HWC.shape
        # Fewer rows or columns than the pattern may lack sites of one colour: more are added, then cropped.
        linear_HWC = np.pad(linear_HWC, ((0, height < 6 and 6), (0, width < 6 and 6), (0, 0)), mode="symmetric")
        matrix = self._matrix()
        site_HW = colour_sites(linear_HWC.shape[0], linear_HWC.shape[1], self.pattern, self.phase)
        light_HWC = linear_HWC @ np.linalg.inv(matrix).T
        light_HW = np.take_along_axis(light_HWC, site_HW[..., None], axis=2)[..., 0]
        shot, read = (np.array(part, dtype=np.float32).take(site_HW) for part in (self.shot, self.read))
        noise_HW = _spread(light_HW, shot, read) * rng.standard_normal(light_HW.shape, dtype=np.float32)
        noise_HWC: Pixels = demosaic(noise_HW, site_HW, self.pattern, self.method)[:height, :width] @ matrix.T
        return noise_HWC

    def _spread_of(self, linear_HWC: Pixels) -> Pixels:
        """Standard deviation of the sensor's noise in every channel; a gray image has that of green."""
        colours = (1,) if linear_HWC.shape[2] == 1 else (0, 1, 2)
        shot, read = (np.array([part[colour] for colour in colours], np.float32) for part in (self.shot, self.read))
        return _spread(linear_HWC, shot, read)

    def _slope(self, linear_HWC: Pixels) -> Pixels:
        """Slope of the tone curve: its chord over one standard deviation of noise to each side."""
        spread_HWC = np.maximum(self._spread_of(linear_HWC), np.float32(1e-5))
        chord_HWC = self._encode(linear_HWC + spread_HWC) - self._encode(linear_HWC - spread_HWC)
        slope_HWC: Pixels = chord_HWC / (2 * spread_HWC)
        return slope_HWC

    def _encode(self, linear_HWC: Pixels) -> Pixels:
        """Encode linear light; below black and above white the curve continues along its tangent."""
        beyond_HWC = linear_HWC - np.clip(linear_HWC, 0, 1)
        slope_HWC = np.where(beyond_HWC < 0, np.float32(12.92), np.float32(1.055 / 2.4))
        return self._curve(encode_srgb(linear_HWC)) + np.float32(1 - self.contrast) * slope_HWC * beyond_HWC

    def _curve(self, encoded: Pixels) -> Pixels:
        """Blend of the identity and the S-curve 3x^2 - 2x^3, weighted by `contrast`; monotone in [0, 1]."""
        share = np.float32(self.contrast)
        return (1 - share) * encoded + share * encoded * encoded * (3 - 2 * encoded)

    def _matrix(self) -> Pixels:
        """Colour matrix; its rows sum to one, so that gray stays gray."""
        share = self.saturation
        return (np.eye(3) * (1 + 3 * share) - share).astype(np.float32)


def draw_photograph(stops: float, rng: np.random.Generator) -> Photograph:
    """Draw a camera and its settings at random, `stops` above ISO 100."""
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
        softness=float(rng.uniform(0.45, 1.15)),
        reduction=_draw_reduction(rng) if rng.random() < 0.85 else None,
        sharpening=float(rng.uniform(0.1, 0.8)) if rng.random() < 0.6 else 0.0,
        sharpening_radius=float(rng.uniform(0.6, 1.5)),
        scale=float(rng.uniform(0.4, 1)) if rng.random() < 0.4 else 1.0,
        jpegs=_draw_jpegs(rng),
        seed=int(rng.integers(2**62)),
        optics=float(rng.uniform(*OPTICS)) if rng.random() >= SHARP_SHARE else 0.0,
    )  # fmt: skip


def _draw_reduction(rng: np.random.Generator) -> NoiseReduction:
    """Draw noise reduction: mostly stronger and wider in chroma than in luma."""
    luma = 1 - float(10 ** rng.uniform(-1.2, -0.15))
    return NoiseReduction(
        luma=luma,
        chroma=1 - float(10 ** rng.uniform(-2.5, -1.0)),
        radius=float(rng.uniform(1.5, 5)),
        chroma_radius=float(rng.uniform(3, 8)),
        edge=float(rng.uniform(0.05, 0.4)),
        shadows=float(rng.uniform(0.3, 1.0)),
        highlights=float(rng.uniform(0, 0.7)),
    )


def _draw_jpegs(rng: np.random.Generator) -> tuple[Jpeg, ...]:
    """Draw no (15%), one (70%) or two (15%) JPEG encodings."""
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


def _spread(light: Pixels, shot: Pixels | float, read: Pixels | float) -> Pixels:
    """Standard deviation of the sensor's noise at this linear light; `shot` and `read` are variances."""
    spread: Pixels = np.sqrt(shot * np.maximum(light, 0) + read, dtype=np.float32)
    return spread


def _without_fine(noise_HW: Pixels, share_HW: Pixels, radius: float) -> Pixels:
    from scipy import ndimage

    coarse_HW = ndimage.gaussian_filter(noise_HW, radius, truncate=3, output=np.float32)
    left_HW: Pixels = noise_HW + share_HW * (coarse_HW - noise_HW)
    return left_HW


def _blurred(image_HWC: Pixels, sigma: float) -> Pixels:
    from scipy import ndimage

    blurred_HWC: Pixels = ndimage.gaussian_filter(image_HWC, (sigma, sigma, 0), truncate=3, output=np.float32)
    return blurred_HWC


def _gradient(image_HWC: Pixels) -> Pixels:
    """Magnitude of the luma's gradient, smoothed, per pixel."""
    from scipy import ndimage

    luma_HW = image_HWC.mean(axis=2, dtype=np.float32)
    gradient_HW: Pixels = ndimage.gaussian_gradient_magnitude(luma_HW, 1.0, truncate=3, output=np.float32)
    return gradient_HW
