"""TIFF directories (IFDs), the structure of EXIF inside and outside TIFF files, read and written entry by entry.

Values are copied without being interpreted, so that types, text encodings and maker notes stay unchanged. A directory
is therefore written in the byte order in which it was read: nothing has to be swapped.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

EXIF, GPS, INTEROPERABILITY = 34665, 34853, 40965
POINTERS = (EXIF, GPS, INTEROPERABILITY)
"""Tags whose value is the offset of another directory."""

SHORT, LONG, RATIONAL, LONG8 = 3, 4, 5, 16
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_FORMATS = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l", 11: "f", 12: "d", 13: "L", 16: "Q", 17: "q", 18: "Q"}
_OFFSETS = (SHORT, LONG, 13, LONG8, 18)  # types that an offset may have
_DEEPEST = 3  # IFD0, Exif, Interoperability: deeper means a loop


@dataclass(frozen=True, slots=True)
class ByteLayout:
    """Byte order and offset size of a TIFF structure."""

    order: str
    """``<`` or ``>``, as in struct."""
    big: bool = False
    """BigTIFF: eight-byte offsets."""

    @property
    def offset(self) -> struct.Struct:
        """Struct of an offset or of a value field."""
        return struct.Struct(self.order + ("Q" if self.big else "L"))

    @property
    def count(self) -> struct.Struct:
        """Struct of the number of entries, with which a directory begins."""
        return struct.Struct(self.order + ("Q" if self.big else "H"))

    @property
    def entry(self) -> struct.Struct:
        """Struct of an entry: tag, type, number of values, value field."""
        return struct.Struct(self.order + ("HHQ8s" if self.big else "HHL4s"))

    @property
    def header(self) -> bytes:
        """The bytes before the offset of the first directory."""
        mark = b"II" if self.order == "<" else b"MM"
        return mark + (struct.pack(self.order + "HHH", 43, 8, 0) if self.big else struct.pack(self.order + "H", 42))


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag's value: its TIFF type and its bytes in the byte order of its structure, or a directory."""

    kind: int
    data: bytes
    directory: "Directory | None" = None


Directory: TypeAlias = Mapping[int, Entry]


class Source(Protocol):
    """Bytes in memory or in a file, of which slices are taken."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes | memoryview: ...


class EndsEarlyError(Exception):
    """A directory refers to bytes beyond the end of the data."""


def read_header(data: Source) -> tuple[ByteLayout, int] | None:
    """The layout and the offset of the first directory; None if the data is not a TIFF structure."""
    head = bytes(data[:16])
    for layout in (ByteLayout("<"), ByteLayout(">"), ByteLayout("<", big=True), ByteLayout(">", big=True)):
        header = layout.header
        if head.startswith(header) and len(head) >= len(header) + layout.offset.size:
            return layout, layout.offset.unpack_from(head, len(header))[0]
    return None


@dataclass(slots=True)
class _Left:
    """Budget of bytes for reading a structure, because hostile files refer to the same bytes again and again."""

    size: int
    """Bytes that all directories and values together may have: as many as the structure has."""
    begun: set[int]
    """Offsets of directories; each is read once."""
    strict: bool

    def take(self, size: int) -> bool:
        """Use up this many bytes; False, or EndsEarlyError if strict, if fewer are left."""
        if size <= self.size:
            self.size -= size
            return True
        if self.strict:
            raise EndsEarlyError
        return False


def read(data: Source, offset: int, layout: ByteLayout, *, strict: bool = False) -> dict[int, Entry]:
    """Read the directory at `offset`, with the directories that it points to, each of them once.

    Entries that extend beyond `data`, or that together have more bytes than it, are left out, or raise EndsEarlyError
    if `strict`.
    """
    return _read(data, offset, layout, _Left(len(data), set(), strict), 1)


def _read(data: Source, offset: int, layout: ByteLayout, left: _Left, depth: int) -> dict[int, Entry]:
    directory: dict[int, Entry] = {}
    if offset in left.begun:
        return directory
    left.begun.add(offset)
    for tag, kind, value in _entries(data, offset, layout, left):
        if tag in directory:
            continue
        if tag not in POINTERS:
            directory[tag] = Entry(kind, value)
        elif depth < _DEEPEST and kind in _OFFSETS:
            place = int(value_of(kind, value, layout)[0])
            if inner := _read(data, place, layout, left, depth + 1):
                directory[tag] = Entry(LONG, b"", inner)
    return directory


def _entries(data: Source, offset: int, layout: ByteLayout, left: _Left) -> Iterator[tuple[int, int, bytes]]:
    start = offset + layout.count.size
    number = layout.count.unpack(data[offset:start])[0] if start <= len(data) else 0
    fitting = max(len(data) - start, 0) // layout.entry.size
    if left.strict and (number > fitting or start + number * layout.entry.size + layout.offset.size > len(data)):
        raise EndsEarlyError
    number = min(number, fitting)
    if not left.take(number * layout.entry.size):
        return
    table = bytes(data[start : start + number * layout.entry.size])
    for tag, kind, count, field in layout.entry.iter_unpack(table):
        size = count * _SIZES.get(kind, 0)
        if not size:
            continue
        if size <= len(field):
            yield tag, kind, bytes(field[:size])
            continue
        place = layout.offset.unpack(field)[0]
        if place + size > len(data):
            if left.strict:
                raise EndsEarlyError
        elif left.take(size):
            yield tag, kind, bytes(data[place : place + size])


def offsets(data: Source, offset: int, layout: ByteLayout, most: int) -> tuple[list[int], bool]:
    """Offsets of the directories in the chain that begins at `offset`, `most` at the most, and whether it has an end.

    A circular chain is followed once, and ends there.
    """
    found: dict[int, None] = {}
    while offset and offset not in found and len(found) < most:
        if offset + layout.count.size > len(data):
            return list(found), False
        found[offset] = None
        start = offset + layout.count.size
        end = start + layout.count.unpack(data[offset:start])[0] * layout.entry.size
        if end + layout.offset.size > len(data):
            return list(found), False
        offset = layout.offset.unpack(data[end : end + layout.offset.size])[0]
    return list(found), True


def value_of(kind: int, data: bytes, layout: ByteLayout) -> tuple[float, ...]:
    """Numbers of an entry: rationals divided (0 where the denominator is 0), text and undefined bytes as bytes."""
    if kind in (RATIONAL, 10):
        parts = struct.unpack(f"{layout.order}{len(data) // 4}{'L' if kind == RATIONAL else 'l'}", data)
        return tuple(top / bottom if bottom else 0.0 for top, bottom in zip(parts[::2], parts[1::2], strict=True))
    letter = _FORMATS.get(kind, "B")
    return struct.unpack(f"{layout.order}{len(data) // struct.calcsize('=' + letter)}{letter}", data)


def pack(directory: Directory, offset: int, layout: ByteLayout) -> bytes:
    """The bytes of a directory to be placed at `offset` (even), followed by its values and inner directories."""
    table, values = bytearray(layout.count.pack(len(directory))), bytearray()
    behind = offset + layout.count.size + len(directory) * layout.entry.size + layout.offset.size
    for tag, entry in sorted(directory.items()):
        kind, data = entry.kind, entry.data
        count = 1 if entry.directory is not None else len(data) // _SIZES[kind]
        room = layout.offset.size
        if entry.directory is not None:
            kind = LONG8 if layout.big else LONG
            field = layout.offset.pack(behind + len(values))
            values += pack(entry.directory, behind + len(values), layout)
        elif len(data) <= room:
            field = data.ljust(room, b"\0")
        else:
            field = layout.offset.pack(behind + len(values))
            values += data
        values += b"\0" * (len(values) % 2)
        table += layout.entry.pack(tag, kind, count, field)
    return bytes(table) + layout.offset.pack(0) + bytes(values)
