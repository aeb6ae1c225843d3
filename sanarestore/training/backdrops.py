"""Plain backdrops, as in product photographs."""

import numpy as np

from sanarestore.images import Pixels, from_float, to_float

WHOLLY_PLAIN = 0.35
"""Share of the crops with a plain backdrop that show nothing but the backdrop."""


def before_backdrop(clean_HWC: Pixels, rng: np.random.Generator) -> Pixels:
    """Fill a crop with a plain colour, beyond a random line or everywhere; often white, black or saturated."""
    height, width, channels = clean_HWC.shape
    colour = rng.uniform(0, 1, (channels,)) if rng.random() < 0.6 else rng.integers(0, 2, (channels,)) * 1.0
    stored = to_float(from_float(colour, "uint8"), "uint8")
    if rng.random() < WHOLLY_PLAIN:
        return np.broadcast_to(stored, clean_HWC.shape).astype(np.float32)
    angle, place = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.8, 2)
    rows, columns = np.mgrid[:height, :width] / np.array([height, width])[:, None, None] - place[:, None, None]
    beyond_HW = rows * np.sin(angle) + columns * np.cos(angle) > 0
    return np.where(beyond_HW[..., None], stored, clean_HWC).astype(np.float32)
