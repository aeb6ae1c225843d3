"""Lossy storage beyond a single JPEG: WebP, and two JPEG compressions on different block grids."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image as PillowImage
from PIL.WebPImagePlugin import WebPImageFile

from sanarestore.degradations.operations import Jpeg, KeepsMeans
from sanarestore.images import Pixels, from_float, to_float

LONGEST = 16383
"""Longest side that WebP can store, in pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WebP(KeepsMeans):
    """Lossy WebP compression by libwebp, in tiles if the image is larger than the format allows."""

    quality: int
    """libwebp's quality, 0 to 100."""
    kind = "jpeg"

    def __call__(self, image_HWC: Pixels) -> Pixels:
        codes_HWC = from_float(image_HWC, "uint8")
        stored_HWC = np.empty(image_HWC.shape, np.float32)
        for top in range(0, codes_HWC.shape[0], LONGEST):
            for left in range(0, codes_HWC.shape[1], LONGEST):
                window = np.s_[top : top + LONGEST, left : left + LONGEST]
                stored_HWC[window] = self._stored(codes_HWC[window])
        return stored_HWC

    def _stored(self, codes_HWC: np.ndarray) -> Pixels:
        colour_HWC = np.repeat(codes_HWC, 3, axis=2) if codes_HWC.shape[2] == 1 else codes_HWC
        buffer = io.BytesIO()
        PillowImage.fromarray(np.ascontiguousarray(colour_HWC)).save(buffer, "WEBP", quality=self.quality, method=2)
        buffer.seek(0)
        # PillowImage.open would take a large photo of our own for a decompression bomb.
        decoded = to_float(np.asarray(WebPImageFile(buffer).convert("RGB")), "uint8")
        return decoded[..., :1] if codes_HWC.shape[2] == 1 else decoded


@dataclass(frozen=True, kw_only=True, slots=True)
class JpegTwice(KeepsMeans):
    """Two JPEG compressions with a crop in between, which shifts the block grid."""

    first: Jpeg
    second: Jpeg
    shift: tuple[int, int]
    """Rows and columns, 0 to 7, that the crop takes off at the top and left."""
    kind = "jpeg"

    def __call__(self, image_HWC: Pixels) -> Pixels:
        rows, columns = self.shift
        wider_HWC = np.pad(image_HWC, ((rows, 0), (columns, 0), (0, 0)), mode="edge")
        return self.second(self.first(wider_HWC)[rows:, columns:])
