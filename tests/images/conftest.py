"""Small synthetic photographs and complete sets of metadata."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL.TiffImagePlugin import IFDRational

from sanarestore.images import Depth, Format, Image, Metadata, to_float

MAKER_NOTE = b"ACME\0\1\2" + bytes(range(256))
IPTC = b"\x1c\x02\x05\x00\x05Title\x1c\x02\x50\x00\x03Zo\xeb"
XMP = '<?xpacket begin="\ufeff"?><x:xmpmeta xmlns:x="adobe:ns:meta/">é 日本</x:xmpmeta>'.encode()


@pytest.fixture
def icc() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture
def exif() -> bytes:
    """An EXIF block made by Pillow with text, orientation, rationals, a maker note and GPS."""
    block = PillowImage.Exif()
    block[271], block[272], block[274], block[306] = "ACME", "One", 6, "2024:05:06 07:08:09"
    block[34665] = {
        33434: IFDRational(1, 250),
        33437: IFDRational(28, 10),
        34855: 400,
        36867: "2024:05:06 07:08:09",
        37380: IFDRational(-1, 3),
        37500: MAKER_NOTE,
    }
    block[34853] = {1: "N", 2: (IFDRational(48), IFDRational(51), IFDRational(2951, 100)), 5: b"\0"}
    return block.tobytes().removeprefix(b"Exif\0\0")


@pytest.fixture
def metadata(icc: bytes, exif: bytes) -> Metadata:
    return Metadata(icc=icc, exif=exif, xmp=XMP, iptc=IPTC, dpi=(300.0, 240.0))


def codes(depth: Depth, channels: int, height: int = 19, width: int = 23) -> np.ndarray[Any, Any]:
    """Make random codes over the whole range; floats also lie outside [0, 1]."""
    generator = np.random.default_rng(channels)
    shape = (height, width, channels)
    if depth == "float32":
        return generator.normal(0.5, 1, shape).astype(np.float32)
    return generator.integers(0, np.iinfo(depth).max, shape, dtype=depth, endpoint=True)


def smooth(height: int = 48, width: int = 64) -> np.ndarray[Any, Any]:
    """Make 8-bit RGB that lossy formats hardly change."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 255 // height, x * 255 // width, (x + y) * 255 // (height + width)], axis=2).astype(np.uint8)


def photograph(depth: Depth, channels: int, format: Format, **fields: Any) -> Image:  # noqa: A002
    """Make an image of 1 (gray), 2 (gray and alpha), 3 (RGB) or 4 (RGB and alpha) channels."""
    stored = codes(depth, channels)
    colours = 3 if channels >= 3 else 1
    return Image(
        pixels_HWC=to_float(stored[..., :colours], depth),
        depth=depth,
        format=format,
        alpha_HW=stored[..., colours] if channels in (2, 4) else None,
        **fields,
    )


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">L", len(body)) + name + body + struct.pack(">L", zlib.crc32(name + body))


def saved(picture: PillowImage.Image, format: str, **options: Any) -> bytes:  # noqa: A002
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def exif_values(block: bytes) -> dict[str, dict[int, Any]]:
    """Return every value of an EXIF block as Pillow reads it."""
    read = PillowImage.Exif()
    read.load(b"Exif\0\0" + block)
    exif = read.get_ifd(34665)
    second = PillowImage.Exif()
    second.load(b"Exif\0\0" + block)
    return {
        "main": {tag: value for tag, value in read.items() if tag not in (34665, 34853, 282, 283, 296)},
        "exif": dict(exif),
        "gps": dict(second.get_ifd(34853)),
    }
