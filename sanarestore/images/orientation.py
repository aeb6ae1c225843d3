"""Turn pixels upright for AVIF and JPEG XL, which ignore the orientation in EXIF."""

from dataclasses import replace

import numpy as np

from sanarestore.images import exif, ifd
from sanarestore.images.fitting import upright_metadata
from sanarestore.images.foreign import turned, upright
from sanarestore.images.image import Format, Image

UPRIGHT: tuple[Format, ...] = ("avif", "jxl")
"""Formats that are written upright."""

_ORIENTATION = 274
_TURNS: dict[int, tuple[int, int | None]] = {
    2: (0, 1), 3: (2, None), 4: (0, 0), 5: (1, 0), 6: (3, None), 7: (1, 1), 8: (1, None),
}  # fmt: skip
"""EXIF orientation -> quarter turns anticlockwise, then whether to mirror (`foreign.turned`)."""


def turned_upright(image: Image) -> Image:
    """Return the image turned by its EXIF orientation, with metadata of upright pixels and a note."""
    block = image.metadata.exif
    turn = None if block is None else _TURNS.get(_orientation(block))
    if turn is None:
        return image
    pixels_HWC, alpha_HW = turned(image.pixels_HWC, *turn), image.alpha_HW
    height, width = pixels_HWC.shape[:2]
    metadata = upright_metadata(replace(image.metadata, exif=upright(block)), width, height)
    if metadata.dpi is not None and pixels_HWC.shape[:2] != image.pixels_HWC.shape[:2]:
        metadata = replace(metadata, dpi=metadata.dpi[::-1])
    return replace(
        image, pixels_HWC=pixels_HWC, alpha_HW=None if alpha_HW is None else np.asarray(turned(alpha_HW, *turn)),
        metadata=metadata, notes=(*image.notes, "the picture is turned upright"),
    )  # fmt: skip


def _orientation(block: bytes) -> int:
    """Return the orientation in an EXIF block; 1 if there is none."""
    layout, directory = exif.parse(block)
    entry = directory.get(_ORIENTATION)
    if entry is None or entry.kind != ifd.SHORT or len(entry.data) != 2:
        return 1
    return int(ifd.value_of(entry.kind, entry.data, layout)[0])
