"""AVIF, read: pixels through libavif, metadata and the turn of the picture from the file's boxes."""

from sanarestore.errors import UnreadableImage
from sanarestore.images import exif
from sanarestore.images.boxes import Items, check_still, is_cut, items_of
from sanarestore.images.codes import Stored
from sanarestore.images.damage import cut, hopeless
from sanarestore.images.fitting import upright_metadata
from sanarestore.images.foreign import (
    Foreign,
    check_shape,
    exif_of,
    needs_code_points,
    scaled,
    turned,
    upright,
    with_colours,
)
from sanarestore.images.ifd import Source
from sanarestore.images.image import Image, Metadata, check_size, from_stored

XMP = b"application/rdf+xml"
"""Content type of the item with the XMP packet."""


def decode(data: bytes, *, accept_damaged: bool = False) -> Image:
    """Decode a still AVIF file of 8, 10 or 12 bits, turned upright; UnreadableImage for an animation.

    DamagedImage if it is truncated or cannot be decoded: libavif decodes nothing of a part.
    """
    import imagecodecs

    header, items = header_of(data), items_of(data)
    if is_cut(data):
        raise hopeless("it is truncated: the end of the AVIF file is missing")
    check_size(*reversed(items.size))
    try:
        stored: Stored = imagecodecs.avif_decode(data, index=0)
    except MemoryError:
        raise
    except Exception as error:  # the type depends on the library's version
        raise hopeless(f"its pixels cannot be decoded ({cut(error)})") from error
    stored, notes = scaled(stored, header.bits)
    stored, more = set_upright(stored, items)
    check_shape(stored, header)
    if items.has_others:
        more = (*more, "only the main picture is used; gain map and depth map are left out")
    metadata = metadata_of(data, items, is_gray=header.colours == 1)
    metadata = upright_metadata(metadata, header.width, header.height)
    return from_stored(
        stored, format="avif", metadata=metadata, colours=header.colours, bits=header.between, notes=(*notes, *more)
    )


def header_of(data: Source) -> Foreign:
    """Read the properties of the main picture; UnreadableImage if there is none, or it is an animation."""
    check_still(data)
    items = items_of(data)
    width, height = items.size
    if items.is_sideways:
        width, height = height, width
    coded, planes = items.first(b"av1C", 4), items.first(b"pixi", 6)
    if coded is not None:
        flags = coded[2]
        bits = 12 if flags & 0x60 == 0x60 else 10 if flags & 0x40 else 8
        is_gray = flags & 0x10 > 0
    elif planes is not None:
        bits, is_gray = planes[5], planes[4] == 1
    else:
        raise hopeless("the bit depth of its main picture is missing")
    if bits not in (8, 10, 12):
        raise UnreadableImage(f"its values have {bits} bits", next_step="Export it as TIFF or PNG.")
    return Foreign(
        width=width, height=height, colours=1 if is_gray else 3, has_alpha=items.has_alpha, bits=bits,
        has_cicp=items.profile is None and needs_code_points(items.code_points, is_gray=is_gray),
    )  # fmt: skip


def metadata_of(data: Source, items: Items, *, is_gray: bool) -> Metadata:
    """The main picture's profile or code points, EXIF and XMP; the EXIF orientation is that of upright pixels."""
    block = exif_of(items.content(data, b"Exif") or b"")
    metadata = Metadata(
        icc=items.profile, exif=upright(block), xmp=items.content(data, XMP), dpi=exif.dpi_of_block(block)
    )
    return with_colours(metadata, items.code_points, is_gray=is_gray)


def set_upright(stored: Stored, items: Items) -> tuple[Stored, tuple[str, ...]]:
    """Turn and mirror the codes as the file says, with a note if that changes them."""
    for name, number in items.turns:
        stored = turned(stored, number, None) if name == b"irot" else turned(stored, 0, number)
    return stored, ("the picture is turned upright",) if items.turns else ()
