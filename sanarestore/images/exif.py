"""EXIF blocks: TIFF structures that any format can carry, extracted from TIFF files and put back into them."""

import struct

from sanarestore.images import ifd
from sanarestore.images.ifd import ByteLayout, Directory, Entry

_PHOTOGRAPH = frozenset((
    269, 270, 271, 272, 274, 305, 306, 315, 316, 18246, 18249, 32781, 33432, 36867, 36868, 37398,
    40091, 40092, 40093, 40094, 40095, 50341,
    # Exposure and camera, which TIFF/EP (ISO 12234-2) has in the first directory.
    33434, 33437, 34850, 34855, 37377, 37378, 37379, 37380, 37381, 37382, 37383, 37384, 37385, 37386, 37393, 37394,
    37395, 37397, 41492, 50735, 50827,
))  # fmt: skip
"""Tags that describe the photograph: title, camera, dates, author, copyright, rating."""
PAGE = frozenset((285, 286, 287, 297, 321, 337, 343, 344, 345))
"""Tags of the printed page: its name, number and place, halftone hints, target printer, and TIFF's own clipping path.
"""
GEO = frozenset((33550, 33920, 33922, 34264, 34735, 34736, 34737, 42112, 42113, 50844))
"""Tags of GeoTIFF and GDAL, which give the place on Earth."""
TRANSFER, WHITE_POINT, PRIMARIES, REFERENCE_BLACK_WHITE, HALFTONE = 301, 318, 319, 532, 321
COLOUR = frozenset((290, 291, TRANSFER, WHITE_POINT, PRIMARIES, REFERENCE_BLACK_WHITE))
"""Tags that say what colour the values are."""
OF_CODES = frozenset((291, TRANSFER, HALFTONE))
"""Tags with a value for every stored code, or for two."""
DESCRIPTIVE = _PHOTOGRAPH | PAGE | GEO | COLOUR
"""Tags of a TIFF's first directory that describe the photograph and not how its pixels are stored."""

_ORIENTATION = 274
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
RESOLUTION = (X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT)
_MAKER_NOTE = 37500


def parse(block: bytes) -> tuple[ByteLayout, Directory]:
    """The byte order and first directory of a block; the directory is empty if the block is damaged."""
    header = ifd.read_header(block)
    if header is None:
        return ByteLayout("<"), {}
    layout, offset = header
    return layout, ifd.read(block, offset, layout)


def is_block(block: bytes) -> bool:
    """Return whether the bytes begin like a TIFF structure, as every EXIF block must."""
    return ifd.read_header(block) is not None


def build(directory: Directory, layout: ByteLayout) -> bytes:
    """A standalone block with this directory, whose values are in the byte order of `layout`."""
    plain = ByteLayout(layout.order)
    start = len(plain.header) + plain.offset.size
    return plain.header + plain.offset.pack(start) + ifd.pack(directory, start, plain)


def from_tiff(directory: Directory, layout: ByteLayout) -> bytes | None:
    """An EXIF block of the entries in a TIFF's first directory that describe the photograph; None if there are none."""
    descriptive = {tag: entry for tag, entry in directory.items() if tag in DESCRIPTIVE or tag in (ifd.EXIF, ifd.GPS)}
    if not descriptive:
        return None
    return build(descriptive | {tag: directory[tag] for tag in RESOLUTION if tag in directory}, layout)


def for_tiff(block: bytes) -> tuple[ByteLayout, Directory]:
    """The byte order that a TIFF must have to take this block's entries unchanged, and those entries."""
    layout, directory = parse(block)
    kept = {tag: entry for tag, entry in directory.items() if tag in DESCRIPTIVE or tag in (ifd.EXIF, ifd.GPS)}
    if REFERENCE_BLACK_WHITE in kept and _is_of_chroma(kept[REFERENCE_BLACK_WHITE], layout):
        del kept[REFERENCE_BLACK_WHITE]
    return ByteLayout(layout.order), kept


def without(block: bytes, tags: frozenset[int]) -> bytes | None:
    """The block without these tags of its first directory; the block itself if it has none of them."""
    layout, directory = parse(block)
    if not tags & directory.keys():
        return block
    kept = {tag: entry for tag, entry in directory.items() if tag not in tags}
    return build(kept, layout) if kept else None


def _is_of_chroma(entry: Entry, layout: ByteLayout) -> bool:
    """Return whether black and white are those of YCbCr, whose chroma is zero in the middle."""
    values = ifd.value_of(entry.kind, entry.data, layout)
    return len(values) == 6 and values[2] > values[3] / 4


def has_maker_note(directory: Directory) -> bool:
    """Return whether there is a maker note: a private block whose inner offsets only the camera's maker understands."""
    inner = directory[ifd.EXIF].directory if ifd.EXIF in directory else None
    return bool(inner) and _MAKER_NOTE in (inner or {})


def dpi_of(directory: Directory, layout: ByteLayout) -> tuple[float, float] | None:
    """Pixels per inch, horizontal and vertical, from the resolution tags; None if they give none."""
    if X_RESOLUTION not in directory or Y_RESOLUTION not in directory:
        return None
    x, y = (_number(directory[tag], layout) for tag in (X_RESOLUTION, Y_RESOLUTION))
    unit = _number(directory[RESOLUTION_UNIT], layout) if RESOLUTION_UNIT in directory else 2
    scale = {2: 1.0, 3: 2.54}.get(int(unit))
    if scale is None or x <= 0 or y <= 0:
        return None
    return round(x * scale, 2), round(y * scale, 2)


def dpi_of_block(block: bytes | None) -> tuple[float, float] | None:
    """`dpi_of` for the block's first directory; None without a block."""
    if block is None:
        return None
    layout, directory = parse(block)
    return dpi_of(directory, layout)


def orientation_of(block: bytes | None) -> int:
    """Return the orientation in an EXIF block, 1 to 8; 1 if the block has none."""
    if block is None:
        return 1
    layout, directory = parse(block)
    if _ORIENTATION not in directory:
        return 1
    value = int(_number(directory[_ORIENTATION], layout))
    return value if value in range(1, 9) else 1


def resolution_entries(dpi: tuple[float, float], layout: ByteLayout) -> Directory:
    """The three tags that store a resolution in pixels per inch."""
    x, y = (Entry(ifd.RATIONAL, struct.pack(layout.order + "LL", round(value * 100), 100)) for value in dpi)
    return {X_RESOLUTION: x, Y_RESOLUTION: y, RESOLUTION_UNIT: Entry(ifd.SHORT, struct.pack(layout.order + "H", 2))}


def _number(entry: Entry, layout: ByteLayout) -> float:
    return ifd.value_of(entry.kind, entry.data, layout)[0]
