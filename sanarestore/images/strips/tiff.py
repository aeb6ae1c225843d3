"""TIFF in strips: a page read by its rows of strips or tiles, and written strip by strip."""

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import BinaryIO

import numpy as np

from sanarestore.images import ifd
from sanarestore.images.codes import Stored
from sanarestore.images.ifd import Entry, Source
from sanarestore.images.image import Image
from sanarestore.images.pages import read_pages
from sanarestore.images.segments import decode_bands
from sanarestore.images.strips.frames import stretched
from sanarestore.images.tiff import (
    STRIP,
    add_page,
    codes_of,
    directories_at_end,
    directory_of,
    entries,
    image_of,
    layout_of,
    writer,
)
from sanarestore.images.tiff_header import integers

_LENGTH, _OFFSETS, _COUNTS = 257, 273, 279
_PIECE = 2**23
"""Bytes of codes that are compressed at a time, in parallel."""


def opened(data: Source) -> tuple[Image, Callable[[], Iterator[Stored]]]:
    """Open a file of one page: its image, with pixels of no meaning, and what decodes its bands."""
    pages = read_pages(data, accept_damaged=False)
    (header,) = pages.headers
    directory = directory_of(pages)

    def bands() -> Iterator[Stored]:
        for band in decode_bands(data, directory, pages.layout):
            yield codes_of(band, directory, header, pages.layout)[0]

    first = next(decode_bands(data, directory, pages.layout))
    image = image_of(first[:1], directory, header, pages.layout)
    notes = tuple(dict.fromkeys((*pages.notes, *image.notes)))
    return stretched(replace(image, notes=notes), header.height), bands


class TiffWriter:
    """Writes a page strip by strip, with the tags of `tiff.encode`."""

    def __init__(self, file: BinaryIO, frame: Image) -> None:
        """Begin an empty file; `frame` is the image that is written, without its pixels."""
        self._file, self._frame = file, frame
        self._layout = layout_of((frame,))
        self._offsets: list[int] = []
        self._counts: list[int] = []
        self._directory: ifd.Directory = {}
        self._waiting: list[Stored] = []
        self._end = file.write(self._layout.header + self._layout.offset.pack(0))

    def write(self, codes_hWS: Stored) -> None:
        """Write the next rows; those that do not fill a strip wait for more."""
        rows = max(STRIP // codes_hWS[0].nbytes, 1)
        missing = -sum(map(len, self._waiting)) % rows
        if self._waiting or len(codes_hWS) < rows:
            self._waiting.append(codes_hWS[:missing].copy())
            codes_hWS = codes_hWS[missing:]
            if sum(map(len, self._waiting)) == rows:
                self._write_strips(np.concatenate(self._waiting))
                self._waiting = []
        whole = len(codes_hWS) // rows * rows
        step = max(_PIECE // STRIP, 1) * rows
        for top in range(0, whole, step):
            self._write_strips(codes_hWS[top : min(top + step, whole)])
        if whole < len(codes_hWS):
            self._waiting.append(codes_hWS[whole:].copy())

    def finish(self) -> None:
        """Write the last strip and the directory."""
        if self._waiting:
            self._write_strips(np.concatenate(self._waiting))
        layout = self._layout
        kind, letter = (ifd.LONG8, "Q") if layout.big else (ifd.LONG, "L")
        places = {
            tag: Entry(kind, struct.pack(f"{layout.order}{len(values)}{letter}", *values))
            for tag, values in ((_OFFSETS, self._offsets), (_COUNTS, self._counts))
        }
        length = Entry(ifd.LONG, struct.pack(f"{layout.order}L", self._frame.height))
        end = self._end + self._end % 2
        self._file.write(bytes(end - self._end))
        directory = {**self._directory, _LENGTH: length, **places, **entries(self._frame, layout)}
        self._file.write(ifd.pack(directory, end, layout))
        self._file.seek(len(layout.header))
        self._file.write(layout.offset.pack(end))

    def _write_strips(self, codes_hWS: Stored) -> None:
        """Write a whole number of strips, or the last ones, as tifffile compresses them in a file of their own."""
        buffer = io.BytesIO()
        with writer(buffer, self._layout) as file:
            add_page(file, codes_hWS, self._frame)
        data = buffer.getvalue()
        (directory,), _ = directories_at_end(data, self._layout, 1)
        self._directory = self._directory or directory
        places = (integers(directory, tag, self._layout) for tag in (_OFFSETS, _COUNTS))
        for start, size in zip(*places, strict=True):
            self._offsets.append(self._end)
            self._counts.append(size)
            self._end += self._file.write(memoryview(data)[start : start + size])
