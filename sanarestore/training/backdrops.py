"""Plain backdrops, as in product photographs."""

import numpy as np

from sanarestore.degradations.operations import Pixels

WHOLLY_PLAIN = 0.35
"""Share of the crops with a plain backdrop that show nothing but the backdrop."""


def before_backdrop(clean_HWC: Pixels, rng: np.random.Generator) -> Pixels:
    """Fill a crop with a plain colour, beyond a random line or everywhere; often white, black or saturated."""
    height, width, channels = clean_HWC.shape
    colour = rng.uniform(0, 1, channels) if rng.random() < 0.6 else rng.integers(0, 2, channels)
    stored = np.rint(colour * 255).astype(np.float32) / np.float32(255)
    if rng.random() < WHOLLY_PLAIN:
        return np.broadcast_to(stored, clean_HWC.shape).astype(np.float32)
    angle, place = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.8, 2)
    rows, columns = np.mgrid[:height, :width] / np.array([height, width])[:, None, None] - place[:, None, None]
    beyond_HW = rows * np.sin(angle) + columns * np.cos(angle) > 0
    return np.where(beyond_HW[..., None], stored, clean_HWC).astype(np.float32)
