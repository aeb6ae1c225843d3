"""Write JPEG XL: pixels by libjxl, EXIF and XMP in boxes before the codestream (ISO/IEC 18181-2).

The binding of libjxl's encoder accepts no colour profile. Pictures in sRGB are written, marked by code points in the
codestream; others are refused.
"""

import numpy as np

from sanarestore.errors import UnwritableImage
from sanarestore.images import colour
from sanarestore.images.boxes import boxed, boxes
from sanarestore.images.codes import Stored, spoken
from sanarestore.images.image import Image, to_stored
from sanarestore.images.jxl_header import with_srgb_curve
from sanarestore.options import WriteOptions

QUALITY = 90
"""Default quality of lossy files."""

_LOSSLESS = 100
_EFFORT_LOSSLESS, _EFFORT_LOSSY = 3, 7
"""Higher efforts make lossless files a few percent smaller, in 3 to 15 times the time."""
_ROWS = 256
_OTHERS = "Use --format tiff or png."


def check_writable(image: Image) -> None:
    """Raise UnwritableImage if JPEG XL cannot hold the image, or its colours are not sRGB."""
    if image.depth == "float32":
        raise UnwritableImage(
            f"JPEG XL is written with 8 or 16 bits, and this image has {spoken(image.depth)}",
            next_step="Use --bit-depth 16, or --format tiff.",
        )
    profile = image.metadata.icc
    if profile is not None and not colour.is_srgb(profile):
        raise UnwritableImage("JPEG XL is written in sRGB only, and this image has another profile", next_step=_OTHERS)


def encode(image: Image, options: WriteOptions = WriteOptions()) -> bytes:  # noqa: B008 - frozen
    """Encode a JPEG XL file; UnwritableImage if it cannot hold the image.

    It is lossless at quality 100, and without a quality if the image came from a lossless JPEG XL file.
    """
    import imagecodecs

    check_writable(image)
    stored_HWS = to_stored(image)
    quality = options.quality or (_LOSSLESS if image.lossless else QUALITY)
    if quality == _LOSSLESS:
        data = imagecodecs.jpegxl_encode(_plain(stored_HWS), lossless=True, effort=_EFFORT_LOSSLESS, usecontainer=True)
    else:
        if image.depth == "uint16":
            _linearize(stored_HWS, image.pixels_HWC.shape[2])
        data = imagecodecs.jpegxl_encode(
            _plain(stored_HWS), distance=distance_of(quality), effort=_EFFORT_LOSSY, usecontainer=True
        )
    return _with_metadata(bytes(data), image)


def distance_of(quality: int) -> float:
    """Return the distance of libjxl for a quality from 1 to 99, as cjxl computes it."""
    if quality >= 30:
        return 0.1 + (100 - quality) * 0.09
    return 53 / 3000 * quality**2 - 23 / 20 * quality + 25


def _plain(stored_HWS: Stored) -> Stored:
    return stored_HWS if stored_HWS.shape[2] > 1 else stored_HWS[..., 0]


def _linearize(stored_HWS: Stored, channels: int) -> None:
    """Remove the sRGB curve from 16-bit colours, in place, because the encoder treats them as linear light.

    The decoder applies it again, because `with_srgb_curve` writes so into the header; black and white keep their codes.
    """
    x = np.arange(65536) / 65535
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    table = np.rint(linear * 65535).astype(np.uint16)
    for top in range(0, len(stored_HWS), _ROWS):
        rows = stored_HWS[top : top + _ROWS, :, :channels]
        rows[...] = table[rows]


def _with_metadata(data: bytes, image: Image) -> bytes:
    """Return the container with EXIF and XMP before the picture, whose codestream is marked as sRGB."""
    added = [(b"Exif", bytes(4) + image.metadata.exif)] if image.metadata.exif else []
    added += [(b"xml ", image.metadata.xmp)] if image.metadata.xmp else []
    parts = []
    for box in boxes(data):
        body = data[box.start : box.end]
        if box.kind in (b"jxlc", b"jxlp"):
            body = with_srgb_curve(body) if box.kind == b"jxlc" else body[:4] + with_srgb_curve(body[4:])
            parts += [boxed(*each) for each in added]
            added = []
        parts.append(boxed(box.kind, body))
    return b"".join(parts)
