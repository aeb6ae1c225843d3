"""Metadata tags of TIFF files: taken from the first directory, and put into it."""

import struct

from sanarestore.images import exif, ifd
from sanarestore.images.ifd import ByteLayout, Entry
from sanarestore.images.image import Metadata

_XMP, _IPTC, _ICC = 700, 33723, 34675


def metadata_of(directory: ifd.Directory, layout: ByteLayout) -> Metadata:
    """The metadata in a page's directory."""

    def block(tag: int) -> bytes | None:
        return directory[tag].data if tag in directory else None

    return Metadata(
        icc=block(_ICC),
        exif=exif.from_tiff(directory, layout),
        xmp=block(_XMP),
        iptc=_unswapped(directory[_IPTC]) if _IPTC in directory else None,
        dpi=exif.dpi_of(directory, layout),
    )


def _unswapped(entry: Entry) -> bytes:
    """IPTC records, which begin with 0x1C; the byte swap of some writers that store them as LONG is undone."""
    data = entry.data
    if entry.kind == ifd.LONG and data[:1] != b"\x1c" and data[3:4] == b"\x1c":
        return struct.pack(f">{len(data) // 4}L", *struct.unpack(f"<{len(data) // 4}L", data))
    return data


def size_of(metadata: Metadata) -> int:
    """Bytes of all blocks."""
    return sum(len(block or b"") for block in (metadata.icc, metadata.exif, metadata.xmp, metadata.iptc))


def entries_of(metadata: Metadata, layout: ByteLayout) -> ifd.Directory:
    """The tags that hold the metadata, apart from those that an EXIF block gives."""
    entries: dict[int, Entry] = {}
    for tag, kind, block in ((_ICC, 7, metadata.icc), (_XMP, 1, metadata.xmp), (_IPTC, 7, metadata.iptc)):
        if block:
            entries[tag] = Entry(kind, block)
    if metadata.dpi:
        entries.update(exif.resolution_entries(metadata.dpi, layout))
    return entries
