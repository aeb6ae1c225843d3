"""Read JPEG XL: exact pixels by libjxl, metadata from the boxes around the codestream."""

from sanarestore.errors import UnreadableImage
from sanarestore.images import exif
from sanarestore.images.boxes import boxes, is_cut
from sanarestore.images.codes import Stored
from sanarestore.images.damage import cut, hopeless, limited
from sanarestore.images.fitting import upright_metadata
from sanarestore.images.foreign import Foreign, check_shape, exif_of, needs_code_points, scaled, upright, with_colours
from sanarestore.images.ifd import Source
from sanarestore.images.image import Image, Metadata, check_size, from_stored
from sanarestore.images.jxl_header import JxlHeader, parse

_BARE = b"\xff\x0a"
_HEAD = 2048
"""Bytes of a codestream that are searched for its header, which has some ten."""
_MOST_METADATA = 2**24
_SRGB_CURVE = 13
_EXPORT = "Export it as TIFF or PNG."


def decode(data: bytes, *, accept_damaged: bool = False) -> Image:
    """Decode a still JPEG XL file of 1 to 16 bits or float, turned upright; UnreadableImage for an animation.

    DamagedImage if it is truncated or cannot be decoded.
    """
    import imagecodecs
    import numpy as np

    found = _parsed(data)
    header = _checked(found)
    if not data.startswith(_BARE) and is_cut(data):
        raise hopeless("it is truncated: the end of the JPEG XL file is missing")
    check_size(header.height, header.width)
    try:
        stored: Stored = imagecodecs.jpegxl_decode(data, keeporientation=False)
    except MemoryError:
        raise
    except Exception as error:  # the type depends on the library's version
        raise hopeless(f"it is truncated, or its pixels are damaged ({cut(error)})") from error
    check_shape(stored, header)
    notes: tuple[str, ...] = ()
    if header.is_float:
        stored = stored.astype(np.float32)
    else:
        stored, notes = scaled(stored, header.bits)
    if found.orientation > 1:
        notes += ("the picture is turned upright",)
    metadata = with_colours(_metadata(data), (found.primaries, found.transfer), is_gray=found.is_gray)
    metadata = upright_metadata(metadata, header.width, header.height)
    lossless = not found.is_lossy
    return from_stored(
        stored, format="jxl", metadata=metadata, colours=header.colours, bits=header.between, lossless=lossless,
        notes=notes,
    )  # fmt: skip


def header_of(data: Source) -> Foreign:
    """Read the header of the codestream; UnreadableImage if it is of a kind that is not read."""
    return _checked(_parsed(data))


def _parsed(data: Source) -> JxlHeader:
    if bytes(data[:2]) == _BARE:
        return parse(bytes(data[:_HEAD]))
    for box in limited(boxes(data)):
        if box.kind == b"jxlc":
            return parse(bytes(data[box.start : min(box.end, box.start + _HEAD)]))
        if box.kind == b"jxlp":
            return parse(bytes(data[box.start + 4 : min(box.end, box.start + 4 + _HEAD)]))
    raise hopeless("it is truncated: its picture is missing")


def _checked(found: JxlHeader) -> Foreign:
    check_size(found.height, found.width)
    if found.is_animated:
        raise UnreadableImage("it is an animation", next_step="Export the frame that you want to restore.")
    if found.others or found.alphas > 1:
        raise UnreadableImage("it has channels beyond colours and one alpha", next_step=_EXPORT)
    if found.is_associated:
        raise UnreadableImage("its colours are premultiplied by alpha", next_step=_EXPORT)
    if found.bits > 16 and not found.is_float:
        raise UnreadableImage(f"its samples are {found.bits}-bit integer", next_step=_EXPORT)
    width, height = found.width, found.height
    if found.orientation > 4:
        width, height = height, width
    return Foreign(
        width=width, height=height, colours=1 if found.is_gray else 3, has_alpha=found.alphas > 0, bits=found.bits,
        is_float=found.is_float, has_cicp=needs_code_points((found.primaries, found.transfer), is_gray=found.is_gray),
        has_profile=found.transfer != _SRGB_CURVE or found.primaries != 1,
    )  # fmt: skip


def _metadata(data: bytes) -> Metadata:
    """EXIF and XMP from boxes, also from compressed ones."""
    found: dict[bytes, bytes] = {}
    for box in limited(boxes(data)) if not data.startswith(_BARE) else ():
        kind = data[box.start : box.start + 4] if box.kind == b"brob" else box.kind
        if kind in (b"Exif", b"xml ") and box.end - box.start < _MOST_METADATA and kind not in found:
            body = data[box.start : box.end]
            found[kind] = _expanded(body[4:]) if box.kind == b"brob" else body
    block = upright(exif_of(found.get(b"Exif", b"")))
    return Metadata(exif=block, xmp=found.get(b"xml ") or None, dpi=exif.dpi_of_block(block))


def _expanded(packed: bytes) -> bytes:
    """The content of a box that is compressed with Brotli; empty if it is damaged or unreasonably large."""
    import imagecodecs

    try:
        return bytes(imagecodecs.brotli_decode(packed, out=_MOST_METADATA))
    except MemoryError:
        raise
    except Exception:  # the type depends on the library's version
        return b""
