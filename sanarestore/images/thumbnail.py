"""Thumbnails in EXIF. A file's own shows the photograph before restoring, so one of the result replaces it."""

import io
import struct
from dataclasses import replace

import numpy as np

from sanarestore.images import exif_edit
from sanarestore.images.codes import from_float
from sanarestore.images.image import FORMAT_NAMES, Format, Image
from sanarestore.images.texts import Carried

LARGEST = 160
"""Longest side in pixels: Exif 2.3 recommends 160 x 120."""

_QUALITY = 85
_MOST_IN_JPEG = 65533 - 6
"""Largest EXIF block that fits a JPEG segment beside its length and its name, in bytes."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG markers whose segments hold the size of the picture."""


def side_of(block: bytes) -> int | None:
    """Longest side in pixels of the block's thumbnail, `LARGEST` at most; None if the block has none."""
    found = exif_edit.thumbnail_of(block)
    if found is None:
        return None
    return min(_longest_side(found) or LARGEST, LARGEST)


def with_new_thumbnail(image: Image, target: Format) -> Carried:
    """Add a thumbnail of the image to its EXIF block, if the input had one and the format can hold it."""
    block, side = image.metadata.exif, image.thumbnail
    if block is None or side is None:
        return image.metadata, []
    with_it = None if target == "tiff" else exif_edit.with_thumbnail(block, _picture(image, side))
    if with_it is None or (target == "jpeg" and len(with_it) > _MOST_IN_JPEG):
        note = f"the EXIF thumbnail is left out, because {FORMAT_NAMES[target]} has no room for it"
        return image.metadata, [note]
    return replace(image.metadata, exif=with_it), ["the EXIF thumbnail shows the result"]


def _picture(image: Image, side: int) -> bytes:
    """Encode a JPEG file of the image's own values in three channels, without optional segments, as Exif requires."""
    from PIL import Image as PillowImage

    codes_HWC = from_float(np.broadcast_to(image.pixels_HWC, (image.height, image.width, 3)), "uint8")
    factor = min(side / max(image.width, image.height), 1)
    size = max(round(image.width * factor), 1), max(round(image.height * factor), 1)
    picture = PillowImage.fromarray(codes_HWC).resize(size, PillowImage.Resampling.BICUBIC, reducing_gap=3.0)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    data = buffer.getvalue()
    return data[:2] + data[4 + int.from_bytes(data[4:6], "big") :]


def _longest_side(jpeg: bytes) -> int:
    """Longest side of a JPEG file; 0 if the file does not say."""
    at = 2
    while at + 9 <= len(jpeg) and jpeg[at] == 0xFF:
        if jpeg[at + 1] in _FRAMES:
            return int(max(struct.unpack_from(">HH", jpeg, at + 5)))
        at += 2 + max(int.from_bytes(jpeg[at + 2 : at + 4], "big"), 2)
    return 0
