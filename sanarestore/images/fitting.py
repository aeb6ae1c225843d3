"""Metadata that tells sizes and places in pixels, fitted to a photograph that is resized."""

import struct
from dataclasses import replace

from sanarestore.images import exif, exif_edit, ifd, resources, xmp
from sanarestore.images.ifd import ByteLayout, Entry
from sanarestore.images.image import Metadata
from sanarestore.images.xml_tree import Name

Size = tuple[int, int]
"""Width and height in pixels."""

_TIFF, _EXIF = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/"
_WIDTHS = (Name(_TIFF, "ImageWidth"), Name(_EXIF, "PixelXDimension"))
_HEIGHTS = (Name(_TIFF, "ImageLength"), Name(_EXIF, "PixelYDimension"))
_ORIENTATION = Name(_TIFF, "Orientation")
_PIXEL_SCALE, _TIE_POINTS, _TRANSFORMATION, _GEO_KEYS, _RATIONAL_MODEL = 33550, 33922, 34264, 34735, 50844
_RASTER_TYPE, _PIXEL_IS_POINT = 1025, 2
_DOUBLE = 12
_PNG_IN_PIXELS = (b"oFFs", b"sCAL", b"vpAg", b"caNv")
_REWRITTEN = "pixel dimensions in the metadata are those of the result"


def fitted(metadata: Metadata, before: Size, after: Size) -> tuple[Metadata, tuple[str, ...]]:
    """The metadata of a photograph that had one size and has another one now, with notes on what was changed.

    Pixel dimensions in EXIF and XMP are rewritten, and so is the place on Earth. What cannot be rewritten is left out.
    """
    if before == after:
        return metadata, ()
    changed, notes = metadata, []
    if metadata.exif:
        block = _geo_fitted(exif_edit.with_size(metadata.exif, before, after), before, after)
        changed = replace(changed, exif=exif.without(block, frozenset((_RATIONAL_MODEL,))))
        if _RATIONAL_MODEL in exif.parse(metadata.exif)[1]:
            notes.append(f"the TIFF tag {_RATIONAL_MODEL} is left out, because it does not fit the new size")
    if metadata.xmp:
        sizes = {name: str(after[0]) for name in _WIDTHS} | {name: str(after[1]) for name in _HEIGHTS}
        changed = replace(changed, xmp=xmp.with_values(metadata.xmp, sizes))
    if (changed.exif, changed.xmp) != (metadata.exif, metadata.xmp):
        notes.insert(0, _REWRITTEN)
    changed, more = _without_places(changed)
    return changed, (*notes, *more)


def upright_metadata(metadata: Metadata, width: int, height: int) -> Metadata:
    """Return the metadata of a photograph that was turned upright, with new pixel dimensions and XMP orientation."""
    if metadata.exif:
        metadata = replace(metadata, exif=exif_edit.with_dimensions(metadata.exif, width, height))
    if metadata.xmp:
        sizes = {name: str(width) for name in _WIDTHS} | {name: str(height) for name in _HEIGHTS}
        metadata = replace(metadata, xmp=xmp.with_values(metadata.xmp, sizes | {_ORIENTATION: "1"}))
    return metadata


def _without_places(metadata: Metadata) -> tuple[Metadata, list[str]]:
    """Leave out places in pixels: guides and slices of Photoshop, offsets in PNG."""
    notes = []
    if {each.number for each in resources.split(metadata.photoshop or b"")} & set(resources.IN_PIXELS):
        metadata = replace(metadata, photoshop=resources.without(metadata.photoshop, resources.IN_PIXELS))
        notes.append("Photoshop's guides and slices are left out, because they do not fit the new size")
    names = sorted({name.decode() for name, _ in metadata.png_chunks if name in _PNG_IN_PIXELS})
    if names:
        kept = tuple(each for each in metadata.png_chunks if each[0] not in _PNG_IN_PIXELS)
        metadata = replace(metadata, png_chunks=kept)
        notes.append(f"PNG's {' and '.join(names)} are left out, because they do not fit the new size")
    return metadata, notes


def _geo_fitted(block: bytes, before: Size, after: Size) -> bytes:
    """The block with GeoTIFF's pixel scale, tie points and transformation for the new size (GeoTIFF 1.1, section 7)."""
    layout, directory = exif.parse(block)
    changes = {_PIXEL_SCALE: _scaled_pixels, _TIE_POINTS: _scaled_points, _TRANSFORMATION: _scaled_transformation}
    new = dict(directory)
    x, y = after[0] / before[0], after[1] / before[1]
    # Where points are pixel centres, pixel 0 has its centre at half a pixel of the image's plane.
    shift = 0.5 if _is_point(directory, layout) else 0.0
    for tag, change in changes.items():
        entry = directory.get(tag)
        if entry is not None and entry.kind == _DOUBLE and entry.data:
            values = list(ifd.value_of(entry.kind, entry.data, layout))
            change(values, x, y, shift)
            new[tag] = Entry(_DOUBLE, struct.pack(f"{layout.order}{len(values)}d", *values))
    return block if new == directory else exif.build(new, layout)


def _scaled_pixels(values: list[float], x: float, y: float, _: float) -> None:
    if len(values) >= 2:
        values[0], values[1] = values[0] / x, values[1] / y


def _scaled_points(values: list[float], x: float, y: float, shift: float) -> None:
    """Tie points are column, row and level of the image, and a place on Earth."""
    for at in range(0, len(values) - 5, 6):
        values[at] = (values[at] + shift) * x - shift
        values[at + 1] = (values[at + 1] + shift) * y - shift


def _scaled_transformation(values: list[float], x: float, y: float, shift: float) -> None:
    """A 4 x 4 matrix, row by row, that takes column, row, level and 1 to a place on Earth."""
    if len(values) != 16:
        return
    for row in range(0, 16, 4):
        across, down = values[row] / x, values[row + 1] / y
        values[row + 3] += shift * (across - values[row] + down - values[row + 1])
        values[row], values[row + 1] = across, down


def _is_point(directory: ifd.Directory, layout: ByteLayout) -> bool:
    """Return whether GeoTIFF's keys say that a pixel is a point, not an area."""
    entry = directory.get(_GEO_KEYS)
    if entry is None or entry.kind != ifd.SHORT:
        return False
    keys = ifd.value_of(entry.kind, entry.data, layout)
    return any(
        keys[at] == _RASTER_TYPE and keys[at + 1] == 0 and keys[at + 3] == _PIXEL_IS_POINT
        for at in range(4, len(keys) - 3, 4)
    )
