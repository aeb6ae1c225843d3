"""Named degradations: each name and level becomes an operation whose other parameters are drawn at random."""

from collections.abc import Callable

import numpy as np

from sanarestore.degradations.dust import DustAndScratches
from sanarestore.degradations.film import ColourBlotches, FilmGrain
from sanarestore.degradations.lens import Defocus, MotionBlur
from sanarestore.degradations.operations import (
    Blur,
    CameraNoise,
    ColourShift,
    GaussianNoise,
    Jpeg,
    LowLight,
    LowResolution,
    Operation,
    PoissonNoise,
)
from sanarestore.degradations.photograph import draw_photograph
from sanarestore.degradations.storage import JpegTwice, WebP

Draw = Callable[[float, np.random.Generator], Operation]


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**62))


def _camera(strength: float, rng: np.random.Generator) -> CameraNoise:
    """Draw camera noise: strength 1 is a good sensor at base ISO, 100 a small one in the dark; read noise varies."""
    gain = 1e-4 * strength
    return CameraNoise(gain=gain, read=float(rng.uniform(0.2, 0.8)) * gain**0.5 * 0.1, seed=_seed(rng))


def _low_light(stops: float, rng: np.random.Generator) -> LowLight:
    gain = float(10 ** rng.uniform(-3.7, -2.5))
    return LowLight(stops=stops, gain=gain, read=float(rng.uniform(0.2, 0.8)) * gain**0.5 * 0.1, seed=_seed(rng))


def _colour(amount: float, rng: np.random.Generator) -> ColourShift:
    brightness, contrast, *gains = (float(value) for value in rng.uniform(-amount, amount, 5))
    return ColourShift(brightness=brightness, contrast=contrast, gains=(1 + gains[0], 1 + gains[1], 1 + gains[2]))


def _grain(sigma: float, rng: np.random.Generator) -> FilmGrain:
    """Draw film grain; a third of the films are black and white."""
    colour = float(rng.uniform(0.2, 0.7)) if rng.random() < 2 / 3 else 0.0
    return FilmGrain(sigma=sigma, size=float(rng.uniform(0.4, 1.6)), colour=colour, seed=_seed(rng))


def _blotches(sigma: float, rng: np.random.Generator) -> ColourBlotches:
    return ColourBlotches(sigma=sigma, size=float(rng.uniform(1, 5)), seed=_seed(rng))


def _twice(quality: float, rng: np.random.Generator) -> JpegTwice:
    """Draw two JPEG compressions: the first of quality 30 to 95, mostly on another block grid."""
    first = Jpeg(quality=int(rng.integers(30, 96)))
    shift = (int(rng.integers(8)), int(rng.integers(8)))
    return JpegTwice(first=first, second=Jpeg(quality=round(quality)), shift=shift)


def _motion(length: float, rng: np.random.Generator) -> MotionBlur:
    return MotionBlur(length=length, angle=float(rng.uniform(0, np.pi)))


def _dust(density: float, rng: np.random.Generator) -> DustAndScratches:
    """Draw dust and scratches, of a negative in two thirds of the cases, otherwise of a slide."""
    white = float(rng.uniform(0.85, 1) if rng.random() < 2 / 3 else rng.uniform(0.1, 0.4))
    return DustAndScratches(density=density, white=white, seed=_seed(rng))


DRAWS: dict[str, Draw] = {
    "noise": lambda sigma, rng: GaussianNoise(sigma=sigma, seed=_seed(rng)),
    "poisson": lambda scale, rng: PoissonNoise(scale=scale, seed=_seed(rng)),
    "camera": _camera,
    "photograph": draw_photograph,
    "grain": _grain,
    "blotches": _blotches,
    "jpeg": lambda quality, rng: Jpeg(quality=round(quality)),
    "jpeg-twice": _twice,
    "webp": lambda quality, rng: WebP(quality=round(quality)),
    "blur": lambda sigma, rng: Blur(sigma=sigma),
    "kernel": lambda size, rng: Blur.of_kernel(round(size)),
    "defocus": lambda radius, rng: Defocus(radius=radius),
    "motion": _motion,
    "lowres": lambda factor, rng: LowResolution(factor=factor),
    "lowlight": _low_light,
    "colour": _colour,
    "dust": _dust,
}
"""Name -> function of a level and a generator that draws the operation."""

BOUNDS = {
    "noise": (0, 255), "poisson": (0.01, 255), "camera": (0, 1000), "photograph": (0, 12), "grain": (0, 255),
    "blotches": (0, 255), "jpeg": (1, 95), "jpeg-twice": (1, 95), "webp": (0, 100), "blur": (0.05, 50),
    "kernel": (3, 99), "defocus": (0.5, 50), "motion": (1, 200), "lowres": (1, 16), "lowlight": (0, 10),
    "colour": (0, 1), "dust": (0, 5000),
}  # fmt: skip
"""Lowest and highest level of each name."""

UNITS = {
    "noise": "standard deviations in 8-bit codes", "poisson": "8-bit codes per photon",
    "camera": "strengths, 1 for a good sensor at base ISO", "photograph": "stops above ISO 100",
    "grain": "standard deviations at mid-gray in 8-bit codes", "blotches": "standard deviations in 8-bit codes",
    "jpeg": "libjpeg's quality", "jpeg-twice": "libjpeg's quality, of the second time", "webp": "libwebp's quality",
    "blur": "standard deviations in pixels", "kernel": "kernel sizes in pixels", "defocus": "radii in pixels",
    "motion": "lengths in pixels", "lowres": "factors", "lowlight": "stops taken away",
    "colour": "largest shifts, 0 to 1", "dust": "marks per megapixel",
}  # fmt: skip
"""What the level of each name means."""

WHOLE = ("jpeg", "jpeg-twice", "webp", "kernel")
"""Names whose level is rounded to an integer."""

POOL = (
    "noise:5-50", "poisson:0.5-8", "camera:5-100", "jpeg:10-60", "blur:0.6-2.5", "lowres:2-4", "lowlight:1-3",
    "colour:0.2",
)  # fmt: skip
"""Steps that `selective` and `unneeded` choose from."""

POOL_OF_ALL = (
    *POOL, "photograph:5-12", "grain:4-20", "blotches:4-16", "jpeg-twice:20-70", "webp:20-70", "defocus:0.8-3",
    "motion:3-9",
)  # fmt: skip
"""Steps that `combined-light` chooses from; `combined` leaves out light and colour."""
