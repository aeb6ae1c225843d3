"""Resampling of pixels to another size."""

import numpy as np

from sanarestore.images.codes import Pixels


def resize(image_HWC: Pixels, width: int, height: int) -> Pixels:
    """Bicubic (a = -0.5) resampling in float32 by Pillow: antialiased when shrinking, not mirrored at the border."""
    from PIL import Image as PillowImage

    size = (width, height)
    planes = [
        np.asarray(PillowImage.fromarray(np.ascontiguousarray(plane)).resize(size, PillowImage.Resampling.BICUBIC))
        for plane in np.moveaxis(image_HWC, 2, 0)
    ]
    return np.stack(planes, axis=2)
