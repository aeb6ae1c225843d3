"""PNG: pixels through libpng (Pillow silently opens 16-bit colour as 8 bits), metadata chunks through `png_chunks`."""

import ctypes
import struct
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sanarestore.errors import UnreadableImage, UnwritableImage
from sanarestore.images.codes import Stored
from sanarestore.images.damage import damaged, hopeless, inflate_partly, limited
from sanarestore.images.ifd import Source
from sanarestore.images.image import Image, check_size, from_stored, to_stored
from sanarestore.images.png_chunks import Chunk, chunk, chunks_of, metadata_of, notes_on
from sanarestore.options import WriteOptions

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MOST_DEFLATED = 1032
"""Most bytes that deflate makes of one."""
_PIECE = 2**12
"""Compressed bytes tried at a time in a damaged file."""
_CHECKED = 2**20
"""Bytes of a chunk whose checksum is taken at a time."""
PART_MISSING = "a part of its pixels is missing"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
BEFORE_PIXELS = len(SIGNATURE) + 25
"""Bytes up to the end of IHDR, where all chunks that must precede the pixels may be."""
LEVEL = 4
"""zlib level: twice as fast as the usual 6, for files one percent larger."""


@dataclass(frozen=True, slots=True)
class PngHeader:
    """The content of IHDR."""

    width: int
    height: int
    bits: int
    colour: int
    """0 gray, 2 RGB, 3 palette, 4 gray and alpha, 6 RGB and alpha."""
    is_interlaced: bool

    @property
    def size(self) -> int:
        """Bytes of all rows, each with its filter byte, as they are before compression."""
        return sum(rows * stride for stride, rows in self.passes())

    def passes(self) -> Iterator[tuple[int, int]]:
        """Bytes of a row with its filter byte, and number of rows: once, or for the seven passes of Adam7."""
        bits = self.bits * _CHANNELS.get(self.colour, 1)
        for left, top, across, down in _ADAM7 if self.is_interlaced else ((0, 0, 1, 1),):
            columns, rows = -((left - self.width) // across), -((top - self.height) // down)
            if columns > 0 and rows > 0:
                yield 1 + (columns * bits + 7) // 8, rows


def decode(data: bytes, *, accept_damaged: bool = False) -> Image:
    """Decode a PNG file; UnreadableImage for an animation, with the number of its frames.

    DamagedImage if it is truncated, a checksum of its pixels is wrong or rows are missing, unless that is accepted:
    then what is missing is black, and a note says so.
    """
    layout = list(limited(_spans(data)))
    header = header_of(data)
    notes = []
    stored = None
    fact = _damage(data, layout, header)
    if fact is None:
        try:
            stored = plain(_picture(data, layout))
        except Exception as error:  # the type depends on the library's version
            if not str(error).startswith(("Not enough", "IDAT")):
                raise
            fact = PART_MISSING
    if fact is not None:
        notes.append(damaged(fact, accepted=accept_damaged))
        stored = plain(_repaired(data, layout, header))
    assert stored is not None
    return image_of(stored, header, [(name, _body(data, start, end)) for name, start, end in layout], notes)


def undamaged(data: Source) -> tuple[PngHeader, list[Chunk], list[tuple[int, int]]]:
    """Check a file that is not decoded whole: its header, its chunks without pixels, and the bounds of the pixels.

    DamagedImage as from `decode` where damage is not accepted, as far as chunks and their checksums show it.
    """
    layout = list(limited(_spans(data)))
    header = header_of(data)
    fact = _damage(data, layout, header)
    if fact is not None:
        damaged(fact, accepted=False)
    chunks = [(name, _body(data, start, end)) for name, start, end in layout]
    return header, chunks, [(start, end) for name, start, end in layout if name == b"IDAT"]


def image_of(stored: Stored, header: PngHeader, chunks: list[Chunk], notes: Sequence[str] = ()) -> Image:
    """The image of a file from its codes [H, W] or [H, W, S] and its chunks; `notes` are those of decoding."""
    names = {name for name, _ in chunks}
    notes = list(notes)
    if header.colour == 3:
        notes.append("the palette is converted to RGB")
    elif header.bits < 8:
        notes.append(f"{header.bits}-bit gray is converted to 8 bit")
    if b"tRNS" in names and stored.ndim == 3 and stored.shape[2] in (2, 4):
        notes.append("the transparent colour is converted to an alpha channel")
    notes += notes_on(chunks)
    return from_stored(stored, format="png", metadata=metadata_of(chunks), notes=tuple(notes))


def header_of(data: Source) -> PngHeader:
    """Read the header; UnreadableImage if it is damaged or the image too large."""
    head = bytes(data[8:33])
    if len(head) < 25 or head[:8] != b"\0\0\0\x0dIHDR" or zlib.crc32(head[4:21]) != int.from_bytes(head[21:], "big"):
        raise hopeless("its PNG header is damaged")
    width, height, bits, colour, _, _, interlace = struct.unpack(">LLBBBBB", head[8:21])
    check_size(height, width)
    _check_still(data)
    return PngHeader(width, height, bits, colour, interlace == 1)


def _check_still(data: Source) -> None:
    """Raise UnreadableImage for an animation of several frames; it is declared before the pixels."""
    for name, start, end in limited(_spans(data)):
        frames = int.from_bytes(data[start : start + 4], "big") if name == b"acTL" and end - start == 8 else 0
        if frames > 1:
            raise UnreadableImage(
                f"it is an animation of {frames} frames", next_step="Export the frame that you want to restore."
            )
        if name == b"IDAT":
            return


def has_transparent_colour(data: Source, colour: int) -> bool:
    """Return whether a valid chunk before the pixels makes a colour, or some of a palette, transparent."""
    most = {0: 2, 2: 6}.get(colour, 0)
    for name, start, end in limited(_spans(data)):
        if name == b"PLTE" and colour == 3:
            most = (end - start) // 3
        elif name == b"tRNS":
            return 0 < end - start <= most if colour == 3 else end - start == most
        elif name == b"IDAT":
            return False
    return False


def plain(data: bytes) -> Stored:
    """Decode the pixels of a file without metadata; any error that the library raises."""
    import imagecodecs

    try:
        stored: Stored = imagecodecs.png_decode(data)
        return stored
    except Exception:
        if sys.version_info < (3, 12):
            # With every error, imagecodecs (2026.3.6) gives up a reference to None that it does not own. After some
            # ten thousand, none would be left, and Python would abort. This gives it back.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(None))
        raise


def _spans(data: Source) -> Iterator[tuple[bytes, int, int]]:
    """Names of chunks with the bounds of their bodies, in order; the last one may extend beyond the end."""
    at = len(SIGNATURE)
    while at + 8 <= len(data):
        head = bytes(data[at : at + 8])
        name = head[4:]
        if not name.isalpha():
            return
        start = at + 8
        at = start + int.from_bytes(head[:4], "big") + 4
        yield name, start, at - 4
        if name == b"IEND":
            return


def bodies_of(data: bytes, name: bytes) -> list[memoryview]:
    """The bodies of the chunks of a name in a whole file."""
    return [memoryview(data)[start:end] for each, start, end in _spans(data) if each == name]


def _body(data: Source, start: int, end: int) -> bytes:
    """The body of a metadata chunk; empty for pixels, and if the checksum is wrong."""
    if data[start - 4 : start] in (b"IDAT", b"fdAT"):
        return b""
    return bytes(data[start:end]) if _is_whole(data, start, end) else b""


def _is_whole(data: Source, start: int, end: int) -> bool:
    """Return whether a chunk is all there and its checksum is right."""
    if end + 4 > len(data):
        return False
    checksum = 0
    for at in range(start - 4, end, _CHECKED):
        checksum = zlib.crc32(data[at : min(at + _CHECKED, end)], checksum)
    return checksum == int.from_bytes(data[end : end + 4], "big")


def _damage(data: Source, layout: list[tuple[bytes, int, int]], header: PngHeader) -> str | None:
    """Return the fault of the chunks that hold the pixels; None if there is none."""
    pixels = [(start, end) for name, start, end in layout if name == b"IDAT"]
    if not layout or layout[-1][0] != b"IEND" or layout[-1][2] + 4 > len(data):
        return "it is truncated: the end of the PNG file is missing"
    if not pixels:
        return "its pixels are missing"
    if not all(_is_whole(data, start, end) for start, end in pixels):
        return "the checksum of a part of its pixels is wrong"
    if not all(_is_whole(data, start, end) for name, start, end in layout if name in (b"PLTE", b"tRNS")):
        return "the checksum of its palette or its transparency is wrong"
    if header.size > _MOST_DEFLATED * (64 + sum(end - start for start, end in pixels)):
        return f"a part of its {header.width} x {header.height} pixels is missing"
    return None


def _picture(data: bytes, layout: list[tuple[bytes, int, int]]) -> bytes:
    """The file without its metadata, about which libpng prints warnings, and without animation frames."""
    # Views, because every slice of bytes is a copy, and pixel data is nearly all of the file.
    view = memoryview(data)
    needed = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
    parts = [view[start - 8 : end + 4] for name, start, end in layout if name in needed]
    return b"".join((SIGNATURE, *parts))


def _repaired(data: bytes, layout: list[tuple[bytes, int, int]], header: PngHeader) -> bytes:
    """A valid file with the rows that can be decompressed and black ones, as far as they are needed."""
    pieces = (
        data[first : min(first + _PIECE, end)]
        for name, start, end in layout
        if name == b"IDAT"
        for first in range(start, min(end, len(data)), _PIECE)
    )
    rows = inflate_partly(pieces, header.size)
    if not rows:
        raise hopeless("nothing of its pixels can be decoded")
    rows += bytes(header.size - len(rows))
    start = 0
    for stride, count in header.passes():
        filters = np.frombuffer(rows, np.uint8, stride * count, start)[::stride]
        filters[filters > 4] = 0
        start += stride * count
    parts = [chunk(name, data[first:end]) for name, first, end in layout if name in (b"IHDR", b"PLTE", b"tRNS")]
    return b"".join((SIGNATURE, *parts, chunk(b"IDAT", zlib.compress(rows, 0)), chunk(b"IEND", b"")))


def check_writable(image: Image) -> None:
    """Raise UnwritableImage if PNG cannot hold the image's pixels."""
    if image.depth == "float32":
        raise UnwritableImage("PNG cannot hold float values", next_step="Use --bit-depth 16, or --format tiff.")


def encode(image: Image, options: WriteOptions = WriteOptions()) -> bytes:  # noqa: B008 - frozen
    """Encode a PNG file of 8 or 16 bits; UnwritableImage if PNG cannot hold the image."""
    import imagecodecs

    check_writable(image)
    stored_HWS = to_stored(image)
    written = memoryview(
        imagecodecs.png_encode(stored_HWS if stored_HWS.shape[2] > 1 else stored_HWS[..., 0], level=LEVEL)
    )
    first = BEFORE_PIXELS
    del stored_HWS
    return b"".join((written[:first], chunks_of(image), written[first:]))
