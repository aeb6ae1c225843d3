"""Boxes of the ISO base media file format, of which AVIF, HEIF, JPEG XL and JPEG 2000 files consist, and HEIF's items.

Sources: ISO/IEC 14496-12 (boxes, items, tracks) and ISO/IEC 23008-12 (properties of images).
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from sanarestore.errors import UnreadableImage
from sanarestore.images.damage import hopeless, limited
from sanarestore.images.ifd import Source

_MOST_META = 2**24
"""Most bytes of a box of properties; real ones have some thousand."""
_MOST_METADATA = 2**26
_TRACKS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0", b"urn:mpeg:hevc:2015:auxid:1\0")


@dataclass(frozen=True, slots=True)
class Box:
    """A box: its type, and the bounds of its body."""

    kind: bytes
    start: int
    end: int
    is_whole: bool
    """Whether the file reaches to its end."""


def boxes(data: Source, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """The boxes in a part of a file, one after the other."""
    at, stop = start, len(data) if end is None else end
    while at + 8 <= stop:
        head = bytes(data[at : at + 16])
        size, body = int.from_bytes(head[:4], "big"), at + 8
        if size == 1 and len(head) == 16:
            size, body = int.from_bytes(head[8:], "big"), at + 16
        elif size == 0:
            size = stop - at
        if size < body - at:
            return
        yield Box(head[4:8], body, min(at + size, stop), at + size <= stop)
        at += size


def boxed(kind: bytes, body: bytes) -> bytes:
    """A box of a type with a body."""
    size = 8 + len(body)
    if size < 2**32:
        return size.to_bytes(4, "big") + kind + body
    return (1).to_bytes(4, "big") + kind + (size + 8).to_bytes(8, "big") + body


def find(data: Source, kind: bytes, start: int = 0, end: int | None = None) -> Box | None:
    """The first box of a type in a part of a file."""
    return next((box for box in limited(boxes(data, start, end)) if box.kind == kind), None)


def is_cut(data: Source) -> bool:
    """Return whether the last box of the file extends beyond its end, or the file ends in the head of one."""
    last = next(iter(deque(limited(boxes(data)), maxlen=1)), None)
    return last is None or not last.is_whole or (last.end < len(data) and len(data) - last.end < 8)


def count_frames(data: Source) -> int:
    """Number of frames of the longest track; 0 if there are no tracks."""
    movie = find(data, b"moov")
    most = 0
    for track in limited(boxes(data, movie.start, movie.end)) if movie else ():
        inner: Box | None = track if track.kind == b"trak" else None
        for kind in _TRACKS[2:]:
            inner = find(data, kind, inner.start, inner.end) if inner else None
        sizes = find(data, b"stsz", inner.start, inner.end) if inner else None
        if sizes:
            most = max(most, int.from_bytes(data[sizes.start + 8 : sizes.start + 12], "big"))
    return most


def check_still(data: Source) -> None:
    """Raise UnreadableImage for an image sequence, with the number of its frames."""
    frames = count_frames(data)
    if frames > 1:
        raise UnreadableImage(
            f"it is an animation of {frames} frames", next_step="Export the frame that you want to restore."
        )


@dataclass(slots=True)
class Items:
    """The items of a HEIF or AVIF file, and the properties of its main image."""

    primary: int = 0
    kinds: dict[int, bytes] = field(default_factory=dict)
    """Types of the items; a MIME item's type is its content type."""
    places: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """Bounds of the parts of the items in the file."""
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    """All properties: type and body."""
    of_item: dict[int, list[int]] = field(default_factory=dict)
    """Numbers of properties, from 1 on, of each item in order."""
    references: list[tuple[bytes, int, int]] = field(default_factory=list)
    """Type, item, and the item that it refers to."""

    @property
    def main(self) -> list[tuple[bytes, bytes]]:
        """Properties of the main image, in order."""
        numbers = self.of_item.get(self.primary, [])
        return [self.properties[number - 1] for number in numbers if 0 < number <= len(self.properties)]

    def first(self, kind: bytes, length: int = 0) -> bytes | None:
        """The body of the main image's first property of a type, if it has so many bytes."""
        return next((body for name, body in self.main if name == kind and len(body) >= length), None)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the main image as it is coded; DamagedImage if the file does not say them."""
        body = self.first(b"ispe", 12)
        if body is None:
            raise hopeless("the size of its main picture is missing")
        return int.from_bytes(body[4:8], "big"), int.from_bytes(body[8:12], "big")

    @property
    def turns(self) -> list[tuple[bytes, int]]:
        """`irot` with quarter turns anticlockwise, and `imir` with 0 (top and bottom) or 1, in order."""
        return [(name, body[0] & (3 if name == b"irot" else 1)) for name, body in self.main
                if name in (b"irot", b"imir") and body]  # fmt: skip

    @property
    def is_sideways(self) -> bool:
        """Whether turning swaps width and height."""
        return sum(number for name, number in self.turns if name == b"irot") % 2 == 1

    @property
    def has_alpha(self) -> bool:
        """Whether another item is the main image's alpha channel."""
        return any(body[4:].startswith(_ALPHA) for body in self._auxiliaries)

    @property
    def has_others(self) -> bool:
        """Whether there are pictures that say more of the main image: a gain map, or a depth map."""
        return b"tmap" in self.kinds.values() or not all(body[4:].startswith(_ALPHA) for body in self._auxiliaries)

    @property
    def _auxiliaries(self) -> list[bytes]:
        """Return the kinds of the pictures that belong to the main image: bodies of `auxC`."""
        items = [one for kind, one, other in self.references if kind == b"auxl" and other == self.primary]
        numbers = [number for item in items for number in self.of_item.get(item, [])]
        found = [self.properties[number - 1] for number in numbers if 0 < number <= len(self.properties)]
        return [body for name, body in found if name == b"auxC"]

    @property
    def profile(self) -> bytes | None:
        """The main image's ICC profile."""
        bodies = (body for name, body in self.main if name == b"colr")
        return next((body[4:] for body in bodies if body[:4] in (b"prof", b"rICC") and len(body) > 4), None)

    @property
    def code_points(self) -> tuple[int, int]:
        """Colour primaries and transfer characteristics of the main image; 2 where they are not given."""
        bodies = (body for name, body in self.main if name == b"colr")
        body = next((body for body in bodies if body[:4] == b"nclx" and len(body) >= 8), None)
        if body is None:
            return 2, 2
        return int.from_bytes(body[4:6], "big") & 255, int.from_bytes(body[6:8], "big") & 255

    def content(self, data: Source, kind: bytes) -> bytes | None:
        """The bytes of the first item of a type that describes the main image; None if there is none."""
        about = {one for name, one, other in self.references if name == b"cdsc" and other == self.primary}
        for item, name in self.kinds.items():
            if name == kind and (item in about or not about):
                parts = self.places.get(item, [])
                if sum(end - start for start, end in parts) > _MOST_METADATA:
                    return None
                return b"".join(bytes(data[start:end]) for start, end in parts) or None
        return None


def items_of(data: Source) -> Items:
    """Read the items of a file; DamagedImage if they are missing."""
    box = find(data, b"meta")
    if box is None or box.end - box.start > _MOST_META:
        raise hopeless("it is truncated, or the list of its pictures is damaged")
    meta, items = bytes(data[box.start : box.end]), Items()
    store = 0
    for inner in limited(boxes(meta, 4)):
        body = meta[inner.start : inner.end]
        if inner.kind == b"pitm":
            items.primary = int.from_bytes(body[4:] if body[:1] == b"\1" else body[4:6], "big")
        elif inner.kind == b"iinf":
            items.kinds = dict(_kinds(body))
        elif inner.kind == b"idat":
            store = box.start + inner.start
        elif inner.kind == b"iref":
            items.references = list(_references(body))
        elif inner.kind == b"iprp":
            _add_properties(items, body)
    # Places may lie in the store, which may come later.
    location = find(meta, b"iloc", 4)
    if location is not None:
        items.places = dict(_places(_Numbers(meta[location.start : location.end]), store, len(data)))
    return items


class _Numbers:
    """Big-endian numbers of a body, one after the other; 0 beyond its end."""

    def __init__(self, body: bytes) -> None:
        self.body, self.at = body, 0

    def __call__(self, size: int) -> int:
        value = int.from_bytes(self.body[self.at : self.at + size], "big")
        self.at += size
        return value

    def is_over(self) -> bool:
        """Return whether all bytes are read."""
        return self.at >= len(self.body)


def _kinds(body: bytes) -> Iterator[tuple[int, bytes]]:
    start = 6 if body[:1] == b"\0" else 8
    for box in limited(boxes(body, start)):
        entry = body[box.start : box.end]
        if box.kind != b"infe" or entry[:1] not in (b"\2", b"\3"):
            continue
        wide = 4 if entry[:1] == b"\3" else 2
        number, kind, rest = int.from_bytes(entry[4 : 4 + wide], "big"), entry[6 + wide : 10 + wide], entry[10 + wide :]
        yield number, rest.split(b"\0")[1] if kind == b"mime" and rest.count(b"\0") else kind


def _places(read: _Numbers, store: int, size: int) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    version = read(1)
    read(3)
    sizes = read(2)
    offset, length, base, index = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15, sizes & 15 if version in (1, 2) else 0
    wide = 4 if version == 2 else 2
    for _ in range(read(wide)):
        if read.is_over():
            return
        item = read(wide)
        method = read(2) & 15 if version in (1, 2) else 0
        read(2)
        first = read(base) + (store if method == 1 else 0)
        parts = []
        for _ in range(read(2)):
            if read.is_over():
                return
            read(index)
            start = first + read(offset)
            parts.append((start, min(start + read(length), size)))
        if method < 2:
            yield item, parts


def _references(body: bytes) -> Iterator[tuple[bytes, int, int]]:
    wide = 4 if body[:1] == b"\1" else 2
    for box in limited(boxes(body, 4)):
        read = _Numbers(body[box.start : box.end])
        one = read(wide)
        for _ in range(read(2)):
            if read.is_over():
                break
            yield box.kind, one, read(wide)


def _add_properties(items: Items, body: bytes) -> None:
    for box in limited(boxes(body)):
        if box.kind == b"ipco":
            items.properties = [
                (each.kind, body[each.start : each.end]) for each in limited(boxes(body, box.start, box.end))
            ]
        elif box.kind == b"ipma":
            read = _Numbers(body[box.start : box.end])
            version, flags = read(1), read(3)
            for _ in range(read(4)):
                if read.is_over():
                    break
                item = read(4 if version else 2)
                numbers = items.of_item.setdefault(item, [])
                for _ in range(read(1)):
                    numbers.append(read(2) & 0x7FFF if flags & 1 else read(1) & 0x7F)
