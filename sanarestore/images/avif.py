"""AVIF: pixels by libavif, metadata and orientation from the file's boxes; written with 8 bits."""

import io

import numpy as np

from sanarestore.errors import UnreadableImage, UnwritableImage
from sanarestore.images import exif
from sanarestore.images.boxes import Items, check_still, is_cut, items_of
from sanarestore.images.codes import Stored, spoken
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
from sanarestore.images.image import Image, Metadata, check_size, from_stored, to_stored
from sanarestore.options import WriteOptions

QUALITY = 90
"""Default quality; even 100 is not lossless."""

_SPEED = 8
"""Speed of the encoder: a quarter of the time of Pillow's default, for files 8 percent larger."""
_SUBSAMPLED = 90
"""Quality below which colours are written at half the resolution."""
_LARGEST = 65536
_XMP = b"application/rdf+xml"


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
    return from_stored(stored, format="avif", metadata=metadata, colours=header.colours, notes=(*notes, *more))


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
        icc=items.profile, exif=upright(block), xmp=items.content(data, _XMP), dpi=exif.dpi_of_block(block)
    )
    return with_colours(metadata, items.code_points, is_gray=is_gray)


def set_upright(stored: Stored, items: Items) -> tuple[Stored, tuple[str, ...]]:
    """Turn and mirror the codes as the file says, with a note if that changes them."""
    for name, number in items.turns:
        stored = turned(stored, number, None) if name == b"irot" else turned(stored, 0, number)
    return stored, ("the picture is turned upright",) if items.turns else ()


def check_writable(image: Image) -> None:
    """Raise UnwritableImage if AVIF cannot hold the image, or Pillow has no encoder."""
    from PIL import features

    if not features.check("avif"):
        raise UnwritableImage(
            "this installation of Pillow writes no AVIF", next_step="Install Pillow 11.3 or newer from PyPI."
        )
    if image.depth != "uint8":
        raise UnwritableImage(
            f"AVIF is written with 8 bits, and this image has {spoken(image.depth)}",
            next_step=f"Use --bit-depth 8, or --format {'tiff' if image.depth == 'float32' else 'tiff or png'}.",
        )
    if max(image.height, image.width) > _LARGEST:
        raise UnwritableImage(f"AVIF ends at {_LARGEST} pixels a side", next_step="Use --format tiff or png.")


def encode(image: Image, options: WriteOptions = WriteOptions()) -> bytes:  # noqa: B008 - frozen
    """Encode an AVIF file of 8 bits; UnwritableImage if AVIF cannot hold the image."""
    from PIL import Image as PillowImage

    check_writable(image)
    stored_HWS, metadata = to_stored(image), image.metadata
    quality = options.quality or QUALITY
    subsampling = "4:4:4" if quality >= _SUBSAMPLED else "4:2:0"
    if stored_HWS.shape[2] == 1:
        subsampling = "4:0:0"
    elif stored_HWS.shape[2] == 2:  # Pillow has no gray with alpha here; equal channels are read as gray again
        stored_HWS = np.concatenate([stored_HWS[..., :1]] * 3 + [stored_HWS[..., 1:]], axis=2)
        subsampling = "4:0:0"
    buffer = io.BytesIO()
    held = _stand_in(metadata.exif) if metadata.exif else b""
    PillowImage.fromarray(stored_HWS if stored_HWS.shape[2] > 1 else stored_HWS[..., 0]).save(
        buffer, "AVIF", quality=quality, subsampling=subsampling, speed=_SPEED, icc_profile=metadata.icc or b"",
        exif=held, xmp=metadata.xmp or b"", codec="aom", advanced={"a:lossless": "1"},  # alpha is kept exactly
        # The number of threads and tiles would change the bytes.
        max_threads=1, autotiling=False,
    )  # fmt: skip
    data = buffer.getvalue()
    if not metadata.exif:
        return data
    before, found, after = data.partition(held)
    assert found
    assert held not in after
    return before + metadata.exif + after


def _stand_in(block: bytes) -> bytes:
    """Return an empty EXIF block of the same length, which the real one replaces later: Pillow would rewrite it."""
    filler = b"sanarestore puts EXIF here "
    return (b"II*\0\x08\0\0\0\0\0\0\0\0\0" + filler * (len(block) // len(filler) + 1))[: len(block)]
