"""How a JPEG file was compressed: its quality, estimated from its quantisation tables, and its chroma subsampling."""

import struct
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from sanarestore.images.image import JpegCoding, Subsampling

# ITU-T T.81, table K.1, in zigzag order; libjpeg scales it by quality.
_LUMINANCE = np.array((
    16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40,
    26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51, 61, 60, 57, 51,
    56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87,
    95, 98, 103, 104, 103, 62, 77, 113, 121, 112, 100, 120, 92, 101, 103, 99,
))  # fmt: skip

_TABLES, _FRAMES = 0xDB, frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

_SUBSAMPLINGS: dict[tuple[int, int], Subsampling] = {
    (2, 1): "4:2:2", (4, 1): "4:2:2", (2, 2): "4:2:0", (4, 2): "4:2:0"
}  # fmt: skip
"""Width and height of the luma samples over a chroma sample; a rarer one is written as the nearest that is common."""


def coding_of(segments: Iterable[tuple[int, bytes]]) -> JpegCoding | None:
    """The coding of a file with these markers and bodies; None if a table or the frame header is missing."""
    tables: dict[int, npt.NDArray[np.int64]] = {}
    frame = None
    for marker, body in segments:
        if marker == _TABLES:
            tables.update(_tables(body))
        elif marker in _FRAMES and frame is None:
            frame = body
    if frame is None or len(frame) < 9 or frame[8] not in tables:
        return None
    samplings = frame[7::3][: frame[5]]
    return JpegCoding(quality=quality_of(tables[frame[8]]), subsampling=_subsampling(samplings))


def quality_of(table_64: npt.NDArray[np.int64]) -> int:
    """The quality from 1 to 100 at which libjpeg's luminance table is the nearest to a table in zigzag order.

    It is exact for tables of libjpeg, and an estimate for the tables of cameras and of Photoshop.
    """
    return 1 + int(np.abs(_SCALED - table_64).sum(axis=1).argmin())


def _scaled(quality: int) -> npt.NDArray[np.int64]:
    """The luminance table of a quality, as `jpeg_set_quality` of libjpeg makes it."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    table_64: npt.NDArray[np.int64] = np.clip((_LUMINANCE * percent + 50) // 100, 1, 255)
    return table_64


_SCALED = np.stack([_scaled(quality) for quality in range(1, 101)])


def _tables(body: bytes) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Numbers and values of the tables in a segment, as far as they are complete."""
    at = 0
    while at < len(body):
        wide, number = body[at] >> 4, body[at] & 15
        size = 128 if wide else 64
        values = body[at + 1 : at + 1 + size]
        if len(values) < size:
            return
        yield number, np.array(struct.unpack(">64H" if wide else ">64B", values))
        at += 1 + size


def _subsampling(samplings: bytes) -> Subsampling:
    """The common subsampling that keeps as much as that of a file does; 4:4:4 for gray and for what is rarer."""
    if len(samplings) < 3:
        return "4:4:4"
    luma, chroma = samplings[0], samplings[1]
    if not chroma >> 4 or not chroma & 15:
        return "4:4:4"
    return _SUBSAMPLINGS.get(((luma >> 4) // (chroma >> 4), (luma & 15) // (chroma & 15)), "4:4:4")
