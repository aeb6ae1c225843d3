"""JPEG: pixels through libjpeg-turbo, metadata through our own code for segments."""

import io
import struct
from collections.abc import Iterator
from dataclasses import replace

from sanarestore.errors import UnwritableImage
from sanarestore.images import exif, resources
from sanarestore.images.codes import spoken
from sanarestore.images.damage import limited
from sanarestore.images.ifd import Source
from sanarestore.images.image import Image, JpegCoding, Metadata, from_stored, to_stored
from sanarestore.images.quantization import coding_of
from sanarestore.images.scans import Frame, Segment, decode_picture, frame_of, spans
from sanarestore.options import WriteOptions

QUALITY = 95
"""Quality of what was no JPEG before, without chroma subsampling: the loss is smaller than what restoring gains."""

LEAST_QUALITY = 90
"""Lowest quality that is chosen: a lower one would put back the artefacts that were just removed."""

_SUBSAMPLED = 75
"""Quality of a file below which its subsampling is not kept: colours are restored, and worth their full resolution."""

_EXIF, _XMP, _EXTENDED = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
_ICC, _PHOTOSHOP, _JFIF, _PICTURES = b"ICC_PROFILE\0", b"Photoshop 3.0\0", b"JFIF\0", b"MPF\0"
_APP0, _APP1, _APP2, _APP13 = 0xE0, 0xE1, 0xE2, 0xED
_ROOM = 65533
"""Most bytes that the body of one segment holds."""
_LARGEST = 65500


def decode(data: bytes, *, accept_damaged: bool = False) -> Image:
    """Decode a JPEG file of 8-bit gray or RGB; UnreadableImage for other kinds.

    DamagedImage if it is truncated or a part of it cannot be decoded, unless that is accepted: then a note says so.
    """
    segments = list(segments_of(data))
    stored, notes = decode_picture(data, accept_damaged)
    if any(body.startswith(_EXTENDED) for _, body in segments):
        notes.append("the extended part of the XMP packet is left out")
    if any(marker == _APP2 and body.startswith(_PICTURES) for marker, body in segments):
        notes.append("only the main picture is used; gain map or preview pictures are left out")
    image = from_stored(stored, format="jpeg", metadata=_metadata(segments), notes=tuple(notes))
    return replace(image, jpeg=coding_of(segments))


def header_of(data: Source) -> Frame:
    """Read the frame header; UnreadableImage if the picture is of a kind that is not read."""
    return frame_of(segments_of(data))


def segments_of(data: Source) -> Iterator[Segment]:
    """Markers and bodies up to and including the first scan, of which only the header is given."""
    for marker, start, end in limited(spans(data)):
        yield marker, bytes(data[start + 4 : min(end, start + 4 + _ROOM)])


def _metadata(segments: list[Segment]) -> Metadata:
    def bodies(marker: int, mark: bytes) -> list[bytes]:
        return [body[len(mark) :] for number, body in segments if number == marker and body.startswith(mark)]

    block = next((body for body in bodies(_APP1, _EXIF) if exif.is_block(body)), None)
    profile = b"".join(part[2:] for part in sorted(bodies(_APP2, _ICC)))
    density = next((_density(body) for body in bodies(_APP0, _JFIF)), None)
    return Metadata(
        icc=profile or None,
        exif=block,
        xmp=next(iter(bodies(_APP1, _XMP)), None),
        iptc=resources.iptc_of(b"".join(bodies(_APP13, _PHOTOSHOP))),
        dpi=density or exif.dpi_of_block(block),
    )


def _density(jfif: bytes) -> tuple[float, float] | None:
    """Pixels per inch from the body of a JFIF segment, after its identifier; None if it gives only an aspect ratio."""
    if len(jfif) < 7:
        return None
    unit, x, y = struct.unpack(">BHH", jfif[2:7])
    if unit not in (1, 2) or not x or not y:
        return None
    scale = 2.54 if unit == 2 else 1.0
    return round(x * scale, 2), round(y * scale, 2)


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
    return plain[:first] + _metadata_segments(image.metadata) + plain[first:]


def coding(image: Image, options: WriteOptions) -> JpegCoding:
    """How an image is compressed: in the quality that is asked for, or that of the input, but `LEAST_QUALITY` at least.

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


def _metadata_segments(metadata: Metadata) -> bytes:
    segments = b""
    if metadata.exif:
        segments += _segment(_APP1, _EXIF + metadata.exif, "EXIF block")
    if metadata.xmp:
        segments += _segment(_APP1, _XMP + metadata.xmp, "XMP packet")
    if metadata.icc:
        size = _ROOM - len(_ICC) - 2
        parts = [metadata.icc[start : start + size] for start in range(0, len(metadata.icc), size)]
        if len(parts) > 255:
            raise UnwritableImage("the ICC profile is too large for JPEG", next_step="Write TIFF or PNG.")
        for number, part in enumerate(parts, start=1):
            segments += _segment(_APP2, _ICC + bytes((number, len(parts))) + part, "ICC profile")
    if metadata.iptc:
        segments += _segment(_APP13, _PHOTOSHOP + resources.with_iptc(metadata.iptc), "IPTC block")
    return segments


def _segment(marker: int, body: bytes, what: str) -> bytes:
    if len(body) > _ROOM:
        raise UnwritableImage(
            f"the {what} of {len(body)} bytes is larger than the {_ROOM} that JPEG holds",
            next_step="Write TIFF or PNG.",
        )
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
