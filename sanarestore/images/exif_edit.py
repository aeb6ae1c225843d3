"""Changes in EXIF blocks that move nothing: offsets inside maker notes, which only their makers know, still fit."""

import struct
from collections.abc import Iterator

from sanarestore.images import exif, ifd
from sanarestore.images.ifd import ByteLayout, Entry

_WIDTH, _HEIGHT, _ORIENTATION, _INTEROPERABILITY = 256, 257, 274, 40965
_EXIF_WIDTH, _EXIF_HEIGHT, _COLOUR_SPACE, _GAMMA = 40962, 40963, 40961, 42240
_SUBJECT_AREA, _SUBJECT_PLACE = 37396, 41492
_FOCAL_PLANE_X, _FOCAL_PLANE_Y = 41486, 41487
_THUMBNAIL, _THUMBNAIL_SIZE, _COMPRESSION, _JPEG = 513, 514, 259, 6

Place = tuple[int, int, int, int]
"""Position of an entry in the block, its tag, type and number of values."""


def without_thumbnail(block: bytes) -> bytes:
    """The block without its second directory, which holds a thumbnail, and the thumbnail's bytes set to zero."""
    found = _second(block)
    if found is None:
        return block
    link, start, size = found
    changed = bytearray(block)
    changed[link : link + 4] = bytes(4)
    unlinked = bytes(changed)
    if not size:
        return unlinked
    changed[start : start + size] = bytes(size)
    shorter = bytes(changed[:start] if start + size >= len(block) - 1 else changed)
    # In a damaged block the thumbnail's place may be that of something else.
    return shorter if exif.parse(shorter) == exif.parse(unlinked) else unlinked


def thumbnail_of(block: bytes) -> bytes | None:
    """The thumbnail in the second directory, empty if it is not a JPEG file; None without such a directory."""
    found = _second(block)
    return None if found is None else block[found[1] : found[1] + found[2]]


def with_thumbnail(block: bytes, jpeg: bytes) -> bytes | None:
    """The block with a second directory and a thumbnail at its end; None if it has a second directory, or is damaged.

    The thumbnail is turned as the photograph is (Exif 2.3, section 4.6.4 and 4.6.6).
    """
    header = ifd.read_header(block)
    link = None if header is None or header[0].big else _link(block, header[1], header[0])
    if header is None or link is None or header[0].offset.unpack_from(block, link)[0]:
        return None
    layout, directory = exif.parse(block)

    def short(value: int) -> Entry:
        return Entry(ifd.SHORT, struct.pack(layout.order + "H", value))

    def long(value: int) -> Entry:
        return Entry(ifd.LONG, struct.pack(layout.order + "L", value))

    start = len(block) + len(block) % 2
    second = {_COMPRESSION: short(_JPEG), **exif.resolution_entries((72, 72), layout)}
    if _ORIENTATION in directory:
        second[_ORIENTATION] = directory[_ORIENTATION]
    second |= {_THUMBNAIL: long(0), _THUMBNAIL_SIZE: long(len(jpeg))}
    at = start + len(ifd.pack(second, start, layout))
    changed = bytearray(block.ljust(start, b"\0"))
    layout.offset.pack_into(changed, link, start)
    return bytes(changed) + ifd.pack(second | {_THUMBNAIL: long(at)}, start, layout) + jpeg


def with_size(block: bytes, before: tuple[int, int], after: tuple[int, int]) -> bytes:
    """The block of a photograph that is resized; sizes are width and height.

    Rewritten are the pixel dimensions, places of the subject, and pixels per length of the sensor.
    """
    header = ifd.read_header(block)
    if header is None or header[0].big:
        return block
    layout, offset = header
    changed = bytearray(block)
    factors = after[0] / before[0], after[1] / before[1]
    for at, tag, kind, count in _all_entries(block, offset, layout):
        if tag in (_WIDTH, _EXIF_WIDTH, _HEIGHT, _EXIF_HEIGHT) and count == 1 and kind in (ifd.SHORT, ifd.LONG):
            _set_dimension(changed, at, layout, after[0] if tag in (_WIDTH, _EXIF_WIDTH) else after[1])
        elif tag in (_SUBJECT_AREA, _SUBJECT_PLACE) and kind == ifd.SHORT and 2 <= count <= 4:
            _scale_shorts(changed, at, count, layout, factors)
        elif tag in (_FOCAL_PLANE_X, _FOCAL_PLANE_Y) and kind == ifd.RATIONAL and count == 1:
            _scale_rational(changed, at, layout, factors[tag - _FOCAL_PLANE_X])
    return bytes(changed)


def with_dimensions(block: bytes, width: int, height: int) -> bytes:
    """Return the block with new pixel dimensions in every tag that holds some."""
    header = ifd.read_header(block)
    if header is None or header[0].big:
        return block
    layout, offset = header
    changed = bytearray(block)
    for at, tag, kind, count in _all_entries(block, offset, layout):
        if tag in (_WIDTH, _EXIF_WIDTH, _HEIGHT, _EXIF_HEIGHT) and count == 1 and kind in (ifd.SHORT, ifd.LONG):
            _set_dimension(changed, at, layout, width if tag in (_WIDTH, _EXIF_WIDTH) else height)
    return bytes(changed)


def bare(block: bytes, colour_tags: frozenset[int]) -> bytes | None:
    """A block of only the orientation, these tags, and what tells the colour space; None if there is nothing of it."""
    layout, directory = exif.parse(block)
    kept = {tag: entry for tag, entry in directory.items() if tag == _ORIENTATION or tag in colour_tags}
    inner = (directory[ifd.EXIF].directory if ifd.EXIF in directory else None) or {}
    colours = {tag: entry for tag, entry in inner.items() if tag in (_COLOUR_SPACE, _GAMMA, _INTEROPERABILITY)}
    if colours:
        kept[ifd.EXIF] = Entry(ifd.LONG, b"", colours)
    return exif.build(kept, layout) if kept else None


def _link(block: bytes, offset: int, layout: ByteLayout) -> int | None:
    """Position of the offset of the next directory; None if the block ends before it."""
    if offset + 2 > len(block):
        return None
    link = int(offset + 2 + layout.entry.size * layout.count.unpack_from(block, offset)[0])
    return link if link + 4 <= len(block) else None


def _second(block: bytes) -> tuple[int, int, int] | None:
    """Return the place of the link to the second directory, and start and size of its thumbnail; None without a second
    one.

    Start and size are 0 unless the thumbnail is a JPEG file within the block.
    """
    header = ifd.read_header(block)
    if header is None or header[0].big:
        return None
    layout, offset = header
    link = _link(block, offset, layout)
    second = 0 if link is None else layout.offset.unpack_from(block, link)[0]
    if link is None or not second:
        return None
    numbers = {
        tag: layout.offset.unpack_from(block, at + 8)[0]
        for at, tag, kind, _ in _entries(block, second, layout)
        if tag in (_THUMBNAIL, _THUMBNAIL_SIZE) and kind == ifd.LONG
    }
    start, size = numbers.get(_THUMBNAIL, 0), numbers.get(_THUMBNAIL_SIZE, 0)
    return (link, start, size) if 8 <= start < start + size <= len(block) else (link, 0, 0)


def _entries(block: bytes, offset: int, layout: ByteLayout) -> Iterator[Place]:
    if _link(block, offset, layout) is None:
        return
    for index in range(layout.count.unpack_from(block, offset)[0]):
        at = offset + 2 + index * layout.entry.size
        tag, kind, count, _ = layout.entry.unpack_from(block, at)
        yield at, tag, kind, count


def _all_entries(block: bytes, offset: int, layout: ByteLayout) -> Iterator[Place]:
    """Entries of the first directory and of EXIF's."""
    for at, tag, kind, count in _entries(block, offset, layout):
        yield at, tag, kind, count
        if tag == ifd.EXIF and kind in (ifd.LONG, 13):
            yield from _entries(block, layout.offset.unpack_from(block, at + 8)[0], layout)


def _place(at: int, size: int, changed: bytearray, layout: ByteLayout) -> int | None:
    """Position of an entry's value."""
    place = at + 8 if size <= 4 else int(layout.offset.unpack_from(changed, at + 8)[0])
    return place if place + size <= len(changed) else None


def _set_dimension(changed: bytearray, at: int, layout: ByteLayout, value: int) -> None:
    struct.pack_into(layout.order + "HLL", changed, at + 2, ifd.LONG, 1, value)


def _scale_shorts(changed: bytearray, at: int, count: int, layout: ByteLayout, factors: tuple[float, float]) -> None:
    place = _place(at, 2 * count, changed, layout)
    if place is not None:
        values = struct.unpack_from(f"{layout.order}{count}H", changed, place)
        scaled = (min(round(value * factors[index % 2]), 0xFFFF) for index, value in enumerate(values))
        struct.pack_into(f"{layout.order}{count}H", changed, place, *scaled)


def _scale_rational(changed: bytearray, at: int, layout: ByteLayout, factor: float) -> None:
    place = _place(at, 8, changed, layout)
    if place is None:
        return
    top, bottom = struct.unpack_from(layout.order + "LL", changed, place)
    while top * factor >= 2**32 and bottom > 1:
        top, bottom = top / 2, bottom / 2
    if top * factor < 2**32:
        struct.pack_into(layout.order + "LL", changed, place, round(top * factor), max(round(bottom), 1))
