"""Strips and tiles of TIFF files, decoded one by one through tifffile and imagecodecs, so that damage is noticed.

tifffile sees only the tags that say how pixels are stored. It would interpret many others, and read them without limit.
"""

import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from sanarestore.errors import DamagedImage, UnreadableImage
from sanarestore.images import ifd
from sanarestore.images.codes import Stored
from sanarestore.images.damage import cut, damaged, hopeless, inflate_partly
from sanarestore.images.ifd import ByteLayout, Source
from sanarestore.images.messages import collected
from sanarestore.images.scans import decode_picture

_PIXEL_TAGS = frozenset((
    256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 338, 339, 347,
    *range(512, 522), 529, 530, 531, 532, 32997,
))  # fmt: skip
_JPEG = (6, 7, 33007, 34892)
_DEFLATE = (8, 32946)
_PIECE = 2**12
"""Compressed bytes tried at a time in a damaged strip."""
_BAND = 2**22
"""Bytes of a band of rows that are read at a time where pixels are not compressed."""
_DAMAGE_WORDS = ("corrupt", "premature", "truncat", "damage", "invalid")
_KINDS = (NotImplementedError, ImportError, KeyError)
"""What the libraries raise for a kind of file that they do not decode."""


def decode_segments(
    data: Source, directory: ifd.Directory, layout: ByteLayout, accept_damaged: bool
) -> tuple[Stored, list[str]]:
    """Decode the pixels of a page to codes [H, W, S], with notes on damage.

    DamagedImage if a strip or a tile is missing or cannot be decoded, unless that is accepted; if none can be, always.
    """
    with _opened(data, directory, layout) as page:
        if _is_plain(page, len(data)):
            stored: Stored = page.asarray()
            notes: list[str] = []
        else:
            stored, notes = _assembled(data, page, accept_damaged)
        if _is_planar(page):
            stored = np.moveaxis(stored.reshape(page.samplesperpixel, page.imagelength, page.imagewidth), 0, -1)
        return stored.reshape(page.imagelength, page.imagewidth, page.samplesperpixel), notes


def decode_bands(data: Source, directory: ifd.Directory, layout: ByteLayout) -> Iterator[Stored]:
    """Decode the pixels of a page from the top down, to codes [h, W, S] with as many rows as its strips or tiles have.

    DamagedImage as from `decode_segments` if damage is not accepted.
    """
    with _opened(data, directory, layout) as page:
        for band in _plain_bands(data, page) if _is_plain(page, len(data)) else _assembled_bands(data, page):
            yield np.moveaxis(band, 0, -1) if _is_planar(page) else band[0]


@contextmanager
def _opened(data: Source, directory: ifd.Directory, layout: ByteLayout) -> Iterator[Any]:
    """tifffile's page, with no other tags than those that say how its pixels are stored."""
    import tifffile

    pixel_tags = {tag: entry for tag, entry in directory.items() if tag in _PIXEL_TAGS and entry.directory is None}
    with _Spliced(data, pixel_tags, layout) as source, tifffile.TiffFile(source) as file:
        page = file.pages[0]
        _check_codecs(page)
        yield page


def _is_planar(page: Any) -> bool:
    """Return whether each channel is stored by itself."""
    return page.samplesperpixel > 1 and int(page.planarconfig) == 2


def _plain_bands(data: Source, page: Any) -> Iterator[Stored]:
    """Bands [1, h, W, S], or [S, h, W] of separate channels, of pixels that lie in the file one after the other."""
    kind = np.dtype(page.parent.byteorder + page._dtype.char)
    planes = page.samplesperpixel if _is_planar(page) else 1
    samples = page.samplesperpixel // planes
    stride = page.imagewidth * samples * kind.itemsize
    rows = max(_BAND // stride, 1)
    for top in range(0, page.imagelength, rows):
        count = min(rows, page.imagelength - top)
        begins = (page.dataoffsets[0] + (plane * page.imagelength + top) * stride for plane in range(planes))
        pieces = [np.frombuffer(data[begin : begin + count * stride], kind) for begin in begins]
        band = np.stack(pieces).astype(page._dtype, copy=False)
        yield band.reshape(planes, count, page.imagewidth, *((samples,) if planes == 1 else ()))


def _assembled_bands(data: Source, page: Any) -> Iterator[Stored]:
    """Bands [1, h, W, S], or [S, h, W] of separate channels, put together from strips or tiles."""
    planes, _, length, width, samples = page.shaped
    number, have = _count_segments(page)
    if have < number:
        damaged(f"{number - have} of its {_number_of(page)} are missing", accepted=False)
    rows = page.tilelength if page.is_tiled else page.rowsperstrip
    across = -(-width // page.tilewidth) if page.is_tiled else 1
    down = -(-length // rows)
    arguments = _jpeg_arguments(page)
    for row in range(down):
        band: Stored = np.zeros((planes, 1, min(rows, length - row * rows), width, samples), page._dtype)
        for index in ((plane * down + row) * across + column for plane in range(planes) for column in range(across)):
            try:
                found = _segment(data, index, page, arguments)
            except _BadSegmentError as error:
                damaged(f"one of its {_number_of(page)} {error}", accepted=False)
                raise
            _place(band, found, page, first=row * rows)
        yield band[:, 0, ..., 0] if planes > 1 else band[0]


def _check_codecs(page: Any) -> None:
    """Raise UnreadableImage if the compression is not one that is decoded."""
    import tifffile

    for name, table, code in (
        ("compression", tifffile.TIFF.DECOMPRESSORS, int(page.compression)),
        ("predictor", tifffile.TIFF.UNPREDICTORS, int(page.predictor)),
    ):
        try:
            _ = code == 1 or table[code]
        except KeyError as error:
            raise UnreadableImage(
                f"its {name} ({code}) is not read", next_step="Export it as TIFF with deflate or without compression."
            ) from error


def _is_plain(page: Any, size: int) -> bool:
    """Return whether the pixels lie in the file one after the other, complete and without compression."""
    if not len(page.dataoffsets) or len(page.dataoffsets) != len(page.databytecounts) or not page.is_contiguous:
        return False
    needed = math.prod(page.shaped) * page._dtype.itemsize
    return bool(sum(page.databytecounts) >= needed and page.dataoffsets[0] + needed <= size)


def _assembled(data: Source, page: Any, accept_damaged: bool) -> tuple[Stored, list[str]]:
    """The page put together from its strips or tiles, in tifffile's shape of five dimensions."""
    number, have = _count_segments(page)
    notes, bad = [], number - have
    if bad:
        notes.append(damaged(f"{bad} of its {_number_of(page)} are missing", accepted=accept_damaged))
    stored: Stored = np.zeros(page.shaped, page._dtype)
    arguments = _jpeg_arguments(page)
    wrong = 0
    for index in range(have):
        try:
            found = _segment(data, index, page, arguments)
        except _BadSegmentError as error:
            wrong += 1
            if not accept_damaged:
                damaged(f"one of its {_number_of(page)} {error}", accepted=False)
            partly = _partly(_piece(data, index, page), index, page, arguments)
            if partly is None:
                bad += 1
                continue
            found = partly
        _place(stored, found, page)
    if bad == number:
        raise hopeless("nothing of its pixels can be decoded")
    if wrong:
        notes.append(damaged(f"{wrong} of its {_number_of(page)} are incomplete or damaged", accepted=accept_damaged))
    return stored, notes


def _count_segments(page: Any) -> tuple[int, int]:
    """Number of strips or tiles of a page, and how many of them its tags tell."""
    number = math.prod(page.chunked)
    return number, min(number, len(page.dataoffsets), len(page.databytecounts))


def _number_of(page: Any) -> str:
    """Number of strips or tiles of a page in words."""
    return f"{math.prod(page.chunked)} {'tiles' if page.is_tiled else 'strips'}"


def _jpeg_arguments(page: Any) -> dict[str, Any]:
    return {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader} if page.compression in _JPEG else {}


def _piece(data: Source, index: int, page: Any) -> bytes:
    """The bytes of a strip or tile, as far as the file has them."""
    start = int(page.dataoffsets[index])
    return bytes(data[start : start + int(page.databytecounts[index])])


def _place(stored: Stored, found: tuple[Any, Any, Any], page: Any, first: int = 0) -> None:
    """Copy a segment to its place in codes of tifffile's shape, which begin with row `first` of the page."""
    segment, (plane, slice_, top, left, _), shape = found
    part = segment[: page.imagedepth - slice_, : page.imagelength - top, : page.imagewidth - left]
    top -= first
    stored[plane, slice_ : slice_ + shape[0], top : top + shape[1], left : left + shape[2]] = part


class _BadSegmentError(Exception):
    """A strip or tile that is missing or cannot be decoded in full; the message completes "one of its strips"."""


def _segment(data: Source, index: int, page: Any, arguments: dict[str, Any]) -> tuple[Any, Any, Any]:
    """A segment, its place and its shape; `_BadSegmentError` if it is not complete."""
    piece, size = _piece(data, index, page), int(page.databytecounts[index])
    if not size or len(piece) < size:
        raise _BadSegmentError("is missing" if not piece else "is truncated")
    with collected() as messages:
        try:
            _check_jpeg(piece, page)
            found: tuple[Any, Any, Any] = page.decode(piece, index, **arguments)
        except (MemoryError, *_KINDS):
            raise
        except Exception as error:  # decoders raise anything
            fact = error.fact if isinstance(error, DamagedImage) else cut(error)
            raise _BadSegmentError(f"cannot be decoded ({fact})") from error
    faults = [message for message in messages if any(word in message.lower() for word in _DAMAGE_WORDS)]
    if faults:
        raise _BadSegmentError(f"is damaged ({cut(faults[0])})")
    return found


def _check_jpeg(piece: bytes, page: Any) -> None:
    """Raise DamagedImage for damage in a JPEG segment, about which imagecodecs says nothing."""
    if page.compression == 7 and page.samplesperpixel in (1, 3) and int(page.planarconfig) == 1:
        tables = page.jpegtables or b""
        decode_picture(piece[:2] + tables[2:-2] + piece[2:], accept_damaged=False)


def _partly(piece: bytes, index: int, page: Any, arguments: dict[str, Any]) -> tuple[Any, Any, Any] | None:
    """A damaged segment as far as it can be decoded, completed with zeros; None if nothing of it can be."""
    size = _size_of(page, index)
    if not piece or size is None:
        return None
    if page.compression in _DEFLATE:
        plain = inflate_partly((piece[start : start + _PIECE] for start in range(0, len(piece), _PIECE)), size)
        piece = zlib.compress(plain.ljust(size, b"\0"), 0) if plain else b""
    elif page.compression == 1:
        piece = piece.ljust(size, b"\0")
    try:
        with collected():
            found: tuple[Any, Any, Any] = page.decode(piece, index, **arguments)
            return found
    except MemoryError:
        raise
    except Exception:  # decoders raise anything
        return None


def _size_of(page: Any, index: int) -> int | None:
    """Bytes of a segment without compression."""
    samples = page.samplesperpixel if int(page.planarconfig) == 1 else 1
    bits = int(page.bitspersample) * samples
    if page.is_tiled:
        return int(page.tilelength * -(-page.tilewidth * bits // 8))
    strips = -(-page.imagelength // page.rowsperstrip)
    rows = min(page.rowsperstrip, page.imagelength - index % strips * page.rowsperstrip)
    return int(rows * -(-page.imagewidth * bits // 8))


class _Spliced(io.RawIOBase):
    """A TIFF file whose first directory is another one, placed behind the end of the file's bytes.

    Nothing is copied: large files would need their size in memory once more.
    """

    def __init__(self, data: Source, directory: ifd.Directory, layout: ByteLayout) -> None:
        size = len(data) + len(data) % 2
        start = layout.header + layout.offset.pack(size)
        behind = bytes(size - len(data)) + ifd.pack(directory, size, layout)
        given = memoryview(data) if isinstance(data, bytes) else data
        self._parts: tuple[tuple[int, Source, int], ...] = (
            (0, start, 0), (len(start), given, len(start)), (len(data), behind, 0),
        )  # fmt: skip
        """For each part, its place in the file, the bytes that hold it, and its place in these."""
        self._size = len(data) + len(behind)
        self._at = 0

    def close(self) -> None:
        """Let go of the file's bytes: tifffile's objects refer to each other and to this, and live on for long."""
        self._parts = ()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence], 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        view, done = memoryview(buffer).cast("B"), 0
        ends = [first for first, _, _ in self._parts[1:]] + [self._size]
        for (first, part, begin), end in zip(self._parts, ends, strict=True):
            at = self._at + done
            if first <= at < end and done < len(view):
                count = min(end - at, len(view) - done)
                view[done : done + count] = part[begin + at - first : begin + at - first + count]
                done += count
        self._at += done
        return done
