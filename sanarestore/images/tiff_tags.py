"""Metadata tags of TIFF files: taken from the first directory, and put into it."""

import struct

from sanarestore.images import exif, ifd, resources
from sanarestore.images.ifd import ByteLayout, Directory, Entry
from sanarestore.images.image import Metadata

_XMP, _IPTC, _ICC, _PHOTOSHOP, _LAYERS, _SUBDIRECTORIES = 700, 33723, 34675, 34377, 37724, 330
_BITS, _PHOTOMETRIC = 258, 262
_STORAGE = frozenset((
    254, 255, *range(256, 260), 262, 263, 264, 265, 266, 273, *range(277, 282), 282, 283, 284, 288, 289, 292, 293,
    296, 317, 320, *range(322, 328), 332, 333, 334, 336, 338, 339, 340, 341, 347, *range(512, 522), 529, 530, 531,
    32996, 32997, 32998, 34665, 34853, 59932, *exif.RESOLUTION,
))  # fmt: skip
"""Tags that say how the pixels of a page are stored, and padding."""
SHARED = exif.DESCRIPTIVE - {274} | {ifd.EXIF, ifd.GPS, _XMP, _IPTC, _PHOTOSHOP}
"""Tags of a first page that is a thumbnail, which speak of the whole file."""
_OWN = frozenset((_XMP, _IPTC, _ICC, _PHOTOSHOP, _LAYERS, _SUBDIRECTORIES))


def metadata_of(directory: Directory, layout: ByteLayout) -> Metadata:
    """The metadata in a page's directory."""

    def block(tag: int) -> bytes | None:
        return directory[tag].data or None if tag in directory else None

    photoshop = block(_PHOTOSHOP)
    records = _unswapped(directory[_IPTC]) if _IPTC in directory else None
    unfit = _unfit(directory, layout)
    return Metadata(
        icc=block(_ICC),
        exif=exif.from_tiff({tag: entry for tag, entry in directory.items() if tag not in unfit}, layout),
        xmp=block(_XMP),
        iptc=records or resources.iptc_of(photoshop or b""),
        photoshop=resources.without(photoshop, (resources.IPTC,)),
        dpi=exif.dpi_of(directory, layout),
    )


def notes_on(directory: Directory, layout: ByteLayout) -> list[str]:
    """Notes on those of a page's tags that are left out."""
    notes = []
    if _LAYERS in directory:
        notes.append("Photoshop's layers are left out, because they hold the photograph before restoring")
    inner = resources.iptc_of(directory[_PHOTOSHOP].data) if _PHOTOSHOP in directory else None
    if inner and _IPTC in directory and _unswapped(directory[_IPTC]).rstrip(b"\0") != inner.rstrip(b"\0"):
        notes.append("IPTC records in Photoshop's block are left out, because the file has others in their own place")
    if _SUBDIRECTORIES in directory:
        notes.append("pictures of other sizes inside the page are left out, because they show it before restoring")
    if unfit := _unfit(directory, layout) - {exif.REFERENCE_BLACK_WHITE}:
        notes.append(f"{named(unfit)} left out, because the stored values were converted")
    kept = exif.DESCRIPTIVE | _OWN | _STORAGE
    if unknown := directory.keys() - kept:
        notes.append(f"{named(unknown)} left out, because it is not known if that still fits")
    return notes


def named(tags: "set[int] | frozenset[int]") -> str:
    """The tags as the subject of a sentence, with its verb."""
    numbers = ", ".join(map(str, sorted(tags)[:8])) + (" and more" if len(tags) > 8 else "")
    return f"the TIFF tag{'s' if len(tags) > 1 else ''} {numbers} {'are' if len(tags) > 1 else 'is'}"


def _unfit(directory: Directory, layout: ByteLayout) -> set[int]:
    """Tags about stored values that do not fit the values that are written."""
    photometric, bits = _first(directory, _PHOTOMETRIC, layout, 1), _first(directory, _BITS, layout, 1)
    gone = set()
    if photometric != 2:
        gone.add(exif.REFERENCE_BLACK_WHITE)  # of YCbCr it tells how that was converted to RGB
    if photometric in (0, 3) or bits < 8:
        gone |= exif.OF_CODES
    if photometric not in (2, 3, 6):
        gone.add(exif.PRIMARIES)
    return gone & directory.keys()


def _first(directory: Directory, tag: int, layout: ByteLayout, default: int) -> int:
    entry = directory.get(tag)
    if entry is None or entry.kind not in (1, ifd.SHORT, ifd.LONG) or not entry.data:
        return default
    return int(ifd.value_of(entry.kind, entry.data, layout)[0])


def _unswapped(entry: Entry) -> bytes:
    """IPTC records, which begin with 0x1C; the byte swap of some writers that store them as LONG is undone."""
    data = entry.data
    if entry.kind == ifd.LONG and data[:1] != b"\x1c" and data[3:4] == b"\x1c":
        return struct.pack(f">{len(data) // 4}L", *struct.unpack(f"<{len(data) // 4}L", data))
    return data


def unknown_of(block: bytes) -> frozenset[int]:
    """Tags of an EXIF block's first directory of which it is not known whether they fit a TIFF file."""
    _, directory = exif.parse(block)
    return frozenset(directory.keys() - exif.DESCRIPTIVE - _STORAGE)


def size_of(metadata: Metadata) -> int:
    """Bytes of all blocks."""
    blocks = (metadata.icc, metadata.exif, metadata.xmp, metadata.iptc, metadata.photoshop)
    return sum(len(block or b"") for block in blocks)


def entries_of(metadata: Metadata, layout: ByteLayout) -> Directory:
    """The tags that hold the metadata, apart from those that an EXIF block gives."""
    entries: dict[int, Entry] = {}
    for tag, kind, block in (
        (_ICC, 7, metadata.icc), (_XMP, 1, metadata.xmp), (_IPTC, 7, metadata.iptc),
        (_PHOTOSHOP, 7, metadata.photoshop),
    ):  # fmt: skip
        if block:
            entries[tag] = Entry(kind, block)
    if metadata.dpi:
        entries.update(exif.resolution_entries(metadata.dpi, layout))
    return entries
