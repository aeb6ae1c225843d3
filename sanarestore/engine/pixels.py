"""An image's pixels as stages take them: enlarged, as a tensor, and all of them numbers."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sanarestore import images
from sanarestore.degradations.operations import resize


def enlarge(image: images.Image, scale: int) -> images.Image:
    """Bicubic enlargement of pixels and alpha by a whole factor; the image itself at 1."""
    if scale == 1:
        return image
    width, height = image.width * scale, image.height * scale
    alpha = image.alpha_HW
    if alpha is not None:
        larger = resize(images.to_float(alpha, image.depth)[..., None], width, height)[..., 0]
        alpha = images.from_float(np.clip(larger, 0, 1), image.depth)
    return replace(image, pixels_HWC=resize(image.pixels_HWC, width, height), alpha_HW=alpha)


def host_tensor(image: images.Image) -> Tensor:
    """The pixels as a [3,H,W] view, no copy; gray is shown three times."""
    pixels_CHW = torch.from_numpy(image.pixels_HWC).permute(2, 0, 1)
    return pixels_CHW.expand(3, -1, -1)


def is_finite(pixels_HWC: npt.NDArray[np.float32]) -> bool:
    """Neither NaN nor infinite anywhere; the extremes carry both, so that no map of the image's size is needed."""
    return bool(np.isfinite(pixels_HWC.min()) and np.isfinite(pixels_HWC.max()))
