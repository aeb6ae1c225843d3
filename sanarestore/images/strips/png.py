"""PNG in strips: decompressed as a stream and decoded band by band through libpng, and written so.

libpng decodes and filters whole files only. A band is therefore a small file of its own, whose first row is the last
one of the band before: the filters of a row refer to the row above it.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np

from sanarestore.images.codes import Stored
from sanarestore.images.damage import damaged
from sanarestore.images.ifd import Source
from sanarestore.images.image import Image, kinds_of
from sanarestore.images.png import LEVEL, PART_MISSING, SIGNATURE, PngHeader, bodies_of, image_of, plain, undamaged
from sanarestore.images.png_chunks import chunk, chunks_of
from sanarestore.images.strips.frames import stretched

_BAND = 2**22
"""Bytes of the rows of a band."""
_PIECE = 2**18
"""Compressed bytes that are read at a time."""
_CHUNK = 2**16
"""Least compressed bytes of a chunk, except for the last one."""
_COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}
"""PNG's code of the kind of colours by the number of channels."""


def opened(data: Source) -> tuple[Image, Callable[[], Iterator[Stored]]]:
    """Open a file that is not interlaced, with 8 or 16 bits and no palette: its image, with pixels of no meaning, and
    what decodes its bands."""
    header, chunks, spans = undamaged(data)

    def bands() -> Iterator[Stored]:
        return _bands(data, header, spans)

    first = next(bands())
    return stretched(image_of(first[:1], header, chunks), header.height), bands


def _bands(data: Source, header: PngHeader, spans: list[tuple[int, int]]) -> Iterator[Stored]:
    """Decode the bands [h,W,S]; DamagedImage if the stream ends early."""
    ((stride, left),) = header.passes()
    most = max(_BAND // stride, 1)
    above = bytes(stride)
    for rows in _in_rows(_inflated(data, spans, most * stride), stride, most):
        count = min(len(rows) // stride, left)
        size = struct.pack(">LLBBBBB", header.width, count + 1, header.bits, header.colour, 0, 0, 0)
        stored = plain(_file(size, above + rows[: count * stride]))
        band: Stored = stored.reshape(count + 1, header.width, -1)[1:]
        yield band
        left -= count
        if not left:
            return
        above = b"\0" + band[-1].astype(f">u{band.itemsize}").tobytes()
    damaged(PART_MISSING, accepted=False)


def _inflated(data: Source, spans: list[tuple[int, int]], most: int) -> Iterator[bytes]:
    """Decompress the stream in the bodies of chunks, to at most so many bytes at a time."""
    inflater = zlib.decompressobj()
    for start, end in spans:
        for at in range(start, end, _PIECE):
            piece = bytes(data[at : min(at + _PIECE, end)])
            while piece:
                try:
                    yield inflater.decompress(piece, most)
                except zlib.error:
                    damaged(PART_MISSING, accepted=False)
                piece = inflater.unconsumed_tail


def _in_rows(pieces: Iterator[bytes], stride: int, most: int) -> Iterator[bytes]:
    """Join pieces to whole rows, at most so many at a time."""
    found = bytearray()
    for piece in pieces:
        found += piece
        while len(found) >= most * stride:
            yield bytes(found[: most * stride])
            del found[: most * stride]
    if len(found) >= stride:
        yield bytes(found[: len(found) // stride * stride])


def _file(size: bytes, rows: bytes) -> bytes:
    """A file of filtered rows, stored and not compressed."""
    return b"".join((SIGNATURE, chunk(b"IHDR", size), chunk(b"IDAT", zlib.compress(rows, 0)), chunk(b"IEND", b"")))


class PngWriter:
    """Writes one compressed stream band by band, with the filters, the level and the chunks of `png.encode`."""

    def __init__(self, file: BinaryIO, frame: Image) -> None:
        """Begin an empty file; `frame` is the image that is written, without its pixels."""
        channels = frame.pixels_HWC.shape[2] + len(kinds_of(frame))
        bits = {"uint8": 8, "uint16": 16}[frame.depth]
        size = struct.pack(">LLBBBBB", frame.width, frame.height, bits, _COLOURS[channels], 0, 0, 0)
        file.write(b"".join((SIGNATURE, chunk(b"IHDR", size), chunks_of(frame))))
        self._file = file
        self._deflater = zlib.compressobj(LEVEL)
        self._waiting = b""
        self._above_1WS: Stored | None = None

    def write(self, codes_hWS: Stored) -> None:
        """Write the next rows."""
        step = max(_BAND // codes_hWS[0].nbytes, 1)
        for top in range(0, len(codes_hWS), step):
            band_hWS = codes_hWS[top : top + step]
            self._waiting += self._deflater.compress(self._filtered(band_hWS))
            self._above_1WS = band_hWS[-1:].copy()
            if len(self._waiting) >= _CHUNK:
                self._write_waiting()

    def finish(self) -> None:
        """Write the last chunks."""
        self._waiting += self._deflater.flush()
        self._write_waiting()
        self._file.write(chunk(b"IEND", b""))

    def _write_waiting(self) -> None:
        self._file.write(chunk(b"IDAT", self._waiting))
        self._waiting = b""

    def _filtered(self, band_hWS: Stored) -> memoryview:
        """The filtered rows of a band, as libpng chooses the filters."""
        import imagecodecs

        above = self._above_1WS
        rows_hWS = np.ascontiguousarray(band_hWS) if above is None else np.concatenate([above, band_hWS])
        file = bytes(imagecodecs.png_encode(rows_hWS if rows_hWS.shape[2] > 1 else rows_hWS[..., 0], level=0))
        rows = zlib.decompress(b"".join(bodies_of(file, b"IDAT")))
        return memoryview(rows)[0 if above is None else len(rows) // len(rows_hWS) :]
