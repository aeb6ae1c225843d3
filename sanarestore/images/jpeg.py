"""JPEG: pixels through libjpeg-turbo, metadata segments through `jpeg_segments`."""

import io
import struct
from collections.abc import Iterator
from dataclasses import replace

from sanarestore.errors import UnwritableImage
from sanarestore.images import colour
from sanarestore.images.damage import limited
from sanarestore.images.ifd import Source
from sanarestore.images.image import Image, from_stored, to_stored
from sanarestore.images.jpeg_segments import ROOM, metadata_of, notes_on, segments_with
from sanarestore.images.scans import Frame, Segment, decode_picture, frame_of, spans
from sanarestore.options import WriteOptions

QUALITY = 95
"""JPEG quality, without chroma subsampling: the loss is smaller than what restoring gains."""

_ADOBE = 0xEE
_LARGEST = 65500


def decode(data: bytes, *, accept_damaged: bool = False) -> Image:
    """Decode a JPEG file of gray, RGB or CMYK, of 8 or 12 bits; UnreadableImage for other kinds.

    CMYK becomes sRGB, with an sRGB profile; 12 bits become 16.
    DamagedImage if it is truncated or a part of it cannot be decoded, unless that is accepted: then a note says so.
    """
    segments = list(segments_of(data))
    stored, notes = decode_picture(data, accept_damaged)
    notes += notes_on(segments)
    metadata = metadata_of(segments)
    if stored.ndim == 3 and stored.shape[2] == 4:
        # Adobe's programs store inverted inks, and mark their files.
        is_inverted = any(marker == _ADOBE and body.startswith(b"Adobe") for marker, body in segments)
        pixels_HWC, note = colour.ink_to_rgb(255 - stored if is_inverted else stored, metadata.icc)
        return Image(
            pixels_HWC=pixels_HWC, depth="uint8", format="jpeg", notes=(*notes, note),
            metadata=replace(metadata, icc=colour.srgb_profile()),
        )  # fmt: skip
    return from_stored(stored, format="jpeg", metadata=metadata, notes=tuple(notes))


def header_of(data: Source) -> Frame:
    """Read the frame header; UnreadableImage if the picture is of a kind that is not read."""
    return frame_of(segments_of(data))


def segments_of(data: Source) -> Iterator[Segment]:
    """Markers and bodies up to and including the first scan, of which only the header is given."""
    for marker, start, end in limited(spans(data)):
        yield marker, bytes(data[start + 4 : min(end, start + 4 + ROOM)])


def encode(image: Image, options: WriteOptions = WriteOptions()) -> bytes:  # noqa: B008 - frozen
    """Encode a JPEG file without chroma subsampling; UnwritableImage if JPEG cannot hold the image."""
    from PIL import Image as PillowImage

    check_writable(image)
    stored_HWS = to_stored(image)
    buffer = io.BytesIO()
    picture = PillowImage.fromarray(stored_HWS if stored_HWS.shape[2] == 3 else stored_HWS[..., 0])
    dpi = tuple(min(65535, max(1, round(value))) for value in image.metadata.dpi) if image.metadata.dpi else (0, 0)
    picture.save(buffer, "JPEG", quality=options.quality or QUALITY, subsampling=0, dpi=dpi)
    plain = buffer.getvalue()
    first = 4 + struct.unpack_from(">H", plain, 4)[0]  # after SOI and JFIF
    return plain[:first] + segments_with(image.metadata) + plain[first:]


def check_writable(image: Image) -> None:
    """Raise UnwritableImage if JPEG cannot hold the image's pixels."""
    if image.depth != "uint8":
        raise UnwritableImage(
            f"JPEG holds 8 bits, and this image has {image.depth} values",
            next_step="Write TIFF." if image.depth == "float32" else "Write TIFF or PNG.",
        )
    if image.alpha_HW is not None:
        raise UnwritableImage("JPEG cannot hold an alpha channel", next_step="Write PNG, TIFF or WebP.")
    if max(image.height, image.width) > _LARGEST:
        raise UnwritableImage(f"JPEG ends at {_LARGEST} pixels a side", next_step="Write TIFF or PNG.")
