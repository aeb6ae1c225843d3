"""Small files in the formats that are only read, made with other libraries."""

import importlib.util
import io
import struct
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image as PillowImage

from tests.images.conftest import XMP, saved, smooth

Codes = np.ndarray[Any, Any]


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">L", 8 + len(body)) + kind + body


def avif(stored: Codes, bits: int = 8, **options: Any) -> bytes:
    """Make a lossless AVIF file (RGB is stored as it is, by the identity matrix)."""
    data: bytes = imagecodecs.avif_encode(stored, level=100, bitspersample=bits, **options)
    return data


def jxl(stored: Codes, **options: Any) -> bytes:
    data: bytes = imagecodecs.jpegxl_encode(stored, lossless=True, **options)
    return data


def jp2(stored: Codes, **options: Any) -> bytes:
    data: bytes = imagecodecs.jpeg2k_encode(stored, level=0, reversible=True, **options)
    return data


def with_jxl_metadata(data: bytes, exif: bytes, xmp: bytes, compressed: bool = False) -> bytes:
    """Add EXIF and XMP to a container, after its first two boxes."""
    boxes = ((b"Exif", bytes(4) + exif), (b"xml ", xmp))
    if compressed:
        boxes = tuple((b"brob", kind + imagecodecs.brotli_encode(body)) for kind, body in boxes)
    return data[:32] + b"".join(box(kind, body) for kind, body in boxes) + data[32:]


def bmp_v5(stored: Codes, icc: bytes) -> bytes:
    """Make a 24-bit BMP file with a profile and 300 dpi, its rows from the top."""
    height, width, _ = stored.shape
    rows = b"".join(row[:, ::-1].tobytes().ljust(-(-width * 3 // 4) * 4, b"\0") for row in stored)
    head = struct.pack("<LllHHLLllLL", 124, width, -height, 1, 24, 0, len(rows), 11811, 11811, 0, 0) + bytes(16)
    head += b"DEBM" + bytes(48) + struct.pack("<LLLL", 4, 124 + len(rows), len(icc), 0)
    start = 14 + len(head)
    return b"BM" + struct.pack("<LHHL", start + len(rows) + len(icc), 0, 0, start) + head + rows + icc


def dng(height: int = 40, width: int = 60, orientation: int = 6) -> bytes:
    """Make a DNG file of a Bayer sensor of 12 bits, gray from left to right, with metadata."""
    x = np.linspace(400, 3900, width)
    sensor = np.broadcast_to(x, (height, width)).astype(np.uint16)
    matrix = (32406, -15372, -4986, -9689, 18758, 415, 557, -2040, 10570)
    tags = [
        (50706, 1, 4, b"\1\4\0\0", True), (50707, 1, 4, b"\1\1\0\0", True), (50708, 2, 0, "ACME One", True),
        (33421, 3, 2, (2, 2), True), (33422, 1, 4, b"\0\1\1\2", True),
        (50721, 10, 9, tuple(number for each in matrix for number in (each, 10000)), True),
        (50728, 5, 3, (1, 1, 1, 1, 1, 1), True), (50714, 4, 1, 256, True), (50717, 4, 1, 4095, True),
        (50778, 3, 1, 21, True), (271, 2, 0, "ACME", True), (272, 2, 0, "One", True), (274, 3, 1, orientation, True),
        (700, 1, len(XMP), XMP, True),
    ]  # fmt: skip
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, sensor, photometric=32803, extratags=tags, metadata=None)
    return buffer.getvalue()


def foreign_files() -> dict[str, bytes]:
    """Return files by name: formats, depths, channels, with metadata and without."""
    stored = smooth()
    deep = stored.astype(np.uint16) * 257
    with_alpha = np.dstack([stored, stored[..., 0]])
    block = PillowImage.Exif()
    block[271], block[274] = "ACME", 6
    picture = PillowImage.fromarray(stored)
    raw = {"raw.dng": dng()} if importlib.util.find_spec("rawpy") else {}
    return raw | {
        "8.avif": avif(stored), "10.avif": avif(deep >> 6, 10), "alpha.avif": avif(with_alpha),
        "gray.avif": avif(stored[..., 0].copy()),
        "turned.avif": saved(picture, "AVIF", exif=block.tobytes(), xmp=XMP, icc_profile=bytes(200)),
        "8.jxl": jxl(stored), "16.jxl": jxl(deep), "float.jxl": jxl(deep.astype(np.float32) / 65535),
        "alpha.jxl": jxl(with_alpha), "gray.jxl": jxl(stored[..., 0].copy()),
        "lossy.jxl": imagecodecs.jpegxl_encode(stored, level=90),
        "box.jxl": with_jxl_metadata(jxl(stored, usecontainer=True), block.tobytes()[6:], XMP),
        "8.jp2": jp2(stored), "16.jp2": jp2(deep), "alpha.jp2": jp2(with_alpha), "gray.jp2": jp2(stored[..., 0].copy()),
        "12.jp2": jp2(deep >> 4, bitspersample=12), "bare.j2k": jp2(stored, codecformat="j2k"),
        "24.bmp": saved(picture, "BMP"), "palette.bmp": saved(picture.quantize(16), "BMP"),
        "gray.bmp": saved(picture.convert("L"), "BMP"), "bits.bmp": saved(picture.convert("1"), "BMP"),
        "v5.bmp": bmp_v5(stored, bytes(300)),
    }  # fmt: skip
