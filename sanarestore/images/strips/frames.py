"""Images whose pixels are elsewhere: all that a file says of them, in arrays that take no memory."""

from dataclasses import replace

import numpy as np

from sanarestore.images.codes import Stored
from sanarestore.images.image import Image


def stretched(image: Image, height: int) -> Image:
    """An image of one row as one of `height` rows, all of zeros, which take no memory."""
    extra = image.extra and replace(image.extra, codes_HWS=_zeros(image.extra.codes_HWS, height))
    alpha_HW = None if image.alpha_HW is None else _zeros(image.alpha_HW, height)
    return replace(image, pixels_HWC=_zeros(image.pixels_HWC, height), alpha_HW=alpha_HW, extra=extra)


def _zeros(like: Stored, height: int) -> Stored:
    return np.broadcast_to(np.zeros((), like.dtype), (height, *like.shape[1:]))
