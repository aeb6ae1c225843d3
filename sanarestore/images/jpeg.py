"""JPEG: pixels through libjpeg-turbo, metadata segments through `jpeg_segments`."""

import io
import struct
from collections.abc import Iterator
from dataclasses import replace

from sanarestore.errors import UnwritableImage
from sanarestore.images import colour
from sanarestore.images.codes import spoken
from sanarestore.images.damage import limited
from sanarestore.images.ifd import Source
from sanarestore.images.image import Image, JpegCoding, from_stored, to_stored
from sanarestore.images.jpeg_segments import ROOM, metadata_of, notes_on, segments_with
from sanarestore.images.quantization import coding_of
from sanarestore.images.scans import Frame, Segment, decode_picture, frame_of, spans
from sanarestore.options import WriteOptions

QUALITY = 95
"""Quality of what was no JPEG before, without chroma subsampling: the loss is smaller than what restoring gains."""

LEAST_QUALITY = 90
"""Lowest quality that is chosen: a lower one would put back the artefacts that were just removed."""

_SUBSAMPLED = 75
"""Quality of a file below which its subsampling is not kept: colours are restored, and worth their full resolution."""

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
            pixels_HWC=pixels_HWC, depth="uint8", format="jpeg", notes=(*notes, note), jpeg=coding_of(segments),
            metadata=replace(metadata, icc=colour.srgb_profile()),
        )  # fmt: skip
    image = from_stored(stored, format="jpeg", metadata=metadata, notes=tuple(notes))
    return replace(image, jpeg=coding_of(segments))


def header_of(data: Source) -> Frame:
    """Read the frame header; UnreadableImage if the picture is of a kind that is not read."""
    return frame_of(segments_of(data))


def segments_of(data: Source) -> Iterator[Segment]:
    """Markers and bodies up to and including the first scan, of which only the header is given."""
    for marker, start, end in limited(spans(data)):
        yield marker, bytes(data[start + 4 : min(end, start + 4 + ROOM)])


def encode(image: Image, options: WriteOptions = WriteOptions()) -> bytes:  # noqa: B008 - frozen
    """Encode a JPEG file in the quality of `coding`; UnwritableImage if JPEG cannot hold the image."""
    from PIL import Image as PillowImage

    check_writable(image)
    stored_HWS = to_stored(image)
    buffer = io.BytesIO()
    picture = PillowImage.fromarray(stored_HWS if stored_HWS.shape[2] == 3 else stored_HWS[..., 0])
    dpi = tuple(min(65535, max(1, round(value))) for value in image.metadata.dpi) if image.metadata.dpi else (0, 0)
    chosen = coding(image, options)
    picture.save(buffer, "JPEG", quality=chosen.quality, subsampling=chosen.subsampling, dpi=dpi)
    plain = buffer.getvalue()
    first = 4 + struct.unpack_from(">H", plain, 4)[0]  # after SOI and JFIF
    return plain[:first] + segments_with(image.metadata) + plain[first:]


def coding(image: Image, options: WriteOptions) -> JpegCoding:
    """Choose the compression of an image: the quality of the options, or the input's raised to `LEAST_QUALITY`.

    Chroma is subsampled as in the input, if that is a JPEG file of good quality. What was no JPEG is subsampled only in
    a quality below `LEAST_QUALITY`, as ImageMagick does.
    """
    own = image.jpeg
    if own is None:
        quality = options.quality or QUALITY
        return JpegCoding(quality=quality, subsampling="4:4:4" if quality >= LEAST_QUALITY else "4:2:0")
    return JpegCoding(
        quality=options.quality or max(own.quality, LEAST_QUALITY),
        subsampling=own.subsampling if own.quality >= _SUBSAMPLED else "4:4:4",
    )


def check_writable(image: Image) -> None:
    """Raise UnwritableImage if JPEG cannot hold the image's pixels."""
    if image.depth != "uint8":
        raise UnwritableImage(
            f"JPEG holds 8 bits, and this image has {spoken(image.depth)}",
            next_step=f"Use --bit-depth 8, or --format {'tiff' if image.depth == 'float32' else 'tiff or png'}.",
        )
    if image.alpha_HW is not None:
        raise UnwritableImage("JPEG cannot hold an alpha channel", next_step="Use --format png, tiff or webp.")
    if max(image.height, image.width) > _LARGEST:
        raise UnwritableImage(f"JPEG ends at {_LARGEST} pixels a side", next_step="Use --format tiff or png.")
